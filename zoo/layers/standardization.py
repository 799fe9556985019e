"""Features measured on one scale."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="zoo")
class Standardization(keras.layers.Layer):
    """Each feature without its mean, in units of its standard deviation.

        output = (inputs - mean) / deviation

    Both are measured by `adapt_to_tracks`, once and before training, over all real steps; until
    then they are 0 and 1. A feature that never changes has the deviation 1. Unlike
    `keras.layers.Normalization`, it knows padding, and what it measured are weights like others,
    which go by `set_weights` and through checkpoints. It computes in float32 whatever the layer's
    type: far from zero, half precision has no room for a deviation.

    Call arguments:
        inputs: `float[..., D]`.

    Returns:
        `float[..., D]`, with the inputs' mask.

    Example:
        >>> layer = Standardization()
        >>> tracks = np.array([[[1.0], [3.0], [99.0]]], "float32")
        >>> layer.adapt_to_tracks([(tracks, np.array([2], "int32"))])
        >>> ops.convert_to_numpy(layer(tracks)).ravel().tolist()
        [-1.0, 1.0, 97.0]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_masking = True

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the mean and the deviation of D features."""
        settings = {"shape": (input_shape[-1],), "trainable": False, "autocast": False}
        self.mean = self.add_weight(name="mean", initializer="zeros", **settings)
        self.deviation = self.add_weight(name="deviation", initializer="ones", **settings)

    def adapt_to_tracks(self, batches: Iterable[tuple[Any, Any]]) -> None:
        """Measures the features.

        Args:
            batches: all tracks that there are to learn from: `float[B, T, D]`, and their lengths in
                steps, `int[B]`. Nothing is changed if they hold no step.
        """
        count, total, squares = 0, np.zeros(()), np.zeros(())
        shift = None
        for features, lengths in batches:
            features = np.asarray(ops.convert_to_numpy(features), "float64")
            lengths = ops.convert_to_numpy(lengths)
            steps = features[np.arange(features.shape[1]) < lengths[:, None]]  # float64[N, D]
            if not len(steps):
                continue
            # Near the mean, so that the difference of two sums of squares loses nothing.
            shift = steps.mean(0) if shift is None else shift
            count += len(steps)
            total = total + (steps - shift).sum(0)
            squares = squares + ((steps - shift) ** 2).sum(0)
        if shift is None:
            return
        if not self.built:
            self.build((None, None, len(shift)))
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        # What rounding leaves of a constant is no deviation.
        constant = deviation <= 1e-6 * np.maximum(abs(shift + mean), 1e-30)
        self.mean.assign((shift + mean).astype("float32"))
        self.deviation.assign(np.where(constant, 1.0, deviation).astype("float32"))

    def call(self, inputs: Any) -> Any:
        """Shifts and scales."""
        precise = keras.backend.result_type(inputs.dtype, "float32")
        mean, deviation = (ops.cast(w, precise) for w in (self.mean, self.deviation))
        return ops.cast((ops.cast(inputs, precise) - mean) / deviation, self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> Any:
        """The input's shape, in the layer's type."""
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The input's shape."""
        return tuple(input_shape)
