"""The one way from a request of either protocol to its answer."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from zoo.serving.failure import Failure, failure_of, invalid, quoted
from zoo.serving.registry import Registry
from zoo.serving.signatures import Signature, chosen
from zoo.serving.versions import nobody_left


@dataclass(frozen=True)
class Target:
    """What a request asks.

    Args:
        model: its name.
        version: a version's number; `None` for the highest.
        label: a version's label instead.
        signature: a signature's name; empty for the default.
    """

    model: str
    version: int | None = None
    label: str = ""
    signature: str = ""


@dataclass(frozen=True)
class Answer:
    """What a version said.

    Args:
        version: its number.
        signature: what was asked.
        outputs: an array for each output.
    """

    version: int
    signature: Signature
    outputs: dict[str, np.ndarray]


@dataclass(frozen=True)
class Admitted:
    """A request that may be run.

    Args:
        version: the number of the version that it asks.
        loaded: that version, a `zoo.serving.versions.Loaded`.
        signature: what is asked.
        given: an array for each of its inputs, checked.
        rows: how many.
        wanted: keys of outputs; all, if there are none.
        alone: whether no others are there to share a batch with.
    """

    version: int
    loaded: Any
    signature: Signature
    given: dict[str, np.ndarray]
    rows: int
    wanted: Collection[str]
    alone: bool

    def run(self, go_on: Callable[[], None] = nobody_left) -> dict[str, np.ndarray]:
        """Runs it; argument, result and errors as of `zoo.serving.versions.Loaded.run`."""
        return self.loaded.run(self.signature, self.given, self.wanted, go_on, self.alone)


class Queue:
    """Counts the rows that wait or run, and turns away what would be too many.

    Args:
        limit: how many may.

    Example:
        >>> with Queue(2).admitted(3):
        ...     pass
        Traceback (most recent call last):
            ...
        zoo.serving.failure.Failure: a request may have 2 rows, not 3
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.rows = 0
        # Whether what came last found others, in this spell of work or, if it began one, the last.
        self._company = False
        self._lock = threading.Lock()

    @contextmanager
    def admitted(self, rows: int) -> Iterator[bool]:
        """Counts rows in, and out when they are done.

        Yields:
            Whether to wait for company would be in vain: there are no others, nor were there any
            when rows last were here.

        Raises:
            Failure: at once, if there is no room for them.
        """
        if rows > self.limit:
            raise invalid(f"a request may have {self.limit} rows, not {rows}")
        with self._lock:
            if self.rows + rows > self.limit:
                message = f"the queue is full: {self.rows} of {self.limit} rows wait"
                raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
            alone = not (self.rows or self._company)
            self._company = self.rows > 0
            self.rows += rows
        try:
            yield alone
        finally:
            with self._lock:
                self.rows -= rows


class Predictor:
    """Answers requests.

    Args:
        registry: the models.
        queue: how many rows may wait.
    """

    def __init__(self, registry: Registry, queue: Queue) -> None:
        self.registry = registry
        self.queue = queue

    def predict(
        self,
        target: Target,
        read: Callable[[Signature], dict[str, np.ndarray]],
        wanted: Collection[str] = (),
        method: str | None = None,
        go_on: Callable[[], None] = nobody_left,
    ) -> Answer:
        """Runs a signature of a version on what a request holds.

        Args:
            target: which.
            read: the request's arrays, given the signature that they are for.
            wanted: keys of outputs; all, if there are none.
            method: what the signature must be for, as TensorFlow Serving names it.
            go_on: called before each batch; raises if nobody waits for the answer any more.

        Raises:
            Failure: whatever goes wrong.
        """
        with self.admitted(target, read, wanted, method) as asked:
            return Answer(asked.version, asked.signature, asked.run(go_on))

    @contextmanager
    def admitted(
        self,
        target: Target,
        read: Callable[[Signature], dict[str, np.ndarray]],
        wanted: Collection[str] = (),
        method: str | None = None,
    ) -> Iterator[Admitted]:
        """A request that may be run, as long as it is; arguments as for `predict`.

        Raises:
            Failure: whatever goes wrong, in the caller's part as well.
        """
        try:
            with self.registry.lease(target.model, target.version, target.label) as version:
                loaded: Any = version.loaded
                signature = chosen(loaded.signatures, target.signature)
                _check(signature, method, wanted)
                given = read(signature)
                rows = signature.check(given)
                with self.queue.admitted(rows) as alone:
                    number = version.number
                    yield Admitted(number, loaded, signature, given, rows, wanted, alone)
        except Failure:
            raise
        except Exception as error:  # a caller is told in its protocol, whatever it was
            raise failure_of(error) from error

    def definitions(self, target: Target) -> tuple[int, dict[str, Any]]:
        """A version's number and its signatures as TensorFlow's protocol buffers.

        Raises:
            Failure: if there is no such version.
        """
        with self.registry.lease(target.model, target.version, target.label) as version:
            loaded: Any = version.loaded
            return version.number, loaded.definitions


def _check(signature: Signature, method: str | None, wanted: Collection[str]) -> None:
    if method is not None and signature.method != method:
        raise invalid(
            f"signature {quoted(signature.name)} is not for {method} but for {signature.method}"
        )
    unknown = sorted(set(wanted) - signature.outputs.keys())
    if unknown:
        known = ", ".join(map(quoted, sorted(signature.outputs)))
        raise invalid(f"no output is named {quoted(unknown[0])}. Known: {known}")
