"""Positions told to attention by what is added to its scores."""

import functools
from typing import Any

import numpy as np
from keras import ops


def alibi_slopes(num_heads: int) -> np.ndarray:
    """How much each head minds a step of distance, `float32[H]`.

        slope_h = 2^(-8h / H),   h = 1 ... H,   for H a power of two;

    for others, the slopes of the power of two below, and then every other one of those of the
    power above.

    Source: Press et al. 2022, "Train Short, Test Long: Attention with Linear Biases Enables Input
    Length Extrapolation", section 3, and its code for the other numbers of heads.

    Example:
        >>> alibi_slopes(3).tolist()
        [0.0625, 0.00390625, 0.25]
    """
    power = 1 << (num_heads.bit_length() - 1)
    slopes = 2.0 ** (-8.0 / power * np.arange(1, power + 1))
    between = 2.0 ** (-4.0 / power * np.arange(1, 2 * power, 2))[: num_heads - power]
    return np.concatenate([slopes, between]).astype("float32")


def alibi_bias(num_heads: int, distance: Any) -> Any:
    """What ALiBi adds to the scores: the farther a key, the less it counts.

        bias[h, t, s] = -slope_h |t - s|

    Source: as `alibi_slopes`; the sign of the distance is left out for attention both ways, as
    the authors propose, and makes no difference to causal attention.

    Args:
        num_heads: H.
        distance: `int32[T, S]`, how many steps each key stands before each query.

    Returns:
        `float32[H, T, S]`.

    Example:
        >>> bias = alibi_bias(1, ops.convert_to_tensor([[0, -1], [1, 0]]))
        >>> ops.convert_to_numpy(bias * 256).tolist()
        [[[-0.0, -1.0], [-1.0, -0.0]]]
    """
    far = ops.cast(ops.abs(distance), "float32")  # float32[T, S]
    slopes = ops.convert_to_tensor(alibi_slopes(num_heads))  # float32[H]
    return -slopes[:, None, None] * far[None]


def relative_bias(table: Any, distance: Any, max_distance: int, bidirectional: bool) -> Any:
    """What T5 adds to the scores: a learnt number for each head and range of distances.

        bias[h, t, s] = table[bucket(t - s), h]

    The first half of the buckets stand for one distance each, the second half for ranges that
    grow with the logarithm, up to `max_distance` and all beyond. `bidirectional` gives half of
    the buckets to keys before the query, half to those after it; else all keys after it share
    the bucket of distance 0.

    Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
    Text-to-Text Transformer", section 2.1, and its code for the buckets.

    Args:
        table: `float[N, H]`, N the number of buckets.
        distance: `int32[T, S]`, how many steps each key stands before each query.
        max_distance: from where on all distances are one.
        bidirectional: whether keys after the query have buckets of their own.

    Returns:
        `float[H, T, S]`.

    Example:
        >>> table = ops.convert_to_tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> distance = ops.convert_to_tensor([[0, -1, -2], [1, 0, -1], [2, 1, 0]])
        >>> ops.convert_to_numpy(relative_bias(table, distance, 8, True)).tolist()
        [[[0.0, 3.0, 3.0], [1.0, 0.0, 3.0], [1.0, 1.0, 0.0]]]
    """
    buckets = distance_buckets(table.shape[0], max_distance, bidirectional)
    places = ops.clip(distance, -max_distance, max_distance) + max_distance  # int32[T, S]
    return ops.take(ops.transpose(table), ops.take(buckets, places), axis=1)  # [H, T, S]


@functools.cache
def distance_buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> np.ndarray:
    """The bucket of each distance from `-max_distance` to `max_distance`, `int32[...]`.

    Example:
        >>> distance_buckets(8, 8, False)[8:].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 7]
        >>> distance_buckets(8, 4, True).tolist()
        [7, 7, 6, 5, 0, 1, 2, 3, 3]
    """
    side = num_buckets // 2 if bidirectional else num_buckets
    exact = max(side // 2, 1)
    far = np.arange(max_distance + 1)
    # A little above, so that a power of the base is no less than itself for the logarithm's error.
    growth = np.log(np.maximum(far, exact) / exact) / np.log(max(max_distance / exact, 1 + 1e-9))
    ranges = exact + np.floor(growth * (side - exact) + 1e-9).astype("int32")
    before = np.where(far < exact, far, np.minimum(ranges, side - 1))
    after = side + before[:0:-1] if bidirectional else np.zeros(max_distance, "int32")
    return np.concatenate([after, before]).astype("int32")
