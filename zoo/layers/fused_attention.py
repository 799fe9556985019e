"""Attention by the one kernel that a backend has for it on a GPU."""

import functools
from typing import Any

import keras
from keras import ops

from zoo.layers.attention_masks import both, step_mask


def fuses(
    query: Any, key: Any, value: Any, soft_cap: float | None, flash_attention: bool | None
) -> bool:
    """Whether `fused_attention` is the way to go: on a GPU, or where it is insisted on.

    Args:
        query: `float[B, T, H, K]`.
        key: `float[B, S, G, K]`.
        value: `float[B, S, G, V]`.
        soft_cap: of the scores; these kernels have none.
        flash_attention: whether the user insists.

    """
    if soft_cap is not None or not (flash_attention or _on_gpu(query)):
        return False
    # JAX's kernel knows one size of a head alone, and may say so to whom insists on it.
    return (
        bool(flash_attention)
        or keras.backend.backend() != "jax"
        or key.shape[-1] == value.shape[-1]
    )


def fused_attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    scale: float,
    mask: Any = None,
    bias: Any = None,
    causal: bool = False,
    window: int | None = None,
    flash_attention: bool | None = None,
) -> Any:
    """The context `float[B, T, H, V]` of `zoo.layers.dot_product.portable_attention`.

    Args:
        query: `float[B, T, H, K]`.
        key: `float[B, S, G, K]`, G a divisor of H.
        value: `float[B, S, G, V]`.
        scale: factor of the scores.
        mask: true or non-zero where attending is allowed; must broadcast to `[B, H, T, S]`.
        bias: added to the scores; must broadcast to `[B, H, T, S]`.
        causal: whether a query sees no step after its own.
        window: how many steps, itself included, a query sees to either side.
        flash_attention: whether to insist on flash attention, or, `False`, to do without.

    Returns:
        The context.
    """
    mask = None if mask is None else ops.cast(mask, "bool")
    # The kernel's own causal mask costs nothing, but goes with no other.
    if not (causal and mask is None and bias is None and window is None):
        rows, columns = (ops.shape(side)[1] for side in (query, key))
        mask, causal = both(mask, step_mask(rows, columns, (1,), causal, window, 4)), False
    allowed = mask
    if bias is not None and mask is not None:
        # PyTorch takes one of them.
        dtype = keras.backend.standardize_dtype(query.dtype)
        bias = ops.where(mask, ops.cast(bias, dtype), -6e4 if dtype == "float16" else -1e30)
        mask = None
    heads, groups = query.shape[2], key.shape[2]
    if heads != groups and keras.backend.backend() != "jax":
        key, value = (ops.repeat(side, heads // groups, axis=2) for side in (key, value))
    context = ops.dot_product_attention(
        query,
        key,
        value,
        bias=bias,
        mask=mask,
        scale=scale,
        is_causal=causal,
        flash_attention=flash_attention,
    )  # [B, T, H, V]
    if allowed is None:
        return context
    # The kernels average over what a row without anything to attend to must not see.
    seen = ops.expand_dims(ops.any(allowed, axis=-1), -1)  # bool[B, H, T, 1]
    return ops.where(ops.transpose(seen, (0, 2, 1, 3)), context, 0.0)  # [B, T, H, V]


def _on_gpu(tensor: Any) -> bool:
    if keras.backend.backend() == "torch":
        return tensor.device.type == "cuda"
    return _has_gpu()


@functools.cache
def _has_gpu() -> bool:
    return any(device.startswith(("gpu", "cuda")) for device in keras.distribution.list_devices())
