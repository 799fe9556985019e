"""Runs of neighbouring words as numbers, each distinct one once."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.layers.arguments import check_positive

# Primes below 2^15 and multipliers below them: no product leaves int32, whose overflow no two
# backends need agree on, and JAX and PyTorch have int64 or uint32 only in part.
_PRIMES = (32749, 32719)
_MULTIPLIERS = (20011, 12347)


@keras.saving.register_keras_serializable(package="zoo")
class HashedNgrams(keras.layers.Layer):
    """The distinct word n-grams of each row, as numbers of buckets.

        bucket(w_1) = w_1
        bucket(w_1 ... w_n) = num_ids + (2^15 x + y) mod num_buckets,  n = 2 ... max_ngram
        y = (h_2 + h_1^2) mod p_2,  x = (h_1 + y^2) mod p_1
        h_i = (m_i^(n-1) w_1 + ... + m_i w_{n-1} + w_n) mod p_i,  p_i primes just below 2^15

    A word keeps a bucket of its own; longer n-grams may meet others in theirs. None spans padding.

    Source: Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning"; each
    n-gram once, however often it occurs: Wang & Manning 2012, "Baselines and Bigrams".

    Args:
        num_ids: ids that there are, 0, which is padding, among them.
        max_ngram: N, the words of the longest n-grams.
        num_buckets: buckets for n-grams of two words and more.

    Call arguments:
        inputs: `int[B, T]`, 0 being padding.

    Returns:
        `int32[B, N * T]`, in rising order but for zeros, which stand where an n-gram would touch
        padding or is a repeat.

    Raises:
        ValueError: if an argument is not positive, or buckets are more than int32 counts.

    Example:
        >>> import numpy as np
        >>> ids = np.array([[5, 7, 5, 7, 0]], "int32")
        >>> buckets = ops.convert_to_numpy(HashedNgrams(9, 2, 101)(ids))
        >>> buckets[buckets > 0].tolist()
        [5, 7, 54, 87]
    """

    def __init__(
        self, num_ids: int, max_ngram: int = 2, num_buckets: int = 2**18, **kwargs: Any
    ) -> None:
        check_positive("num_ids", num_ids)
        check_positive("max_ngram", max_ngram)
        check_positive("num_buckets", num_buckets)
        if num_ids + num_buckets > 2**30:
            raise ValueError(
                f"arguments `num_ids` and `num_buckets` must be at most {2**30} together, not "
                f"{num_ids} and {num_buckets}"
            )
        super().__init__(**kwargs)
        self.num_ids = int(num_ids)
        self.max_ngram = int(max_ngram)
        self.num_buckets = int(num_buckets)

    def call(self, inputs: Any) -> Any:
        """Hashes, then sorts each row: repeats are neighbours there."""
        ids = ops.cast(inputs, "int32")
        behind = self.max_ngram - 1
        padded = ops.pad(ids, ((0, 0), (0, behind)))  # int32[B, T + N - 1]
        hashes = [ops.mod(ids, prime) for prime in _PRIMES]  # int32[B, T] each
        whole = ids > 0
        buckets = [ops.where(whole, ids, 0)]
        for further in range(1, self.max_ngram):
            # From the end, for T may be unknown.
            word = padded[:, further : further - behind or None]  # int32[B, T]
            whole = ops.logical_and(whole, word > 0)
            hashes = [
                ops.mod(ops.mod(before * multiplier, prime) + word, prime)
                for before, multiplier, prime in zip(hashes, _MULTIPLIERS, _PRIMES, strict=True)
            ]
            bucket = ops.mod(_mixed(*hashes), self.num_buckets) + self.num_ids  # int32[B, T]
            buckets.append(ops.where(whole, bucket, 0))
        ordered = ops.sort(ops.concatenate(buckets, axis=1), axis=1)  # int32[B, N * T]
        before = ops.pad(ordered, ((0, 0), (1, 0)))[:, :-1]  # int32[B, N * T]
        return ops.where(ordered == before, 0, ordered)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """N times as many steps."""
        rows, steps = input_shape
        return (rows, None if steps is None else self.max_ngram * steps)

    def compute_output_spec(self, inputs: Any) -> Any:
        """Buckets are whole numbers, whatever the layer's type."""
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype="int32")

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        own = {
            "num_ids": self.num_ids,
            "max_ngram": self.max_ngram,
            "num_buckets": self.num_buckets,
        }
        return {**super().get_config(), **own}


def _mixed(high: Any, low: Any) -> Any:
    """One number below 2^30 of two below 2^15; what was linear in the words no longer is."""
    # Neighbouring ids would else fill the buckets in a pattern, some twice as often as others.
    low = ops.mod(low + high * high, _PRIMES[1])
    high = ops.mod(high + low * low, _PRIMES[0])
    return high * 2**15 + low
