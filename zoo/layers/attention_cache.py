"""What attention keeps of the steps behind it, so that each is computed once."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

from zoo.layers.arguments import check_positive
from zoo.layers.attention_cache_fast import takes, write_one


class AttentionCache(NamedTuple):
    """Keys and values of the steps so far, and which of them are there.

    A head's steps stand behind one another, as the products of a query with them want it: in the
    order of the projections, all of them would be copied at every step.

    Args:
        key: `float[B, G, S, K]`, turned to their places if positions are rotary.
        value: `float[B, G, S, V]`.
        mask: `bool[B, S]`, true where a step was written and was real.

    Example:
        >>> from zoo.layers import MultiHeadAttention
        >>> cache = MultiHeadAttention(num_heads=4, key_dim=3, num_kv_heads=2).init_cache(1, 7)
        >>> tuple(cache.key.shape), tuple(cache.mask.shape)
        ((1, 2, 7, 3), (1, 7))
    """

    key: Any
    value: Any
    mask: Any


def empty(
    batch_size: Any, max_length: Any, groups: int, sizes: tuple[int, int], dtype: str
) -> AttentionCache:
    """A cache of which no place is written.

    Args:
        batch_size: B, an int, or a whole tensor that a graph of TensorFlow's alone knows.
        max_length: S, likewise.
        groups: G.
        sizes: K and V.
        dtype: of keys and values.

    Raises:
        ValueError: if B or S is an int and not positive.

    Example:
        >>> tuple(empty(1, 7, 2, (3, 5), "float32").value.shape)
        (1, 2, 7, 5)
    """
    for name, size in (("batch_size", batch_size), ("max_length", max_length)):
        if not ops.is_tensor(size):
            check_positive(name, size)
    key, value = (ops.zeros((batch_size, groups, max_length, size), dtype) for size in sizes)
    return AttentionCache(key, value, ops.zeros((batch_size, max_length), "bool"))


def opened(
    cache: Sequence | None,
    index: Any,
    query_shape: Sequence[int | None],
    value_shape: Sequence[int | None],
) -> tuple[AttentionCache | None, Any, int | None]:
    """The cache that a caller passed, checked, and where in it the caller's steps begin.

    A place that is a tensor is not checked: what does not fit is then not kept.

    Args:
        cache: an `AttentionCache`, or what became of one in a saved model, or `None`.
        index: the place of the first step; an int or a tensor.
        query_shape: of the query.
        value_shape: of the value.

    Returns:
        The cache, the place, and how many places there are; without a cache `(None, 0, None)`.

    Raises:
        ValueError: if there is a cache without a place or the other way round, if query and value
            are not the same steps, or if they do not fit in.

    Example:
        >>> opened(empty(1, 3, 1, (1, 1), "float32"), 2, (1, 2, 7), (1, 2, 7))
        Traceback (most recent call last):
        ValueError: cache_index=2 leaves no place for 2 steps in a cache of 3
    """
    if (cache is None) != (index is None):
        given = "None" if cache is None else "AttentionCache(...)"
        raise ValueError(f"cache={given} and cache_index={index} do not go together")
    if cache is None:
        return None, 0, None
    cache = AttentionCache(*cache)
    rows, limit = cache.mask.shape
    length = query_shape[1]
    if len(query_shape) != 3 or (None not in (query_shape[0], rows) and query_shape[0] != rows):
        raise ValueError(
            f"cache of {rows} rows needs a query [{rows}, T, D], not of the shape "
            f"{tuple(query_shape)}"
        )
    if None not in (length, value_shape[1]) and length != value_shape[1]:
        raise ValueError(
            "with a cache, query and value are the same steps, not those of the shapes "
            f"{tuple(query_shape)} and {tuple(value_shape)}"
        )
    if isinstance(index, int) and limit is not None and not 0 <= index <= limit - (length or 1):
        raise ValueError(
            f"cache_index={index} leaves no place for {length} steps in a cache of {limit}"
        )
    return cache, index, limit


def write(
    cache: AttentionCache, index: Any, key: Any, value: Any, mask: Any = None
) -> AttentionCache:
    """The cache with some more steps in it.

    Args:
        cache: of S places.
        index: of the place of the first step; an int or a whole tensor of no axes.
        key: `float[B, T, G, K]`.
        value: `float[B, T, G, V]`.
        mask: true or non-zero where a step is real, `bool[B, T]`; all are if left out.

    Returns:
        Another cache; the one passed stays as it is.

    Example:
        >>> one = ops.ones((1, 1, 1, 1))
        >>> more = write(empty(1, 3, 1, (1, 1), "float32"), 1, one, one)
        >>> ops.convert_to_numpy(more.mask).tolist()
        [[False, True, False]]
    """
    mask = ops.ones(ops.shape(key)[:2], "bool") if mask is None else ops.cast(mask, "bool")
    new = heads_first(key), heads_first(value), mask
    if takes(cache, new):
        return AttentionCache(*write_one(cache, index, new))
    size, length = ops.shape(cache.mask)[1], ops.shape(key)[1]
    # Places are looked up, not sliced: a slice at a place that only the graph knows would take an
    # operation of XLA's in TensorFlow, and JAX would move one that does not fit.
    places = ops.arange(size, dtype="int32") - ops.cast(index, "int32")  # int32[S]
    written = ops.logical_and(places >= 0, places < length)  # bool[S]
    places = ops.clip(places, 0, length - 1)
    parts = []
    for old, some in zip(cache, new, strict=True):
        axis = len(old.shape) // 2  # of the steps
        taken = some if key.shape[1] == 1 else ops.take(some, places, axis=axis)  # [B, G, S, K]
        wide = ops.reshape(written, (size, *(1 for _ in old.shape[axis + 1 :])))  # bool[S, 1]
        parts.append(ops.where(wide, ops.cast(taken, old.dtype), old))
    return AttentionCache(*parts)


def heads_first(x: Any) -> Any:
    """From the order of projections to that of a cache, `[B, S, G, K]` to `[B, G, S, K]`, or back.

    Example:
        >>> tuple(heads_first(ops.ones((1, 7, 2, 3))).shape)
        (1, 2, 7, 3)
    """
    return ops.transpose(x, (0, 2, 1, 3))
