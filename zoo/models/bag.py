"""Averaged embeddings: no order at all, and so the baseline of every sequence model.

Source: Iyyer et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text
Classification", without its hidden layers.
"""

import keras

from zoo.models import parts
from zoo.models.search import COMMON, Choice, Space

SIZES = {"small": {"embedding_dim": 200}, "base": {"embedding_dim": 256}}
SEARCH: Space = {**COMMON, "size.embedding_dim": Choice((100, 200, 300))}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
    recurrent_dropout_rate: float = 0.0,
) -> keras.Model:
    """Mean of the embeddings, then one linear layer; see `zoo.models` for the arguments."""
    parts.refuse_recurrent_dropout(recurrent_dropout_rate)
    numbers = parts.resolve_size(size, SIZES)
    tensors, x = parts.embed(
        inputs,
        numbers["embedding_dim"],
        dropout_rate=dropout_rate,
        word_dropout_rate=word_dropout_rate,
    )
    return parts.classify(
        tensors, x, num_classes, dropout_rate=dropout_rate, pooling=("mean",), name="bag"
    )
