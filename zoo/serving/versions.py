"""One version of a SavedModel in memory, in a session of its own.

A session, as TensorFlow Serving has it, and not `tf.saved_model.load`: closing it gives back all
memory, compiled functions included, where the other keeps some of every model that was ever loaded.
"""

import contextlib
import ctypes
import gc
import logging
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from zoo.errors import RunError, reason
from zoo.serving.batching import Batcher, BatchSettings, Run, add_queues, blank, lanes_of
from zoo.serving.failure import Failure, failure_of
from zoo.serving.limits import Limits, check_answer, check_size
from zoo.serving.signatures import Signature, read_signatures
from zoo.serving.warmup import requests_of

Rows = dict[str, np.ndarray]
# Given rows, what is called before each batch, and whether there are no other callers.
Answer = Callable[[Rows, Callable[[], None], bool], list[np.ndarray]]

# Rows that are run at once where no queue cuts them into batches.
_ROWS_ALONE = 8
# What one thread froze, another would neither thaw nor collect.
_COLLECTING = threading.Lock()


def nobody_left() -> None:
    """For calls that nobody can give up."""


class Loaded:
    """A version that answers.

    Args:
        folder: its folder.
        settings: how rows are batched.
        max_elements: how many elements an answer may have.

    Raises:
        RunError: if there is no SavedModel in it, or a damaged one, or one that fails its warm-up.

    Attributes:
        signatures: what it can be asked, by name.
        definitions: the same as TensorFlow's own protocol buffers, by name.
    """

    def __init__(
        self, folder: Path, settings: BatchSettings, max_elements: int = Limits().elements
    ) -> None:
        self._folder = folder
        self._max_elements = max_elements
        self._in_pieces: set[str] = set()
        graph = tf.Graph()
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        # Of the process: what its first session says holds for all.
        config.intra_op_parallelism_threads = settings.op_threads
        # It would go over a queue's function for as long as all else takes together, and what it
        # leaves is no faster: what is exported has been through it.
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        self._answers: dict[str, Answer] = {}
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        try:
            with _loading(folder):
                with graph.as_default(), _no_remarks():
                    meta_graph = tf.compat.v1.saved_model.loader.load(
                        self._session, ["serve"], str(folder)
                    )
                self.signatures = read_signatures(meta_graph)
                self.definitions = dict(meta_graph.signature_def)
                if not self.signatures:
                    raise RunError("it has no signature to serve")
                with graph.as_default():
                    made = {
                        name: self._answer_of(signature, settings)
                        for name, signature in self.signatures.items()
                    }
                graph.finalize()
                self._answers = {name: answer for name, (answer, _) in made.items()}
                self._warm_up({name: samples for name, (_, samples) in made.items()})
            _collect_once()
        except BaseException:
            self._let_go()
            raise

    def run(
        self,
        signature: Signature,
        given: Rows,
        wanted: Collection[str] = (),
        go_on: Callable[[], None] = nobody_left,
        alone: bool = False,
    ) -> Rows:
        """Answers rows.

        Args:
            signature: one of `signatures`.
            given: an array for each of its inputs.
            wanted: keys of outputs; all, if there are none.
            go_on: called before each batch; raises if nobody waits for the answer any more.
            alone: whether no others are there to share a batch with.

        Returns:
            An array for each output that is wanted; `object[...]` of bytes for strings.

        Raises:
            Failure: if the inputs do not fit, the model fails on them, or the answer is too large.
        """
        signature.check(given)
        ordered = {key: given[key] for key in signature.inputs}
        try:
            if signature.name in self._in_pieces and _rows(ordered) > _ROWS_ALONE:
                return self._run_in_pieces(signature, ordered, wanted, go_on)
            values = self._answers[signature.name](ordered, go_on, alone)
        except tf.errors.UnavailableError as error:  # how TensorFlow's scheduler says so
            raise Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full") from error
        except tf.errors.OpError as error:
            raise failure_of(error) from error
        outputs = _wanted(signature, values, wanted)
        check_answer(outputs.values(), self._max_elements)
        return outputs

    def queue_of(self, signature: Signature, given: Rows) -> int | None:
        """The queue in which all rows of a request can share a batch with other requests' rows.

        Args:
            signature: one of `signatures`.
            given: an array for each of its inputs, checked.

        Returns:
            Its number; `None` if they go to several, or to none.
        """
        answer = self._answers[signature.name]
        return answer.queue_of(given) if isinstance(answer, Batcher) else None

    def run_together(
        self, signature: Signature, queue: int, requests: Sequence[tuple[Rows, Collection[str]]]
    ) -> list[Rows | Failure]:
        """Answers several requests of one queue by one call.

        Args:
            signature: one of `signatures`.
            queue: what `queue_of` says of each request.
            requests: the rows of each, checked, and the keys of outputs that it wants, if not all.

        Returns:
            For each its outputs, or why it gets none.

        Raises:
            Exception: whatever goes wrong; then none is answered.
        """
        answer: Any = self._answers[signature.name]
        ordered = [{key: given[key] for key in signature.inputs} for given, _ in requests]
        parts = answer.run_together(queue, ordered)
        return [
            self._bounded(_wanted(signature, part, wanted))
            for part, (_, wanted) in zip(parts, requests, strict=True)
        ]

    def _bounded(self, outputs: Rows) -> Rows | Failure:
        try:
            check_answer(outputs.values(), self._max_elements)
        except Failure as failure:
            return failure
        return outputs

    def close(self) -> None:
        """Gives back the memory; nothing may be running."""
        self._let_go()
        # Its graph is full of circles, which Python would keep until it next looks for them, and
        # the C library keeps what is freed: together a fifth of the process after ten versions.
        _collect_once()
        with contextlib.suppress(AttributeError):  # glibc alone has it
            ctypes.CDLL(None).malloc_trim(0)

    def _let_go(self) -> None:
        self._answers = {}
        self._session.close()
        del self._session

    def _run_in_pieces(
        self, signature: Signature, given: Rows, wanted: Collection[str], go_on: Callable[[], None]
    ) -> Rows:
        """A few rows after the other, so that neither time nor memory grows with their number."""
        answer, parts = self._answers[signature.name], []
        shapes: dict[str, tuple[int, ...]] = {}
        for start in range(0, _rows(given), _ROWS_ALONE):
            piece = {key: array[start : start + _ROWS_ALONE] for key, array in given.items()}
            outputs = _wanted(signature, answer(piece, go_on, True), wanted)
            if any(len(array) != _rows(piece) for array in outputs.values()):
                # What is free is not the number of rows, so the model must see them together.
                whole = _wanted(signature, answer(given, go_on, True), wanted)
                check_answer(whole.values(), self._max_elements)
                return whole
            parts.append(outputs)
            for key, array in outputs.items():
                rows, *sizes = shapes.get(key, (0, *array.shape[1:]))
                shapes[key] = (rows + len(array), *map(max, sizes, array.shape[1:]))
            check_size(sum(map(math.prod, shapes.values())), self._max_elements)
        return {key: _joined([part[key] for part in parts], shapes[key]) for key in shapes}

    def _answer_of(
        self, signature: Signature, settings: BatchSettings
    ) -> tuple[Answer, Iterable[Rows]]:
        graph = self._session.graph
        feeds = [graph.get_tensor_by_name(spec.tensor) for spec in signature.inputs.values()]
        fetches = [graph.get_tensor_by_name(spec.tensor) for spec in signature.outputs.values()]
        alone = self._callable(fetches, feeds)
        lanes = lanes_of(signature)
        queues = None if lanes is None else add_queues(graph, signature, lanes, settings)
        if lanes is not None and queues is not None:
            runs = [self._callable(queue, feeds) for queue in queues]
            batcher = Batcher(signature, lanes, runs, alone, settings.max_rows)
            return batcher, lanes.samples(signature)

        def answer(given: Rows, go_on: Callable[[], None], _: bool) -> list[np.ndarray]:
            go_on()
            return alone(list(given.values()))

        specs = [*signature.inputs.values(), *signature.outputs.values()]
        if signature.inputs and all(spec.shape and spec.shape[0] is None for spec in specs):
            self._in_pieces.add(signature.name)
        return answer, [{key: blank(spec) for key, spec in signature.inputs.items()}]

    def _callable(self, fetches: list[tf.Tensor], feeds: list[tf.Tensor]) -> Run:
        options = config_pb2.CallableOptions(
            feed=[tensor.name for tensor in feeds], fetch=[tensor.name for tensor in fetches]
        )
        # What `make_callable` is without feeds; with them it takes seven times as long, to check
        # what the signature has checked.
        call = self._session._make_callable_from_options(options)

        def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
            return call(*values)

        return run

    def _warm_up(self, samples: dict[str, Iterable[Rows]]) -> None:
        """Asks what is asked first, so that no caller waits for TensorFlow to compile it."""
        for request in requests_of(self._folder):
            signature = self.signatures.get(request.signature)
            if signature is None:
                raise RunError(f"its warm-up asks for a signature {request.signature!r}")
            try:
                self._ask_both_ways(signature, request.inputs)
            except Failure as failure:
                raise RunError(f"its warm-up fails: {failure}") from failure
        for name, rows in samples.items():
            for row in rows:
                # Blank rows are made up here: that a model fails on them says nothing against it.
                with contextlib.suppress(Failure):
                    self._ask_both_ways(self.signatures[name], row)

    def _ask_both_ways(self, signature: Signature, rows: Rows) -> None:
        queued = isinstance(self._answers[signature.name], Batcher)
        for alone in (False, True) if queued else (True,):
            self.run(signature, rows, alone=alone)


