"""LSTM layers in both reading orders, pooled over time.

Source: Graves & Schmidhuber 2005, "Framewise phoneme classification with bidirectional LSTM".
A size may choose what `zoo.models.lstm` tells of.
"""

import keras

from zoo.models import lstm, parts
from zoo.models.lstm import CHOICES, make_lstm
from zoo.models.search import Space

SIZES = {
    "small": {"embedding_dim": 200, "units": 64, "num_layers": 1, "projection_units": 0},
    "base": {"embedding_dim": 256, "units": 64, "num_layers": 1, "projection_units": 0},
}
SEARCH: Space = lstm.SEARCH


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
    recurrent_dropout_rate: float = 0.0,
) -> keras.Model:
    """Bidirectional LSTM layers, then mean and max over time; see `zoo.models`."""
    chosen = parts.resolve_size(size, SIZES, CHOICES)
    tensors, x = parts.embed(
        inputs,
        chosen["embedding_dim"],
        dropout_rate=dropout_rate,
        word_dropout_rate=word_dropout_rate,
    )
    for layer in range(chosen["num_layers"]):
        x = keras.layers.Bidirectional(
            make_lstm(chosen, recurrent_dropout_rate), name=f"bilstm_{layer}"
        )(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="bilstm")
