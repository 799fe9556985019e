"""A mask made from lengths."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class LengthMask(keras.layers.Layer):
    """Gives a track of features the Keras mask that its lengths imply.

        mask[b, t] = t < lengths[b],   output[b, t] = features[b, t] if mask[b, t] else 0

    Zeros, for what stands behind a track's end may be no number, and 0 * NaN is NaN.

    Call arguments:
        inputs: the pair `(features, lengths)`, `float[B, T, D]` and `int32[B]` in steps.

    Returns:
        `float[B, T, D]` with the Keras mask `bool[B, T]`, true where a step is real; a mask that
        the features bring is heeded besides.

    Raises:
        ValueError: if the features have not three axes, or the lengths not one.

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
        """Checks the shapes; the layer has no weights."""
        features, lengths = input_shape
        if len(features) != 3 or len(lengths) != 1:
            raise ValueError(
                "LengthMask takes features [B, T, D] and lengths [B], not the shapes "
                f"{tuple(features)} and {tuple(lengths)}"
            )

    def call(self, inputs: Any) -> Any:
        """Returns the features within their lengths; `compute_mask` gives them their mask."""
        features, lengths = inputs
        real = ops.expand_dims(self._within(features, lengths), -1)  # bool[B, T, 1]
        # A new tensor: Keras would set the mask on the caller's own.
        return ops.where(real, features, ops.zeros_like(features))  # float[B, T, D]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Returns `bool[B, T]`, true where a step lies within its row's length."""
        mask = self._within(*inputs)
        brought = previous_mask[0] if isinstance(previous_mask, list | tuple) else None
        return mask if brought is None else ops.logical_and(mask, brought)

    def _within(self, features: Any, lengths: Any) -> Any:
        # Counted, not `arange`: the number of steps is unknown while a model is put together.
        ordinal = ops.cumsum(ops.ones_like(features[..., 0], dtype="int32"), axis=1)  # int32[B, T]
        return ordinal <= ops.cast(lengths, "int32")[:, None]  # bool[B, T]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the features."""
        return input_shape[0]
