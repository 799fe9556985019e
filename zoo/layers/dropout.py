"""Dropout of whole words."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from zoo.layers.arguments import check_positive, check_rate


@keras.saving.register_keras_serializable(package="zoo")
class WordDropout(keras.layers.Layer):
    """Makes words unknown at random in training, so that no single one decides.

        ids'[b, t] = unknown_id with probability `rate`, else ids[b, t]; padding stays padding

    Source: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", who leave the words out; here they stay in their place.

    Args:
        rate: share of the words, in [0, 1].
        unknown_id: the id that stands for a word that is not known.
        seed: of the choice.

    Call arguments:
        inputs: `int[B, T]`, 0 being padding.
        training: whether to drop.

    Returns:
        `int[B, T]`.

    Raises:
        ValueError: if `rate` lies outside [0, 1], or `unknown_id` is not positive.

    Example:
        >>> import numpy as np
        >>> ids = np.array([[5, 7, 0]], "int32")
        >>> ops.convert_to_numpy(WordDropout(1.0)(ids, training=True)).tolist()
        [[1, 1, 0]]
    """

    def __init__(
        self, rate: float, unknown_id: int = 1, seed: int | None = None, **kwargs: Any
    ) -> None:
        check_rate("rate", rate)
        check_positive("unknown_id", unknown_id)  # 0 would make padding of a word
        super().__init__(**kwargs)
        self.supports_masking = True
        self.rate = rate
        self.unknown_id = unknown_id
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Drops in training, and only then."""
        if not training or not self.rate:
            return inputs
        chance = keras.random.uniform(
            ops.shape(inputs), dtype="float32", seed=self.seed_generator
        )  # float32[B, T]
        dropped = ops.logical_and(chance < self.rate, inputs != 0)
        return ops.where(dropped, ops.cast(self.unknown_id, inputs.dtype), inputs)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The input's shape."""
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        """Ids stay ids: the symbolic output has the input's type, not the layer's."""
        return keras.KerasTensor(inputs.shape, dtype=inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        own = {"rate": self.rate, "unknown_id": self.unknown_id, "seed": self.seed}
        return {**super().get_config(), **own}
