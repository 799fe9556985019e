"""From a sequence of any length to one vector, padding left out."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.layers.arguments import check_choice
from zoo.layers.dot_product import softmax

MODES = ("last", "mean", "max", "attention")


@keras.saving.register_keras_serializable(package="zoo")
class MaskedPooling(keras.layers.Layer):
    """Pools over the steps that a mask leaves; a row without any gives zeros.

        last        the last real step
        mean        sum of the real steps / their number
        max         the largest value of each feature
        attention   sum_t a[t] x[t],  a = softmax_t(w · tanh(W x[t] + b))

    Source of attention pooling: Yang et al. 2016, "Hierarchical Attention Networks for Document
    Classification".

    Args:
        mode: one of the four.

    Call arguments:
        inputs: `float[B, T, D]`.
        mask: `bool[B, T]`, true where a step is real; the inputs' Keras mask if left out.

    Returns:
        `float[B, D]`.

    Raises:
        ValueError: for any other mode.

    Example:
        >>> import numpy as np
        >>> x = np.array([[[1.0], [3.0], [9.0]]], "float32")
        >>> pooled = MaskedPooling("mean")(x, mask=np.array([[True, True, False]]))
        >>> float(pooled[0, 0])
        2.0
    """

    def __init__(self, mode: str = "mean", **kwargs: Any) -> None:
        check_choice("mode", mode, MODES)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.mode = mode

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights of attention pooling; the other modes have none."""
        if self.mode == "attention":
            size = input_shape[-1]
            self.kernel = self.add_weight(
                shape=(size, size), name="kernel", initializer="glorot_uniform"
            )
            self.bias = self.add_weight(shape=(size,), name="bias", initializer="zeros")
            self.query = self.add_weight(
                shape=(size, 1), name="query", initializer="glorot_uniform"
            )

    def call(self, inputs: Any, mask: Any = None) -> Any:
        """Pools over axis 1."""
        if 0 in inputs.shape:
            # Backends know no largest of none; in a graph, where sizes are not known, they do.
            return ops.zeros((ops.shape(inputs)[0], inputs.shape[-1]), dtype=inputs.dtype)
        real = ops.ones_like(inputs[:, :, :1], dtype="bool")  # bool[B, T, 1]
        if mask is not None:
            real = ops.expand_dims(ops.cast(mask, "bool"), -1)  # bool[B, T, 1]
        if self.mode == "max":
            largest = ops.max(ops.where(real, inputs, -math.inf), axis=1)  # [B, D]
            return ops.where(ops.any(real, axis=1), largest, ops.zeros_like(largest))
        if self.mode == "last":
            steps = ops.cumsum(ops.ones_like(real, dtype="int32"), axis=1)  # int32[B, T, 1]
            steps = ops.where(real, steps, 0)
            # Zero is the place of no step: a row without any picks nothing.
            picked = ops.logical_and(real, steps == ops.max(steps, axis=1, keepdims=True))
            return ops.sum(ops.where(picked, inputs, ops.zeros_like(inputs)), axis=1)  # [B, D]
        # Summed in float32 at least: half precision cannot count past 2,048 steps.
        precise = keras.backend.result_type(inputs.dtype, "float32")
        inputs = ops.where(real, inputs, ops.zeros_like(inputs))
        values = ops.cast(inputs, precise)
        weights = ops.cast(real, precise)  # float[B, T, 1]
        if self.mode == "mean":
            total = ops.sum(weights, axis=1)  # float[B, 1]
            pooled = ops.sum(values, axis=1) / ops.where(total == 0, 1.0, total)
        else:
            hidden = ops.tanh(ops.matmul(inputs, self.kernel) + self.bias)  # float[B, T, D]
            scores = ops.cast(ops.matmul(hidden, self.query), precise)  # float[B, T, 1]
            weights *= softmax(ops.where(real, scores, -1e30), (-2,))
            pooled = ops.sum(values * weights, axis=1)
        return ops.cast(pooled, inputs.dtype)  # float[B, D]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """A vector has no steps, and so no mask."""
        return

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The input's shape without its steps."""
        return (input_shape[0], input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        return {**super().get_config(), "mode": self.mode}