def _collect_once() -> None:
    """Collects Python's garbage, and has what is left passed over from now on.

    To look through all of TensorFlow's objects takes a tenth of a second, in which nobody is
    answered; and Python would do so again and again, for the sake of a request's few.
    """
    with _COLLECTING:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _rows(given: Rows) -> int:
    return len(next(iter(given.values())))


def _wanted(signature: Signature, values: list[np.ndarray], wanted: Collection[str]) -> Rows:
    outputs = zip(signature.outputs, values, strict=True)
    return {key: value for key, value in outputs if not wanted or key in wanted}


def _joined(parts: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The rows of all parts; zeros, or empty strings, follow where another part is larger."""
    whole = np.full(shape, b"" if parts[0].dtype == object else 0, parts[0].dtype)
    start = 0
    for part in parts:
        place = (slice(start, start + len(part)), *map(slice, part.shape[1:]))
        whole[place] = part
        start += len(part)
    return whole


@contextlib.contextmanager
def _loading(folder: Path) -> Iterator[None]:
    try:
        yield
    except RunError:
        raise
    except Exception as error:  # there is no saying what a damaged file leads the reader to
        raise RunError(f"it cannot be loaded: {reason(error)}") from error


@contextlib.contextmanager
def _no_remarks() -> Iterator[None]:
    """TensorFlow recommends its other loader; the module's first lines say why it is not used."""
    logger: Any = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
