"""GELU while a model trains on a processor under TensorFlow."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras

from zoo.layers.own_gradient_fast import own_gradient, plain_loops_wanted
from zoo.layers.xla_fast import inside_xla

# Each size that occurs is compiled, which takes longer than what it saves in one step. So arrays
# are filled up to one of a few: multiples of 2**LEAST, and four from a power of two to the next.
LEAST = 12


def gelu(x: Any, training: Any = None) -> Any:
    """The Gaussian error linear unit, exact.

        gelu(x)  = x Phi(x),   Phi(x) = (1 + erf(x / sqrt(2))) / 2
        gelu'(x) = Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)

    TensorFlow makes these of a dozen operations, each of which reads and writes an array as large
    as a Transformer's widest. While a model trains they are compiled into two, computed in float32
    whatever comes in; a graph that is to answer alone keeps the plain operations. Where sizes may
    change from call to call, the arrays are filled up to one of a few sizes, by a quarter at most.

    Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".

    Args:
        x: `float[...]`.
        training: whether the model trains.

    Returns:
        As `keras.activations.gelu`, of the shape and type of `x`.

    Example:
        >>> [round(float(y), 4) for y in gelu(keras.ops.convert_to_tensor([-1.0, 0.0, 1.0]), True)]
        [-0.1587, 0.0, 0.8413]
    """
    if training is not True or not _takes(x):
        return keras.activations.gelu(x)
    forward, backward = _compiled()

    def run(x: Any) -> Any:
        def gradient(upstream: Any) -> Any:
            return _cut(backward(_filled_up(x), _filled_up(upstream)), x)

        return _cut(forward(_filled_up(x)), x), gradient

    return own_gradient(run, x)


def _takes(x: Any) -> bool:
    if keras.backend.backend() != "tensorflow" or plain_loops_wanted():
        return False
    import tensorflow as tf

    if not isinstance(x, tf.Tensor) or x.dtype not in (tf.float32, tf.bfloat16, tf.float16):
        return False
    return not (inside_xla() or tf.config.list_logical_devices("GPU"))


def _filled_up(x: Any) -> Any:
    """All numbers in one row, and zeros behind them if other calls may bring more or fewer."""
    import tensorflow as tf

    flat = tf.reshape(x, [-1])
    if x.shape.is_fully_defined() and not tf.executing_eagerly():
        return flat
    return tf.pad(flat, [[0, _missing(tf.size(x))]])


def _missing(count: Any) -> Any:
    """How many numbers these, `int32[...]`, lack to the next size that is compiled."""
    import tensorflow as tf

    double = tf.math.log(tf.cast(tf.maximum(count, 1), tf.float64)) / math.log(2.0)
    unit = tf.bitwise.left_shift(1, tf.maximum(tf.cast(double, tf.int32) - 2, LEAST))
    return -count % unit


def _cut(flat: Any, x: Any) -> Any:
    """The inverse of `_filled_up`, in the shape of `x`."""
    import tensorflow as tf

    return tf.ensure_shape(tf.reshape(flat[: tf.size(x)], tf.shape(x)), x.shape)


@functools.cache
def _compiled() -> tuple[Callable, Callable]:
    """GELU, and what it makes of an input and the gradient of its result."""
    import tensorflow as tf

    def below(x: Any) -> Any:
        return 0.5 * (1.0 + tf.math.erf(x * math.sqrt(0.5)))

    @tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
    def forward(x: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        return tf.cast(wide * below(wide), x.dtype)

    @tf.function(jit_compile=True, autograph=False, reduce_retracing=True)
    def backward(x: Any, upstream: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        density = tf.exp(-0.5 * wide * wide) * (1.0 / math.sqrt(2.0 * math.pi))
        slope = below(wide) + wide * density
        return tf.cast(tf.cast(upstream, tf.float32) * slope, x.dtype)

    return forward, backward
