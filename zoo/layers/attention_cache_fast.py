"""One step into attention's cache under TensorFlow, without going over all that stands in it."""

from collections.abc import Sequence
from typing import Any

import keras

from zoo.layers.xla_fast import inside_xla

# More than any cache has places.
_NOWHERE = 2**31 - 2


def takes(cache: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether `write_one` is the way to go: under TensorFlow, for one step.

    XLA would compile it for each place anew.

    Args:
        cache: keys `float[B, G, S, K]`, values `float[B, G, S, V]` and their mask `bool[B, S]`.
        new: the same of T steps instead of S.

    Example:
        >>> from keras import ops
        >>> takes([ops.ones((1, 7))], [ops.ones((1, 4))])
        False
    """
    if keras.backend.backend() != "tensorflow" or new[-1].shape[1] != 1 or inside_xla():
        return False
    import tensorflow as tf

    return all(isinstance(part, tf.Tensor | tf.Variable) for part in (*cache, *new))


def write_one(cache: Sequence[Any], index: Any, new: Sequence[Any]) -> list[Any]:
    """What `zoo.layers.attention_cache.write` gives for one step.

    In a loop, where the cache is no one else's, TensorFlow writes it in place. (It would not with
    `tf.tensor_scatter_nd_update`, which copies all of it.)

    Args:
        cache: keys `float[B, G, S, K]`, values `float[B, G, S, V]` and their mask `bool[B, S]`.
        index: of the step's place; an int or a whole tensor of no axes.
        new: the same of one step instead of S.

    Returns:
        The three parts of another cache.

    Example:
        >>> import tensorflow as tf
        >>> [mask] = write_one([tf.zeros((1, 3), tf.bool)], 1, [tf.ones((1, 1), tf.bool)])
        >>> mask.numpy().tolist()
        [[False, True, False]]
    """
    import tensorflow as tf

    place = tf.cast(index, tf.int32)
    # Else it would be counted from the end.
    place = tf.where(place < 0, _NOWHERE, place)
    parts = []
    for old, some in zip(cache, new, strict=True):
        axis = old.shape.rank // 2  # of the steps
        whole = 2**axis - 1  # each axis before it
        part = tf.raw_ops.TensorStridedSliceUpdate(
            input=old,
            begin=tf.stack([*[0] * axis, place]),
            end=tf.stack([*[0] * axis, place + 1]),
            strides=[1] * (axis + 1),
            value=tf.cast(some, old.dtype),
            begin_mask=whole,
            end_mask=whole,
        )
        parts.append(tf.ensure_shape(part, old.shape))
    return parts
