"""Scaled dot-product attention as a pure function, along any axes."""

import math
import string
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    *,
    scale: float | None = None,
    dropout: Callable[[Any], Any] | None = None,
) -> tuple[Any, Any]:
    """Each query's average of the values, weighted by how well their keys match it.

        weights = softmax(Q K^T * scale),   context = weights V

    The rows of the weights sum to one; a query that may attend to nothing has weights of zero and
    a context of zero, never NaN and never an average over what it must not see. The softmax is
    computed in float32 at least, whatever the inputs' type.

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1.

    Args:
        query: `float[B, T, H, K]`.
        key: `float[B, S, H, K]`.
        value: `float[B, S, H, V]`.
        mask: true or non-zero where attending is allowed; anything that broadcasts to
            `[B, H, T, S]`.
        scale: factor of the scores; `1 / sqrt(K)` if left out.
        dropout: applied to the weights before the values are averaged.

    Returns:
        The context `float[B, T, H, V]` and the weights before dropout, `float[B, H, T, S]`.

    Example:
        >>> one = ops.ones((1, 3, 1, 2))
        >>> context, weights = scaled_dot_product_attention(one, one, one)
        >>> tuple(context.shape), tuple(weights.shape)
        ((1, 3, 1, 2), (1, 1, 3, 3))
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    equations = ("bthk,bshk->bhts", "bhts,bshv->bthv")
    return attend(query, key, value, mask, scale, dropout, equations, 1)


def attend(
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    scale: float,
    dropout: Callable[[Any], Any] | None,
    equations: tuple[str, str],
    key_axes: int,
) -> tuple[Any, Any]:
    """Attention along any axes, as `equations` for these axes has it.

    Args:
        query: projected queries, heads and sizes last.
        key: projected keys.
        value: projected values.
        mask: true or non-zero where attending is allowed; must broadcast to the scores.
        scale: factor of the scores.
        dropout: applied to the weights before the values are averaged.
        equations: of the scores and of the context.
        key_axes: how many of the scores' last axes a softmax sums over.

    Returns:
        The context, and the weights before dropout.
    """
    scores = ops.einsum(equations[0], query * ops.cast(scale, query.dtype), key)  # [B, H, T, S]
    # Half precision is too coarse for the sum of a row.
    weights = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    if keras.backend.standardize_dtype(scores.dtype) == "float16":
        # Two scores beyond its largest number would be infinity less infinity in the softmax.
        weights = ops.clip(weights, -65_504.0, 65_504.0)
    if mask is not None:
        mask = ops.cast(mask, "bool")
        # Finite, so that a row of nothing but masked scores is no row of NaN on the way.
        weights = ops.where(mask, weights, -1e30)
    weights = softmax(weights, tuple(range(-key_axes, 0)))
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)
    weights = ops.cast(weights, query.dtype)  # [B, H, T, S]
    used = weights if dropout is None else dropout(weights)
    return ops.einsum(equations[1], used, value), weights  # [B, T, H, V]


def softmax(scores: Any, axes: tuple[int, ...]) -> Any:
    """Exponentials over their sum along `axes`, negative ones.

    `keras.ops.softmax` takes no negative axes in a tuple, warns where an axis has one step, and
    fails on TensorFlow for more than five axes.

    Example:
        >>> ops.convert_to_numpy(softmax(ops.ones((1, 2, 2)), (-2, -1))).tolist()
        [[[0.25, 0.25], [0.25, 0.25]]]
    """
    if axes == (-1,) and scores.shape[-1] != 1 and len(scores.shape) <= 5:
        return ops.softmax(scores, axis=-1)
    return ops.exp(scores - ops.logsumexp(scores, axis=axes, keepdims=True))


def einsum_equations(rank: int, axes: tuple[int, ...]) -> tuple[str, str]:
    """The einsum equations of scores and context for projections of `rank` axes.

    Example:
        >>> einsum_equations(4, (1,))
        ('abcd,aecd->acbe', 'acbe,aecf->abcf')
    """
    letters = string.ascii_lowercase
    query = letters[:rank]
    fresh = iter(letters[rank:])
    key = "".join(next(fresh) if axis in axes else letter for axis, letter in enumerate(query))
    channel = next(fresh)
    batch = "".join(letter for axis, letter in enumerate(query[:-2]) if axis not in axes)
    steps = "".join(query[axis] for axis in axes) + "".join(key[axis] for axis in axes)
    scores = batch + query[-2] + steps
    return f"{query},{key}->{scores}", f"{scores},{key[:-1]}{channel}->{query[:-1]}{channel}"
