"""Rows of several callers run as one batch, by the scheduler that TensorFlow Serving uses.

The scheduler is that of TensorFlow's op `BatchFunction`: it holds a queue's rows until a thread is
free (and the wait is over), runs the function once on all of them, and gives each caller its part.
Every queue holds rows of like length, so that a short text never waits for a long one's steps.
"""

import bisect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.serving.signatures import Signature, Spec

# Bytes of a row's text. A row's cost grows with its length, so each step is a factor; TensorFlow
# compiles a queue's function anew, which is why there are few.
TEXT_EDGES = (256, 1024)
# Steps of a row's features; rows are padded up to the next one.
STEP_EDGES = (32, 64, 128, 256, 512)

# Of the scheduler or the caller, not of the rows.
_OF_THE_CALL = (
    tf.errors.UnavailableError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class BatchSettings:
    """How rows are batched.

    Args:
        max_rows: rows of one batch, at most.
        wait_ms: how long a batch that is not full waits for more rows once a thread is free.
        max_queued: rows that may wait, at most.
        op_threads: threads that share one operation, 0 for one of each core. With 1, batches that
            run at once are what keeps all cores busy: the steps of an LSTM are so small that two
            threads spend more on taking turns than either spends on its half.
    """

    max_rows: int = 16
    wait_ms: float = 0.0
    max_queued: int = 4096
    op_threads: int = 1


@dataclass(frozen=True)
class Lanes:
    """A signature's queues, and which rows go to which.

    Args:
        key: the input whose length decides.
        edges: the longest row of each queue; a longer one goes to one more queue.
        pads: whether rows are padded up to the edge, as features are; rows beyond the last edge
            then go unbatched.
    """

    key: str | None
    edges: tuple[int, ...]
    pads: bool

    def __len__(self) -> int:
        return len(self.edges) + (not self.pads)

    def of(self, given: dict[str, np.ndarray]) -> np.ndarray:
        """The queue of each row, `int[B]`; `len(self)` stands for none.

        Example:
            >>> lanes = Lanes("text", (4, 8), pads=False)
            >>> lanes.of({"text": np.array([b"dull", b"never", b"never again"], object)})
            array([0, 1, 2])
        """
        if self.key is None:
            rows = len(next(iter(given.values())))
            return np.zeros(rows, int)
        value = given[self.key]
        if self.pads:
            return np.full(len(value), bisect.bisect_left(self.edges, value.shape[1]))
        lengths = [len(text) for text in value]
        return np.searchsorted(self.edges, lengths)

    def one_for(self, given: dict[str, np.ndarray]) -> int | None:
        """The queue of all rows, if it is one; at once for a few, where NumPy takes its time.

        Example:
            >>> lanes = Lanes("text", (4, 8), pads=False)
            >>> lanes.one_for({"text": np.array([b"never", b"ever"], object)})
            >>> lanes.one_for({"text": np.array([b"never", b"again"], object)})
            1
        """
        if self.key is None:
            return 0
        value = given[self.key]
        if self.pads:
            return bisect.bisect_left(self.edges, value.shape[1])
        lanes = {bisect.bisect_left(self.edges, len(text)) for text in value.tolist()}
        return lanes.pop() if len(lanes) == 1 else None

    def padded(self, lane: int, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The rows as long as their queue wants them: zeros follow the last step."""
        if not self.pads or self.key is None:
            return given
        steps = given[self.key].shape[1]
        padding = ((0, 0), (0, self.edges[lane] - steps), (0, 0))
        return given | {self.key: np.pad(given[self.key], padding)}

    def within(self, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The rows with no length beyond the steps that there are.

        What fills a track up must not count, whatever length its caller says; and an answer must
        not depend on whether there was anything to fill up.
        """
        if not self.pads or self.key is None:
            return given
        return given | {"lengths": np.minimum(given["lengths"], given[self.key].shape[1])}

    def samples(self, signature: Signature) -> Iterator[dict[str, np.ndarray]]:
        """One row for each queue: blank ones, as long as the queue's longest."""
        for lane in range(len(self)):
            row = {key: blank(spec) for key, spec in signature.inputs.items()}
            if self.pads:
                row = self.padded(lane, row)
            elif self.key is not None:
                longest = self.edges[lane] if lane < len(self.edges) else self.edges[-1] + 1
                row[self.key][0] = b" " * longest
            yield row


def lanes_of(signature: Signature) -> Lanes | None:
    """How the rows of a signature may share a batch, or `None` if they may not.

    A batch is put together along the first axis, so all other sizes have to agree: of texts, and of
    what has fixed sizes, any rows go together. Tracks of features go together once they are padded,
    which is harmless only where their true `lengths` are given beside them.
    """
    inputs, outputs = signature.inputs, signature.outputs
    if not inputs or not all(map(_has_free_rows, [*inputs.values(), *outputs.values()])):
        return None
    if not all(map(_is_fixed, outputs.values())):
        return None
    free = [key for key, spec in inputs.items() if not _is_fixed(spec)]
    if free == ["features"] and set(inputs) == {"features", "lengths"}:
        shape = inputs["features"].shape
        if shape is not None and len(shape) == 3 and shape[2] is not None:
            return Lanes("features", STEP_EDGES, pads=True)
    if free:
        return None
    texts = [key for key, spec in inputs.items() if spec.is_text and len(spec.shape or ()) == 1]
    if len(inputs) == 1 and texts:
        return Lanes(texts[0], TEXT_EDGES, pads=False)
    return Lanes(None, (), pads=False)


def _has_free_rows(spec: Spec) -> bool:
    return bool(spec.shape) and spec.shape is not None and spec.shape[0] is None


def _is_fixed(spec: Spec) -> bool:
    return spec.shape is not None and None not in spec.shape[1:]


def add_queues(
    graph: tf.Graph, signature: Signature, lanes: Lanes, settings: BatchSettings
) -> list[list[tf.Tensor]] | None:
    """Adds a signature's queues to its graph.

    Args:
        graph: the graph of the SavedModel.
        signature: one of its signatures.
        lanes: its queues.
        settings: how rows are batched.

    Returns:
        For each queue the signature's outputs, in their order; `None` if what answers in this graph
        is no function of the inputs, which `BatchFunction` could call.
    """
    inputs = [graph.get_tensor_by_name(spec.tensor) for spec in signature.inputs.values()]
    outputs = [graph.get_tensor_by_name(spec.tensor) for spec in signature.outputs.values()]
    call = outputs[0].op
    arguments = {tensor.name for tensor in inputs}
    if call.type not in ("PartitionedCall", "StatefulPartitionedCall"):
        return None
    if any(output.op is not call for output in outputs):
        return None
    rows, captured = list(call.inputs)[: len(inputs)], list(call.inputs)[len(inputs) :]
    if {tensor.name for tensor in rows} != arguments:
        return None
    queues = []
    for lane in range(len(lanes)):
        answers = tf.raw_ops.BatchFunction(
            in_tensors=rows,
            captured_tensors=captured,
            f=call.get_attr("f"),
            Tout=call.get_attr("Tout"),
            num_batch_threads=len(os.sched_getaffinity(0)),
            max_batch_size=settings.max_rows,
            batch_timeout_micros=round(settings.wait_ms * 1000),
            # No queue can hold more batches than rows: those are counted before they come here.
            max_enqueued_batches=settings.max_queued,
            shared_name="zoo",
            batching_queue=f"{signature.name}/{lane}",
        )
        queues.append([answers[output.value_index] for output in outputs])
    return queues


class Batcher:
    """Runs a signature's rows, each with its like.

    Args:
        signature: what is run.
        lanes: its queues.
        runs: what runs each of them.
        alone: what runs rows that go to none.
        max_rows: rows of one batch, at most.
    """

    def __init__(
        self, signature: Signature, lanes: Lanes, runs: list[Run], alone: Run, max_rows: int
    ) -> None:
        self._signature = signature
        self._lanes = lanes
        self._runs = runs
        self._alone = alone
        self._max_rows = max_rows

    def __call__(
        self, given: dict[str, np.ndarray], go_on: Callable[[], None], alone: bool
    ) -> list[np.ndarray]:
        """Answers rows.

        Args:
            given: arrays that the signature has checked.
            go_on: called before each batch; raises if nobody waits for the answer any more.
            alone: whether no others are there, whom a queue would wait for.

        Returns:
            The signature's outputs, in their order; row by row as the inputs.
        """
        rows = len(next(iter(given.values())))
        if not rows:
            one = self(next(self._lanes.samples(self._signature)), go_on, alone)
            return [output[:0] for output in one]
        given = self._lanes.within(given)
        lanes = self._lanes.of(given)
        if rows <= self._max_rows and (lanes == lanes[0]).all():
            return self._run(int(lanes[0]), given, go_on, alone)
        places, parts = [], []
        for lane, place in self._cuts(lanes):
            places.append(place)
            rows_of_one = {key: given[key][place] for key in given}
            parts.append(self._run(lane, rows_of_one, go_on, alone))
        back = np.argsort(np.concatenate(places))
        return [np.concatenate(part)[back] for part in zip(*parts, strict=True)]

    def queue_of(self, given: dict[str, np.ndarray]) -> int | None:
        """The queue that all rows of a request go to as one batch; `None` if there is none such.

        Args:
            given: arrays that the signature has checked.
        """
        rows = len(next(iter(given.values())))
        lane = self._lanes.one_for(given) if 0 < rows <= self._max_rows else None
        return lane if lane is not None and lane < len(self._runs) else None

    def run_together(
        self, lane: int, requests: Sequence[dict[str, np.ndarray]]
    ) -> Iterator[list[np.ndarray]]:
        """Answers requests of one queue as one.

        Args:
            lane: what `queue_of` says of each.
            requests: arrays that the signature has checked; `max_rows` rows at most, all together.

        Yields:
            For each the signature's outputs, in their order.

        Raises:
            tf.errors.OpError: if the model fails on any of them.
            ValueError: if it does not answer row by row: who would tell whose answer is whose?
        """
        padded = [self._lanes.padded(lane, self._lanes.within(one)) for one in requests]
        joined = [np.concatenate([one[key] for one in padded]) for key in padded[0]]
        outputs = self._runs[lane](joined)
        if any(len(output) != len(joined[0]) for output in outputs):
            raise ValueError("the outputs are no rows")
        start = 0
        for one in padded:
            rows = slice(start, start + len(next(iter(one.values()))))
            start = rows.stop
            yield [output[rows] for output in outputs]

    def _run(
        self, lane: int, given: dict[str, np.ndarray], go_on: Callable[[], None], alone: bool
    ) -> list[np.ndarray]:
        go_on()
        if lane < len(self._runs) and not alone:
            try:
                return self._runs[lane](list(self._lanes.padded(lane, given).values()))
            except _OF_THE_CALL:
                raise
            except tf.errors.OpError:
                pass  # it ends the whole batch, so it may be due to another caller's rows
        return self._alone(list(given.values()))

    def _cuts(self, lanes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        # One after the other: a large request takes turns with the others' rows.
        for lane in np.unique(lanes):
            places = np.flatnonzero(lanes == lane)
            for start in range(0, len(places), self._max_rows):
                yield int(lane), places[start : start + self._max_rows]


def blank(spec: Spec) -> Any:
    """One row of empty texts or zeros, with size 1 wherever any size will do."""
    shape = [1 if size is None else size for size in spec.shape or ()]
    return np.full(shape, b"" if spec.is_text else 0, spec.array_dtype)
