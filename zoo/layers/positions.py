"""Where a step stands in its sequence, told to layers that would not know."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from zoo.layers.arguments import check_above, check_positive


@keras.saving.register_keras_serializable(package="zoo")
class SinusoidalPositions(keras.layers.Layer):
    """Adds sines and cosines of each step's position; nothing is learnt, any length works.

        output[b, t] = input_scale * inputs[b, t] + PE[t]
        PE[t, 2i] = sin(t / max_wavelength^(2i / D)),  PE[t, 2i + 1] = cos(the same)

    Source: Vaswani et al. 2017, "Attention Is All You Need", sections 3.4 and 3.5.

    Args:
        max_wavelength: the longest wave, as a multiple of 2 pi steps.
        input_scale: what the inputs are multiplied by; √D for an embedding's vectors, whose numbers
            begin so small that the waves, of size 1, would leave nothing to be seen of the words.

    Call arguments:
        inputs: `float[B, T, D]`.
        first: the place of the first step; an int, or a whole tensor of no axes.
        limit: a number that no step's place reaches, needed where `first` is a tensor and the
            backend is not TensorFlow.

    Returns:
        `float[B, T, D]`, with the inputs' mask.

    Raises:
        ValueError: if `max_wavelength` is not above one, `input_scale` is not above 0, or the
            inputs have not three axes.

    Example:
        >>> SinusoidalPositions()(ops.zeros((1, 3, 4)))[0, 0].shape == (4,)
        True
    """

    def __init__(
        self, max_wavelength: float = 10_000.0, input_scale: float = 1.0, **kwargs: Any
    ) -> None:
        check_above("max_wavelength", max_wavelength, 1)
        check_above("input_scale", input_scale, 0)
        super().__init__(**kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.supports_masking = True
        self.max_wavelength = max_wavelength
        self.input_scale = input_scale

    def call(self, inputs: Any, first: Any = 0, limit: int | None = None) -> Any:
        """Adds the positions."""
        if self.input_scale != 1:
            inputs = inputs * ops.cast(self.input_scale, inputs.dtype)
        size = inputs.shape[-1]
        pairs = np.arange(size) // 2  # int[D]
        frequencies = np.exp(-math.log(self.max_wavelength) * 2 * pairs / size)  # float[D]
        # A cosine is a sine a quarter of a wave ahead.
        phases = np.where(np.arange(size) % 2, math.pi / 2, 0.0)  # float[D]
        length = ops.shape(inputs)[1]
        # In float64, for in float32 the angle of step 1,000 is off by more than 1e-5.
        if isinstance(length, int) and isinstance(first, int):
            steps = np.arange(first, first + length)[:, None]  # int[T, 1]
            waves = np.sin(steps * frequencies + phases)  # float64[T, D]
        elif limit is None:  # a graph of TensorFlow's: elsewhere every length is known
            places = ops.arange(length, dtype="int32") + ops.cast(first, "int32")  # int32[T]
            waves = ops.sin(ops.cast(places, "float64")[:, None] * frequencies + phases)
        else:
            places = ops.arange(length, dtype="int32") + ops.cast(first, "int32")  # int32[T]
            table = np.sin(np.arange(limit)[:, None] * frequencies + phases)  # float64[limit, D]
            waves = ops.take(table.astype("float32"), places, axis=0)  # float32[T, D]
        return inputs + ops.cast(waves, inputs.dtype)  # float[B, T, D]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The input's shape."""
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        own = {"max_wavelength": self.max_wavelength, "input_scale": self.input_scale}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="zoo")
class LearnedPositions(keras.layers.Layer):
    """Adds a learnt vector for each position.

        output[b, t] = inputs[b, t] + embeddings[t]

    Source: Gehring et al. 2017; Devlin et al. 2018.

    Args:
        max_length: positions that are learnt, in steps.
        embeddings_initializer: of the vectors.

    Call arguments:
        inputs: `float[B, T, D]`, T at most `max_length`.
        first: the place of the first step; an int, or a whole tensor of no axes, for which the
            caller answers: it and T make `max_length` at most.

    Returns:
        `float[B, T, D]`, with the inputs' mask.

    Raises:
        ValueError: if `max_length` is not positive, or if T is known and larger. Where T is known
            only when the graph runs, a longer sequence fails there, in a reshape.

    Example:
        >>> LearnedPositions(5)(ops.zeros((1, 3, 4))).shape == (1, 3, 4)
        True
    """

    def __init__(
        self, max_length: int, embeddings_initializer: Any = "uniform", **kwargs: Any
    ) -> None:
        check_positive("max_length", max_length)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.max_length = max_length
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the vectors for inputs of D features."""
        self.embeddings = self.add_weight(
            shape=(self.max_length, input_shape[-1]),
            name="embeddings",
            initializer=self.embeddings_initializer,
        )

    def call(self, inputs: Any, first: Any = 0) -> Any:
        """Adds the positions."""
        length = ops.shape(inputs)[1]
        if not isinstance(first, int):
            places = ops.arange(length, dtype="int32") + ops.cast(first, "int32")  # int32[T]
            return inputs + ops.take(self.embeddings, places, axis=0)  # float[B, T, D]
        # The shape is said, for a single vector would be added to any number of steps.
        vectors = ops.reshape(
            self.embeddings[first : first + length], (1, length, inputs.shape[-1])
        )
        return inputs + vectors  # float[B, T, D]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The input's shape."""
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, first: Any = 0) -> Any:
        """The symbolic output; here a length that is known is checked."""
        self._check(inputs.shape[1], first)
        return keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Checks the length where it is known, then calls the layer."""
        shape = getattr(inputs, "shape", None)
        if shape is not None and len(shape) == 3:
            self._check(shape[1], kwargs.get("first", args[0] if args else 0))
        return super().__call__(inputs, *args, **kwargs)

    def _check(self, length: int | None, first: Any) -> None:
        if length is None or not isinstance(first, int):
            return
        if first < 0:
            raise ValueError(f"first={first} is no place: it must be at least 0")
        if first + length > self.max_length:
            raise ValueError(
                f"a sequence of {first + length} steps is longer than max_length={self.max_length}"
            )

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        initializer = keras.initializers.serialize(self.embeddings_initializer)
        own = {"max_length": self.max_length, "embeddings_initializer": initializer}
        return {**super().get_config(), **own}
