"""Scaled dot-product attention as a pure function, along any axes."""

import math
import string
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from zoo.layers.attention_fast import blocked_attention, takes
from zoo.layers.attention_masks import both, step_mask
from zoo.layers.fused_attention import fused_attention, fuses


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
        key: `float[B, S, G, K]`, G a divisor of H: as many queries' heads share one of these.
        value: `float[B, S, G, V]`.
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
    return portable_attention(query, key, value, scale=scale, mask=mask, dropout=dropout)


def attend(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float | None = None,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: int | None = None,
    soft_cap: float | None = None,
    dropout: Callable[[Any], Any] | None = None,
    axes: tuple[int, ...] = (1,),
    return_weights: bool = False,
    flash_attention: bool | None = None,
) -> tuple[Any, Any]:
    """What `portable_attention` gives, the fastest way there is to it.

    Args:
        query: as there, and so all others but the last two.
        key: as there.
        value: as there.
        scale: as there.
        mask: as there.
        bias: as there.
        causal: as there.
        window: as there.
        soft_cap: as there.
        dropout: as there.
        axes: as there.
        return_weights: whether the weights will be used.
        flash_attention: whether to insist on the backend's flash attention, where it can do what
            is asked, or, `False`, to do without.

    Returns:
        The context, and the weights or, where they are not asked for, `None`.

    Example:
        >>> one = ops.ones((1, 3, 1, 2))
        >>> context, weights = attend(one, one, one, causal=True)
        >>> tuple(context.shape), weights
        ((1, 3, 1, 2), None)
    """
    same = {
        "scale": 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale,
        "mask": mask,
        "bias": bias,
        "causal": causal,
        "window": window,
        "soft_cap": soft_cap,
    }
    if len(query.shape) == 4 and dropout is None and not return_weights:
        if fuses(query, key, value, soft_cap, flash_attention):
            del same["soft_cap"]
            return fused_attention(query, key, value, flash_attention=flash_attention, **same), None
        if takes(query, key, value, **same):
            return blocked_attention(query, key, value, **same), None
    ordered = causal or window is not None
    alone = len(query.shape) == 4 and query.shape[1] == 1 and key.shape[1] != 0
    if alone and dropout is None and not ordered:
        context, weights = one_query_attention(
            query, key, value, same["scale"], mask, bias, soft_cap
        )
    else:
        context, weights = portable_attention(query, key, value, dropout=dropout, axes=axes, **same)
    return context, weights if return_weights else None


def portable_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float | None = None,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: int | None = None,
    soft_cap: float | None = None,
    dropout: Callable[[Any], Any] | None = None,
    axes: tuple[int, ...] = (1,),
) -> tuple[Any, Any]:
    """Attention along any axes, as its equations have it.

        scores = Q K^T * scale;   scores = soft_cap tanh(scores / soft_cap);   scores += bias
        weights = softmax(scores where mask, 0 elsewhere),   context = weights V

    Sources: Vaswani et al. 2017; the cap, Bello et al. 2016 and Gemma 2, 2024; heads that share
    keys and values, Ainslie et al. 2023.

    Args:
        query: `float[B, T, H, K]`, T standing for all axes of attention and others among them.
        key: `float[B, S, G, K]`, G a divisor of H: head h looks at head `h // (H / G)`.
        value: `float[B, S, G, V]`.
        scale: factor of the scores; `1 / sqrt(K)` if left out.
        mask: true or non-zero where attending is allowed; must broadcast to `[B, H, T, S]`.
        bias: added to the scores; must broadcast to `[B, H, T, S]`.
        causal: whether a query sees no step after its own.
        window: how many steps, itself included, a query sees to either side.
        soft_cap: what no score's size may reach. The bias is added later and has no cap, so that
            it can rule out what it must.
        dropout: applied to the weights before the values are averaged.
        axes: the axes of attention.

    Returns:
        The context `float[B, T, H, V]`, and the weights before dropout, `float[B, H, T, S]`.

    Example:
        >>> one = ops.ones((1, 3, 4, 2))
        >>> context, weights = portable_attention(one, one[:, :, :2], one[:, :, :2], causal=True)
        >>> weights.shape == (1, 4, 3, 3), float(weights[0, 3, 0, 0])
        (True, 1.0)
    """
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    heads, groups = query.shape[-2], key.shape[-2]
    equations = einsum_equations(len(query.shape), axes, grouped=groups != heads)
    query = query * ops.cast(scale, query.dtype)
    scores = ops.einsum(equations[0], _split(query, -2, groups), key)  # [B, G, H/G, T, S]
    place = -2 * len(axes) - 1
    scores = _join(scores, place, heads, groups)  # [B, H, T, S]
    mask = None if mask is None else ops.cast(mask, "bool")
    rows, columns = (ops.shape(side)[axes[0]] for side in (query, key))
    rank = len(query.shape) - 1 + len(axes)
    mask = both(mask, step_mask(rows, columns, axes, causal, window, rank))
    weights = _weights(scores, mask, bias, soft_cap, axes)  # [B, H, T, S]
    used = weights if dropout is None else dropout(weights)
    context = ops.einsum(equations[1], _split(used, place, groups), value)  # [B, T, G, H/G, V]
    return _join(context, -2, heads, groups), weights  # [B, T, H, V]


