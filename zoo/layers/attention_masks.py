"""The masks of attention, of every kind and rank, made into one."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops


def scores_shape(
    query: Sequence[int | None], value: Sequence[int | None], axes: Sequence[int], heads: int
) -> tuple[int | None, ...]:
    """The shape of attention's scores for inputs of these shapes.

    Example:
        >>> scores_shape((2, 5, 7), (2, 3, 7), (1,), 4)
        (2, 4, 5, 3)
    """
    others = [size for axis, size in enumerate(query[:-1]) if axis not in axes]
    return (*others, heads, *(side[axis] for side in (query, value) for axis in axes))


def full_rank(mask: Any, axes: Sequence[int], shape: Sequence[int | None]) -> Any:
    """An attention mask as one of the scores' rank, single heads and further axes put in.

    A mask of two axes is one of keys, `[B, S]`, unless it can only be one of pairs, `[T, S]`, as
    Keras has it: where its first size is T and is not the batch's. So where T may be the batch's
    size, pass a `[T, S]` mask as `[1, T, S]`.

    Args:
        mask: true or non-zero where attending is allowed; `[B, S]`, `[T, S]`, `[B, T, S]`,
            `[B, 1, T, S]` or `[B, H, T, S]`, T and S standing for all axes of attention. If these
            are more than one, `[B, S]` is not known.
        axes: the axes of attention.
        shape: the scores'.

    Returns:
        `bool[B, H, T, S]`, or what broadcasts to it.

    Raises:
        ValueError: if the mask has more axes than the scores, or fewer than attention has, or does
            not fit the scores.
    """
    mask = ops.convert_to_tensor(mask)
    rank, count, given = len(shape), len(axes), tuple(mask.shape)
    if not 2 * count <= len(given) <= rank:
        raise ValueError(
            f"attention_mask must have {2 * count} to {rank} axes, not the shape {given}"
        )
    mask = ops.cast(mask, "bool")
    if count == 1 and len(given) == 2 and not _is_of_pairs(given[0], shape[0], shape[-2]):
        mask = ops.expand_dims(mask, 1)  # bool[B, 1, S]
    while len(mask.shape) < rank:
        mask = ops.expand_dims(mask, -2 * count - 1)
    check_fits("attention_mask", mask.shape, shape, given)
    return mask


def _is_of_pairs(size: int | None, batch: int | None, steps: int | None) -> bool:
    if size is None or size == batch:
        return False
    # A mask of a size that is known is none of a batch whose size is not.
    return size == steps or (steps is None and batch is None)


def check_fits(
    name: str,
    sizes: Sequence[int | None],
    shape: Sequence[int | None],
    given: Sequence[int | None] | None = None,
) -> None:
    """Raises `ValueError` unless `sizes` broadcast to the scores' `shape`, as far as known.

    Example:
        >>> check_fits("bias", (5, 4), (2, 3, 5, 7))
        Traceback (most recent call last):
        ValueError: bias of the shape (5, 4) does not broadcast to the scores' (2, 3, 5, 7)
    """
    places = zip(reversed(sizes), reversed(shape), strict=False)
    fits = all(None in (size, full) or size in (1, full) for size, full in places)
    if not fits or len(sizes) > len(shape):
        raise ValueError(
            f"{name} of the shape {tuple(given or sizes)} does not broadcast to the scores' "
            f"{tuple(shape)}"
        )


def side_mask(name: str, mask: Any, axes: Sequence[int], shape: Sequence[int | None]) -> Any:
    """A mask of a query's, key's or value's steps as one of the scores' rank.

    Args:
        name: `"query_mask"`, `"value_mask"` or `"key_mask"`.
        mask: true or non-zero where a step is real; `[B, T]`, or more axes for inputs of more.
        axes: the axes of attention.
        shape: the scores'.

    Returns:
        `bool[B, 1, T, 1]` for a query, `bool[B, 1, 1, S]` for the others.

    Raises:
        ValueError: if the mask has not one axis fewer than the inputs, or not their steps.
    """
    mask = ops.convert_to_tensor(mask)
    given, steps = tuple(mask.shape), len(shape) - len(axes) - 1
    if len(given) != steps:
        raise ValueError(f"{name} must have {steps} axes, not the shape {given}")
    others = [axis for axis in range(1, steps) if axis not in axes]
    mask = ops.transpose(ops.cast(mask, "bool"), (0, *others, *axes))  # bool[B, …, T]
    place = len(others) + 1
    for _ in axes:
        mask = ops.expand_dims(mask, -1 if name == "query_mask" else place)  # bool[B, …, T, 1]
    mask = ops.expand_dims(mask, place)  # bool[B, …, 1, T, 1]
    check_fits(name, mask.shape, shape, given)
    return mask


def merged(
    sides: Mapping[str, Any],
    attention_mask: Any,
    axes: Sequence[int],
    shape: Sequence[int | None],
) -> Any:
    """All masks that a caller gives, as one that broadcasts to the scores.

    Args:
        sides: masks of steps by name, as `side_mask` takes them; `None` for none.
        attention_mask: as `full_rank` takes it; `None` for none.
        axes: the axes of attention.
        shape: the scores'.

    Returns:
        `bool[B, H, T, S]`, or what broadcasts to it; `None` if there is no mask.
    """
    mask = None if attention_mask is None else full_rank(attention_mask, axes, shape)
    for name, side in sides.items():
        if side is not None:
            mask = both(mask, side_mask(name, side, axes, shape))
    return mask


def step_mask(
    rows: Any,
    columns: Any,
    axes: Sequence[int],
    causal: bool,
    window: int | None,
    rank: int,
    first: Any = 0,
) -> Any:
    """What each query may see by its place alone.

        causal    t >= s
        window    |t - s| < window

    Args:
        rows: T, how many queries there are.
        columns: S, how many keys there are.
        axes: the axes of attention.
        causal: whether a query sees no step after its own.
        window: how many steps, itself included, a query sees to either side.
        rank: the scores' rank.
        first: the place of the first query.

    Returns:
        `bool[1, 1, T, S]`, or `None` if all may be seen.

    Raises:
        ValueError: if attention runs along more than one axis: its steps then have no order.
    """
    if not causal and window is None:
        return None
    if len(axes) != 1:
        name = "use_causal_mask=True" if causal else f"sliding_window={window}"
        raise ValueError(f"{name} needs one attention axis, not attention_axes={tuple(axes)}")
    distance = distances(rows, columns, first)  # int32[T, S]
    mask = distance >= 0 if causal else None  # bool[T, S]
    if window is not None:
        mask = both(mask, ops.abs(distance) < window)  # bool[T, S]
    for _ in range(rank - 2):
        mask = ops.expand_dims(mask, 0)  # bool[1, 1, T, S]
    return mask


def distances(rows: Any, columns: Any, first: Any = 0) -> Any:
    """How many steps each key stands before each query, `int32[T, S]`.

    Example:
        >>> ops.convert_to_numpy(distances(2, 3, first=1)).tolist()
        [[1, 0, -1], [2, 1, 0]]
    """
    places = ops.arange(rows, dtype="int32") + ops.cast(first, "int32")  # int32[T]
    return ops.expand_dims(places, 1) - ops.expand_dims(ops.arange(columns, dtype="int32"), 0)


def both(first: Any, second: Any) -> Any:
    """True where both masks are; `None` is a mask that is true everywhere."""
    if first is None or second is None:
        return second if first is None else first
    return ops.logical_and(first, second)
