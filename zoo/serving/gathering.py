"""Requests that came together, handed to TensorFlow's scheduler together.

While an event loop reads some requests and answers others, more come. Each would cost a thread's
turn and a call of TensorFlow's session, which for a short row is more than the model itself. So
those that have come by the loop's next turn, and would share a queue anyway, go there as one: one
thread waits for them, and one call brings all their answers. Nobody is made to wait for company.
"""

import asyncio
import contextlib
import os
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import numpy as np

from zoo.serving.batching import BatchSettings
from zoo.serving.failure import Failure
from zoo.serving.predict import Admitted, Answer, Predictor, Target
from zoo.serving.signatures import Signature

# Bytes of a request, and elements of its arrays, that are read sooner than a thread takes its turn,
# and elements of an answer that are written so.
SMALL = 1 << 14
_SMALL_ANSWER = 1 << 10

Rows = dict[str, np.ndarray]
# Raises if nobody waits for the answer any more.
GoOn = Callable[[], None]
Watch = Callable[[], contextlib.AbstractContextManager[threading.Event]]
_Found = TypeVar("_Found")


def is_small(answer: Answer) -> bool:
    """Whether it is put into words sooner than a thread takes its turn."""
    return sum(array.size for array in answer.outputs.values()) <= _SMALL_ANSWER


def unwatched() -> contextlib.AbstractContextManager[threading.Event]:
    """For callers whose leaving cancels the task."""
    return contextlib.nullcontext(threading.Event())


class _Pending(asyncio.Future[_Found]):
    """What a thread works on, and a task waits for to the end.

    Cancelled meanwhile, the task learns of it once the work is done: the version that does it is
    held for the task, and must not be closed before.
    """

    gone: threading.Event | None = None
    begun = True

    def cancel(self, msg: Any = None) -> bool:
        """Says so to the work, and refuses: asyncio cancels the task when this is done."""
        if not self.begun:
            return super().cancel(msg)
        if self.gone is not None:
            self.gone.set()
        return False


@dataclass(frozen=True)
class _Asked:
    """One request, and its answer to be."""

    request: Admitted
    answer: _Pending[Rows]
    is_gone: Callable[[], bool]


# A version, a signature, and a number of one of its queues.
_Queue = tuple[Any, str, int]


