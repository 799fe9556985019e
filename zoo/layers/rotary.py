"""Rotary positions: a query's and a key's place, told by turning them."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops


def rotate(
    x: Any,
    axis: int = 1,
    max_wavelength: float = 10_000.0,
    first: Any = 0,
    limit: int | None = None,
) -> Any:
    """Turns each pair of a head's numbers by an angle that grows with the step.

        y[i]         = x[i] cos(a) - x[i + K/2] sin(a)
        y[i + K/2]   = x[i] sin(a) + x[i + K/2] cos(a)
        a = t / max_wavelength^(2i / K),   i < K/2

    The product of a query and a key, both turned, depends on how far apart they stand, and not on
    where. Pairs are a half of the head apart, as in GPT-NeoX, Llama and KerasHub; the paper's
    stand side by side, which is the same but for the order of a projection's columns.

    Source: Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding".

    Args:
        x: projected queries or keys, `float[B, T, H, K]`, K even.
        axis: of the steps.
        max_wavelength: the longest wave, as a multiple of 2 pi steps.
        first: the place of the first step.
        limit: a number that no step's place reaches, needed where `first` is a tensor and the
            backend is not TensorFlow.

    Returns:
        `float[B, T, H, K]`.

    Example:
        >>> x = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]])
        >>> ops.convert_to_numpy(rotate(x) * 100).astype(int).tolist()
        [[[[100, 0]], [[54, 84]]]]
    """
    half = x.shape[-1] // 2
    # Half precision is too coarse for an angle's sine.
    dtype = keras.backend.result_type(x.dtype, "float32")
    angles = _waves(ops.shape(x)[axis], half, max_wavelength, first, limit)  # float[T, K/2]
    shape = [1] * len(x.shape)
    shape[axis], shape[-1] = ops.shape(x)[axis], half
    cosine, sine = (ops.reshape(ops.cast(wave, dtype), shape) for wave in angles)
    one, other = (ops.cast(part, dtype) for part in (x[..., :half], x[..., half:]))
    turned = [one * cosine - other * sine, one * sine + other * cosine]
    return ops.cast(ops.concatenate(turned, axis=-1), x.dtype)  # [B, T, H, K]


def _waves(
    length: Any, half: int, max_wavelength: float, first: Any, limit: int | None
) -> tuple[Any, Any]:
    """The cosines and sines of all angles, `float[T, K/2]`.

    In float64, for in float32 the angle of step 1,000 is off by more than 1e-5.
    """
    frequencies = np.exp(-math.log(max_wavelength) * np.arange(half) / half)  # float64[K/2]
    if isinstance(length, int) and isinstance(first, int):
        angles = np.arange(first, first + length)[:, None] * frequencies  # float64[T, K/2]
        return np.cos(angles).astype("float32"), np.sin(angles).astype("float32")
    if limit is None:  # a graph of TensorFlow's: elsewhere every length is known
        places = ops.arange(length, dtype="int32") + ops.cast(first, "int32")  # int32[T]
        angles = ops.cast(places, "float64")[:, None] * frequencies  # float64[T, K/2]
        return ops.cos(angles), ops.sin(angles)
    angles = np.arange(limit)[:, None] * frequencies  # float64[limit, K/2]
    places = ops.arange(length, dtype="int32") + ops.cast(first, "int32")  # int32[T]
    waves = (np.cos(angles).astype("float32"), np.sin(angles).astype("float32"))
    cosine, sine = (ops.take(wave, places, axis=0) for wave in waves)  # float32[T, K/2]
    return cosine, sine
