"""A mask made from lengths."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class LengthMask(keras.layers.Layer):
    """Passes a track of features on, with the Keras mask that its lengths imply.

        mask[b, t] = t < lengths[b]

    Call arguments:
        inputs: the pair `(features, lengths)`, `float[B, T, D]` and `int32[B]` in steps.

    Returns:
        `features`, its Keras mask set to `bool[B, T]`, true where a step is real.

    Example:
        >>> import numpy as np
        >>> layer = LengthMask()
        >>> pair = [np.ones((2, 3, 5), "float32"), np.array([1, 3], "int32")]
        >>> np.asarray(keras.ops.convert_to_numpy(layer.compute_mask(pair))).tolist()
        [[True, False, False], [True, True, True]]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Nothing to make: the layer has no weights."""

    def call(self, inputs: Any) -> Any:
        """Returns the features; `compute_mask` gives them their mask."""
        features, _ = inputs
        return features

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns `bool[B, T]`, true where a step lies within its row's length."""
        features, lengths = inputs
        # Counted, not `arange`: the number of steps is unknown while a model is put together.
        ordinal = ops.cumsum(ops.ones_like(features[..., 0], dtype="int32"), axis=1)  # int32[B, T]
        return ordinal <= ops.cast(lengths, "int32")[:, None]  # bool[B, T]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the features."""
        return input_shape[0]
