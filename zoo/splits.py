"""The rows of a split, in arrays that any backend can read."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """The encoded examples of one split, row after row in one array.

    Args:
        values: `int32[N]` ids, or `float32[N, D]` features, of all rows together.
        offsets: `int64[R + 1]`, where each row begins in `values`, and where the last one ends.
        labels: `int32[R]`.
    """

    values: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """`int64[R]`, the steps of each row."""
        return np.diff(np.asarray(self.offsets))

    def row(self, index: int) -> np.ndarray:
        """The ids or features of one row."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def sample(self, size: int, seed: int) -> "Split":
        """Some of the rows, drawn by `seed` alone; a larger sample holds the smaller ones.

        Args:
            size: how many rows, one at least.
            seed: of the draw.

        Returns:
            Them, in the order in which they stand here.

        Raises:
            ValueError: if there are not so many.

        Example:
            >>> split = Split(np.arange(6), np.array([0, 1, 3, 6]), np.array([5, 6, 7]))
            >>> split.sample(2, seed=0).labels.tolist()
            [5, 7]
        """
        if not 1 <= size <= len(self):
            raise ValueError(f"size={size}, and there are {len(self):,} rows")
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:size])
        return Split(
            np.concatenate([self.row(row) for row in rows]),
            np.concatenate([[0], self.lengths[rows]]).cumsum(),
            np.asarray(self.labels)[rows],
        )
