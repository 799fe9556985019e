"""The four gates of an LSTM from one `tanh`, and the weights that this takes.

`sigmoid(x) = (1 + tanh(x / 2)) / 2`: the half inside goes into the weights, which changes no bit of
them. The gates stand in the order i, f, o, c, so that the three sigmoids are neighbours.
"""

from typing import Any

import numpy as np


def scale(units: int) -> np.ndarray:
    """What goes into the weights of each gate, `float32[4U]`."""
    return np.repeat(np.array([0.5, 0.5, 0.5, 1.0], "float32"), units)


def reorder(weights: Any) -> Any:
    """Gates i, f, c, o as i, f, o, c, and the other way round."""
    import tensorflow as tf

    first, second, third, fourth = tf.split(weights, 4, axis=-1)
    return tf.concat([first, second, fourth, third], axis=-1)


def pack(weights: Any) -> Any:
    """Keras's weights `[..., 4U]` as the loop takes them."""
    import tensorflow as tf

    return reorder(weights) * tf.cast(scale(weights.shape[-1] // 4), weights.dtype)


def gates_of(tanh: Any) -> tuple:
    """The gates i, f, o, and the candidate g, of the one `tanh` of all."""
    import tensorflow as tf

    units = tanh.shape[-1] // 4
    sigmoids, candidate = tf.split(tanh, [3 * units, units], axis=1)
    return (*tf.split(sigmoids * 0.5 + 0.5, 3, axis=1), candidate)
