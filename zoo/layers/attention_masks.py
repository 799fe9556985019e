"""The masks of attention, of every kind and rank, made into one."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def full_rank(mask: Any, axes: Sequence[int], rank: int) -> Any:
    """An attention mask as one of the scores' rank, single heads and further axes put in.

    Args:
        mask: true or non-zero where attending is allowed; `[T, S]`, `[B, T, S]` or
            `[B, H, T, S]`, T and S standing for all axes of attention.
        axes: the axes of attention.
        rank: the scores' rank.

    Returns:
        `bool[B, H, T, S]`, or what broadcasts to it.

    Raises:
        ValueError: if the mask has more axes than the scores, or fewer than attention has.
    """
    if not 2 * len(axes) <= len(mask.shape) <= rank:
        raise ValueError(
            f"attention_mask must have {2 * len(axes)} to {rank} axes, not the shape "
            f"{tuple(mask.shape)}"
        )
    mask = ops.cast(mask, "bool")
    while len(mask.shape) < rank:
        mask = ops.expand_dims(mask, -2 * len(axes) - 1)
    return mask


def side_mask(name: str, mask: Any, axes: Sequence[int], rank: int) -> Any:
    """A mask of a query's, key's or value's steps as one of the scores' rank.

    Args:
        name: `"query_mask"`, `"value_mask"` or `"key_mask"`.
        mask: true or non-zero where a step is real; `[B, T]`, or more axes for inputs of more.
        axes: the axes of attention.
        rank: the inputs' rank.

    Returns:
        `bool[B, 1, T, 1]` for a query, `bool[B, 1, 1, S]` for the others.

    Raises:
        ValueError: if the mask has not one axis fewer than the inputs.
    """
    if len(mask.shape) != rank - 1:
        raise ValueError(f"{name} must have {rank - 1} axes, not the shape {tuple(mask.shape)}")
    others = [axis for axis in range(1, rank - 1) if axis not in axes]
    mask = ops.transpose(ops.cast(mask, "bool"), (0, *others, *axes))  # [B, …, T]
    place = len(others) + 1
    for _ in axes:
        mask = ops.expand_dims(mask, -1 if name == "query_mask" else place)  # [B, …, T, 1]
    return ops.expand_dims(mask, place)  # [B, …, 1, T, 1]


def step_mask(
    query: Any, value: Any, axes: Sequence[int], causal: bool, window: int | None, rank: int
) -> Any:
    """What each query may see by its place alone.

        causal    t >= s
        window    |t - s| < window

    Args:
        query: `[B, T, …]`.
        value: `[B, S, …]`.
        axes: the axes of attention.
        causal: whether a query sees no step after its own.
        window: how many steps, itself included, a query sees to either side.
        rank: the scores' rank.

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
    rows = ops.arange(ops.shape(query)[axes[0]])[:, None]  # int[T, 1]
    columns = ops.arange(ops.shape(value)[axes[0]])[None, :]  # int[1, S]
    mask = None
    if causal:
        mask = rows >= columns  # bool[T, S]
    if window is not None:
        mask = both(mask, ops.abs(rows - columns) < window)  # bool[T, S]
    return full_rank(mask, axes, rank)


def both(first: Any, second: Any) -> Any:
    """True where both masks are; `None` is a mask that is true everywhere."""
    if first is None or second is None:
        return second if first is None else first
    return ops.logical_and(first, second)
