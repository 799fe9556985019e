"""What a configuration makes of a model that is to be trained, on any backend."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from zoo.errors import UsageError
from zoo.layers import LearnedPositions

POLICIES = {"none": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# Weights that decay would only hurt, by the names that Keras gives them.
_NOT_DECAYED = ("bias", "gamma", "beta", "embeddings")


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Lets layers that are made meanwhile have a policy: a value of `POLICIES`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def not_decayed(model: keras.Model) -> list[keras.Variable]:
    """The weights of a model that weight decay leaves alone."""
    return [v for v in model.trainable_variables if v.name in _NOT_DECAYED]


def refuse_longer_texts(config: Any, model: keras.Model) -> None:
    """Makes sure that a model has a position for every token that a text may have.

    Args:
        config: of the run, with `size` and `max_length`.
        model: made of it.

    Raises:
        UsageError: if it has fewer.
    """
    for layer in model.layers:
        if isinstance(layer, LearnedPositions) and config.max_length > layer.max_length:
            raise UsageError(
                f"--size={config.size} --max_length={config.max_length} cannot work: the model "
                f"has {layer.max_length} positions"
            )