class Gatherer:
    """Runs the requests of one event loop, on whose thread alone it is to be used.

    Args:
        pool: whose threads wait for TensorFlow.
        max_rows: rows that are handed over as one, at most.
        most: how many such lots a queue has at once; what comes meanwhile makes up the next one.
    """

    def __init__(self, pool: Executor, max_rows: int, most: int) -> None:
        self._pool = pool
        self._max_rows = max_rows
        self._most = most
        self._came: dict[_Queue, deque[_Asked]] = {}
        self._under_way: Counter[_Queue] = Counter()

    async def run(
        self, request: Admitted, queue: int, is_gone: Callable[[], bool] = lambda: False
    ) -> Rows:
        """Answers a request.

        Args:
            request: what is asked.
            queue: what `Loaded.queue_of` says of it.
            is_gone: whether nobody waits for the answer any more, other than by cancelling.

        Returns:
            An array for each output that is wanted.

        Raises:
            Failure: as `zoo.serving.versions.Loaded.run`.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(request, _Pending(loop=loop), is_gone)
        asked.answer.begun = False
        # Loads of one version are one object, and no other's.
        key = (request.loaded, request.signature.name, queue)
        if (came := self._came.get(key)) is None:
            came = self._came[key] = deque()
            loop.call_soon(self._hand_over, loop, key)
        came.append(asked)
        try:
            return await asked.answer
        finally:
            del asked  # a failure's traceback holds this very frame: a circle

    def _hand_over(self, loop: asyncio.AbstractEventLoop, key: _Queue) -> None:
        came = self._came.get(key)
        while came and self._under_way[key] < self._most:
            if not (lot := self._lot(came)):
                continue
            self._under_way[key] += 1
            _submit(self._pool, self._work, loop, key, lot)
        if not came:
            self._came.pop(key, None)

    def _lot(self, came: deque[_Asked]) -> list[_Asked]:
        """As many as go together, without those whose callers have left meanwhile."""
        lot: list[_Asked] = []
        rows = 0
        while came and (not lot or rows + came[0].request.rows <= self._max_rows):
            asked = came.popleft()
            if asked.answer.cancelled():
                continue
            asked.answer.begun = True
            if asked.is_gone():
                asked.answer.set_exception(_gone())
                continue
            rows += asked.request.rows
            lot.append(asked)
        return lot

    def _work(self, loop: asyncio.AbstractEventLoop, key: _Queue, lot: list[_Asked]) -> None:
        """In a thread."""
        found = _answers([asked.request for asked in lot], key[2])
        loop.call_soon_threadsafe(self._tell, loop, key, lot, found)

    def _tell(
        self,
        loop: asyncio.AbstractEventLoop,
        key: _Queue,
        lot: list[_Asked],
        found: list[Rows | Exception],
    ) -> None:
        for asked, one in zip(lot, found, strict=True):
            _settle(asked.answer, one)
        # Frames that a failure's traceback leads to hold both: circles, which would keep the rows.
        lot.clear()
        found.clear()
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]  # with it goes what holds a version in memory
        self._hand_over(loop, key)


class LoopPredictor:
    """Answers what the handlers of one event loop are asked, and does not hold the loop up.

    Args:
        predictor: what answers.
        settings: how rows are batched.
        threads: how many requests, or batches of such, are worked on at once; others wait.

    Attributes:
        predictor: the same.
    """

    def __init__(self, predictor: Predictor, settings: BatchSettings, threads: int) -> None:
        self.predictor = predictor
        self._pool = ThreadPoolExecutor(threads, "model")
        self._pool.submit(int).result()  # one thread that is there whatever comes
        # As many as run at once, and one for the core that is free first. A scheduler that waits
        # for company is given all there is.
        lots = settings.max_queued if settings.wait_ms else len(os.sched_getaffinity(0)) + 1
        self._gatherer = Gatherer(self._pool, settings.max_rows, lots)

    async def predict(
        self,
        target: Target,
        read: Callable[[Signature], Rows],
        wanted: Collection[str] = (),
        watch: Watch = unwatched,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> Answer:
        """As `Predictor.predict`, for a request that is read in no time.

        Args:
            target: which signature.
            read: the request's arrays, given the signature that they are for.
            wanted: keys of outputs; all, if there are none.
            watch: as for `in_thread`.
            is_gone: as for `Gatherer.run`.

        Raises:
            Failure: whatever goes wrong.
        """
        with self.predictor.admitted(target, read, wanted) as one:
            queue = one.loaded.queue_of(one.signature, one.given)
            if queue is None:
                outputs = await self.in_thread(one.run, watch)
            else:
                outputs = await self._gatherer.run(one, queue, is_gone)
            return Answer(one.version, one.signature, outputs)

    async def in_thread(self, work: Callable[[GoOn], _Found], watch: Watch = unwatched) -> _Found:
        """Does what takes its time.

        Args:
            work: it; told how to find out, by an exception, that nobody waits for it any more.
            watch: what sets an event when that is so, while it lasts. If the task that awaits this
                is cancelled, that is so, too.

        Returns:
            What the work returns.

        Raises:
            Failure: whatever goes wrong.
            asyncio.CancelledError: if cancelled; not before the work has ended.
        """
        with watch() as gone:

            def go_on() -> None:
                if gone.is_set():
                    raise _gone()

            loop = asyncio.get_running_loop()
            pending: _Pending[_Found] = _Pending(loop=loop)
            pending.gone = gone

            # What a failure's traceback leads to, the pool's frames included, must not lead to what
            # holds the failure: the circle would keep the request until Python looks for some.
            waiting: list[_Pending[_Found]] = [pending]

            def do() -> None:
                try:
                    go_on()  # its turn may have come too late
                    found = work(go_on)
                except Exception as error:
                    loop.call_soon_threadsafe(_settle, waiting.pop(), error)
                else:
                    loop.call_soon_threadsafe(_settle, waiting.pop(), found)

            _submit(self._pool, do)
            try:
                return await pending
            finally:
                del pending


def _submit(pool: Executor, work: Callable[..., None], *given: Any) -> None:
    # It is in the pool's queue, even where no other thread can be started: the first one takes it.
    with contextlib.suppress(RuntimeError):
        pool.submit(work, *given)


def _gone() -> Failure:
    return Failure(grpc.StatusCode.CANCELLED, "the caller is gone")


def _settle(pending: _Pending[_Found], found: _Found | Exception) -> None:
    if isinstance(found, Exception):
        pending.set_exception(found)
    else:
        pending.set_result(found)


def _answers(requests: list[Admitted], queue: int) -> list[Rows | Exception]:
    """Runs some requests as one; if that fails, each by itself."""
    if len(requests) > 1:
        first = requests[0]
        with contextlib.suppress(Exception):  # perhaps of another one's rows
            asked = [(one.given, one.wanted) for one in requests]
            return [*first.loaded.run_together(first.signature, queue, asked)]
    return [_by_itself(request) for request in requests]


def _by_itself(request: Admitted) -> Rows | Exception:
    try:
        return request.run()
    except Exception as error:
        return error
