"""The batches that the rows of a split are cut into by length.

Which rows stand in which batch is planned ahead for a whole epoch, and any batch can be had without
the ones before it: that is what lets a cut run go on exactly where it was.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.splits import Split
from zoo.text import PAD_ID

_POOL_BATCHES = 50


def batch_plan(
    lengths: np.ndarray, *, batch_tokens: int = 0, batch_size: int = 0, seed: int, epoch: int
) -> list[np.ndarray]:
    """Which rows stand in which batch of an epoch; `seed` and `epoch` decide it alone.

    Rows are shuffled, sorted by length within pools of about fifty batches, cut, and the batches
    shuffled: rows of a batch are of nearly one length, and yet no two epochs have the same batches.

    Args:
        lengths: `int64[R]`, the steps of each row.
        batch_tokens: steps of a batch at most, padding included; a longer row stands alone.
        batch_size: rows of a batch; give this or `batch_tokens`, the other one 0.
        seed: of the run.
        epoch: number of the epoch, from 0.

    Returns:
        Row numbers of each batch; every row once.

    Raises:
        ValueError: unless one of `batch_tokens` and `batch_size` is positive and the other one 0.

    Example:
        >>> plan = batch_plan(np.array([3, 1, 3, 1]), batch_tokens=6, seed=0, epoch=0)
        >>> sorted(sorted(batch.tolist()) for batch in plan)
        [[0, 2], [1, 3]]
    """
    if min(batch_tokens, batch_size) != 0 or max(batch_tokens, batch_size) < 1:
        raise ValueError(
            f"give batch_tokens or batch_size, not batch_tokens={batch_tokens} and "
            f"batch_size={batch_size}"
        )
    if not len(lengths):
        return []
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    rows_per_batch = batch_size or max(1, batch_tokens / max(1.0, float(np.mean(lengths))))
    pool = max(1, round(rows_per_batch * _POOL_BATCHES))
    batches: list[np.ndarray] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += _cut(rows, lengths, batch_tokens, batch_size)
    return [batches[i] for i in rng.permutation(len(batches))]


def epoch_plan(config: Any, split: Split, epoch: int) -> list[np.ndarray]:
    """The batches of a run's epoch: as `batch_plan`, of a configuration with its arguments."""
    return batch_plan(
        split.lengths,
        batch_tokens=config.batch_tokens,
        batch_size=config.batch_size,
        seed=config.seed,
        epoch=epoch,
    )


def count_steps(config: Any, split: Split) -> int:
    """The steps of all epochs of a run, if patience does not end them before."""
    return sum(len(epoch_plan(config, split, epoch)) for epoch in range(config.epochs))


def in_order_plan(lengths: np.ndarray, *, batch_tokens: int = 16_384) -> list[np.ndarray]:
    """The batches of an evaluation: all rows by length, nothing left to chance.

    Example:
        >>> [b.tolist() for b in in_order_plan(np.array([3, 1, 3, 1]), batch_tokens=6)]
        [[1, 3], [0, 2]]
    """
    return _cut(np.argsort(lengths, kind="stable"), lengths, batch_tokens, 0)


def _cut(
    rows: np.ndarray, lengths: np.ndarray, batch_tokens: int, batch_size: int
) -> list[np.ndarray]:
    """Cuts rows of rising length into batches."""
    if batch_size:
        return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    batches, start = [], 0
    # A row of no steps takes one all the same: `batches` pads to one at least.
    for i, length in enumerate(np.maximum(lengths[rows], 1).tolist()):
        # The rows rise in length, so the newest one is the longest of its batch.
        if i > start and length * (i - start + 1) > batch_tokens:
            batches.append(rows[start:i])
            start = i
    if start < len(rows):
        batches.append(rows[start:])
    return batches


def padding_share(lengths: np.ndarray, plan: list[np.ndarray]) -> float:
    """The share of a plan's steps that are padding, in [0, 1).

    Example:
        >>> round(padding_share(np.array([3, 1]), [np.array([0, 1])]), 3)
        0.333
    """
    filled = sum(int(lengths[rows].sum()) for rows in plan)
    steps = sum(len(rows) * int(lengths[rows].max()) for rows in plan)
    return 1.0 - filled / steps if steps else 0.0


def batches(split: Split, plan: list[np.ndarray], start: int = 0) -> "Batches":
    """The batches of a plan, padded to the longest row of each.

    Args:
        split: the examples.
        plan: row numbers of each batch.
        start: batches to leave out at the beginning, for a run that goes on; they cost nothing.

    Returns:
        What can be gone through any number of times.
    """
    # As plain arrays, still on disk: a memory map costs microseconds each time it is sliced.
    split = Split(*map(np.asarray, (split.values, split.offsets, split.labels)))
    return Batches(split, plan[start:])


@dataclass(frozen=True)
class Batches:
    """Pairs of inputs and `int32[B]` labels, in the order of a plan.

    The inputs are `{"ids": int32[B, T]}`, 0 being padding, or
    `{"features": float32[B, T, D], "lengths": int32[B]}`.

    Going through them in Python takes a seventh of what a `tf.data.Dataset` takes for the same,
    which runs Python too, and is over before a prefetched batch would have changed threads.

    Args:
        split: the examples.
        plan: row numbers of each batch.

    Example:
        >>> split = Split(np.arange(2, 6), np.array([0, 1, 4]), np.array([1, 0]))
        >>> [(inputs, labels)] = Batches(split, [np.array([1, 0])])
        >>> inputs["ids"].numpy().tolist(), labels.numpy().tolist()
        ([[3, 4, 5], [2, 0, 0]], [0, 1])
    """

    split: Split
    plan: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[dict[str, tf.Tensor], tf.Tensor]]:
        values, offsets, labels = self.split.values, self.split.offsets, self.split.labels
        for rows in self.plan:
            starts, ends = offsets[rows], offsets[rows + 1]
            lengths = ends - starts
            shape = (len(rows), max(1, int(lengths.max())), *values.shape[1:])
            padded = np.full(shape, PAD_ID, values.dtype)
            places = zip(padded, starts.tolist(), ends.tolist(), strict=True)
            for place, first, end in places:
                place[: end - first] = values[first:end]
            if values.ndim == 1:
                inputs = {"ids": padded}
            else:
                inputs = {"features": padded, "lengths": lengths.astype("int32")}
            tensors = {name: tf.convert_to_tensor(array) for name, array in inputs.items()}
            yield tensors, tf.convert_to_tensor(labels[rows])

    def as_dataset(self) -> tf.data.Dataset:
        """The same for Keras's `fit`, or for more of `tf.data`."""
        if self.split.values.ndim == 1:
            inputs = {"ids": tf.TensorSpec([None, None], tf.int32)}
        else:
            inputs = {
                "features": tf.TensorSpec([None, None, self.split.values.shape[1]], tf.float32),
                "lengths": tf.TensorSpec([None], tf.int32),
            }
        signature = (inputs, tf.TensorSpec([None], tf.int32))
        return tf.data.Dataset.from_generator(self.__iter__, output_signature=signature)