def one_query_attention(
    query: Any, key: Any, value: Any, scale: float, mask: Any, bias: Any, soft_cap: float | None
) -> tuple[Any, Any]:
    """What `portable_attention` gives for one query, each head's keys and values as they stand.

    An einsum would turn all of them, which takes longer than the products.

    Args:
        query: `float[B, 1, H, K]`.
        key: `float[B, S, G, K]`, of which a cache has each head's steps behind one another.
        value: `float[B, S, G, V]`, likewise.
        scale: as there, and so all others.
        mask: as there; `None` for none.
        bias: as there; `None` for none.
        soft_cap: as there; `None` for none.

    Returns:
        The context `float[B, 1, H, V]`, and the weights, `float[B, H, 1, S]`.

    Example:
        >>> one = ops.ones((1, 3, 4, 2))
        >>> context, weights = one_query_attention(one[:, :1], one, one, 1.0, None, None, None)
        >>> tuple(context.shape), tuple(weights.shape)
        ((1, 1, 4, 2), (1, 4, 1, 3))
    """
    batch = ops.shape(query)[0]
    heads, size = query.shape[2:]
    groups, columns = key.shape[2], ops.shape(key)[1]
    query = query * ops.cast(scale, query.dtype)
    query = ops.reshape(query, (batch, groups, heads // groups, size))
    key, value = (ops.transpose(side, (0, 2, 1, 3)) for side in (key, value))  # [B, G, S, K]
    scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))  # [B, G, H/G, S]
    scores = ops.reshape(scores, (batch, heads, 1, columns))
    weights = _weights(scores, None if mask is None else ops.cast(mask, "bool"), bias, soft_cap)
    shared = ops.reshape(weights, (batch, groups, heads // groups, columns))
    context = ops.matmul(shared, value)  # [B, G, H/G, V]
    return ops.reshape(context, (batch, 1, heads, value.shape[-1])), weights


def _weights(
    scores: Any, mask: Any, bias: Any, soft_cap: float | None, axes: tuple[int, ...] = (1,)
) -> Any:
    """The weights of attention, `float[B, H, T, S]`, in the scores' type."""
    # Half precision is too coarse for the sum of a row.
    weights = ops.cast(scores, keras.backend.result_type(scores.dtype, "float32"))
    if keras.backend.standardize_dtype(scores.dtype) == "float16":
        # Two scores beyond its largest number would be infinity less infinity in the softmax.
        weights = ops.clip(weights, -65_504.0, 65_504.0)
    if soft_cap is not None:
        weights = soft_cap * ops.tanh(weights / soft_cap)
    if bias is not None:
        weights = weights + ops.cast(bias, weights.dtype)
    if mask is not None:
        # Finite, so that a row of nothing but masked scores is no row of NaN on the way.
        weights = ops.where(mask, weights, -1e30)
    weights = softmax(weights, tuple(range(-len(axes), 0)))
    if mask is not None:
        weights = ops.where(mask, weights, 0.0)
    return ops.cast(weights, scores.dtype)


def _split(x: Any, place: int, groups: int) -> Any:
    """The heads at `place` as two axes, `[G, H / G]`, if there are fewer groups than heads."""
    shape = list(ops.shape(x))
    if x.shape[place] == groups:
        return x
    shape[place : place + 1 or None] = [groups, x.shape[place] // groups]
    return ops.reshape(x, shape)


def _join(x: Any, place: int, heads: int, groups: int) -> Any:
    """The inverse of `_split`."""
    if heads == groups:
        return x
    shape = list(ops.shape(x))
    shape[place - 1 : place + 1 or None] = [heads]
    return ops.reshape(x, shape)


def softmax(scores: Any, axes: tuple[int, ...]) -> Any:
    """Exponentials over their sum along `axes`, negative ones.

    `keras.ops.softmax` takes no negative axes in a tuple, warns where an axis has one step, and
    fails on TensorFlow for more than five axes.

    Example:
        >>> ops.convert_to_numpy(softmax(ops.ones((1, 2, 2)), (-2, -1))).tolist()
        [[[0.25, 0.25], [0.25, 0.25]]]
    """
    if axes == (-1,) and scores.shape[-2] == 1 and scores.shape[-1] != 0:
        # Of one query, TensorFlow's own spends most of its time waking threads.
        powers = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        return powers / ops.sum(powers, axis=-1, keepdims=True)
    if axes == (-1,) and scores.shape[-1] != 1 and len(scores.shape) <= 5:
        return ops.softmax(scores, axis=-1)
    return ops.exp(scores - ops.logsumexp(scores, axis=axes, keepdims=True))


def einsum_equations(rank: int, axes: tuple[int, ...], grouped: bool = False) -> tuple[str, str]:
    """The einsum equations of scores and context for projections of `rank` axes.

    Args:
        rank: how many axes a projection has.
        axes: the axes of attention.
        grouped: whether the query's heads are two axes, those of the key and what shares one.

    Example:
        >>> einsum_equations(4, (1,))
        ('abcd,aecd->acbe', 'acbe,aecf->abcf')
        >>> einsum_equations(4, (1,), grouped=True)
        ('abczd,aecd->aczbe', 'aczbe,aecf->abczf')
    """
    letters = string.ascii_lowercase
    query = letters[:rank]
    fresh = iter(letters[rank:])
    key = "".join(next(fresh) if axis in axes else letter for axis, letter in enumerate(query))
    channel = next(fresh)
    batch = "".join(letter for axis, letter in enumerate(query[:-2]) if axis not in axes)
    head = query[-2] + "z" if grouped else query[-2]
    steps = "".join(query[axis] for axis in axes) + "".join(key[axis] for axis in axes)
    scores, context = batch + head + steps, query[:-2] + head
    return (
        f"{context}{query[-1]},{key}->{scores}",
        f"{scores},{key[:-1]}{channel}->{context}{channel}",
    )
