"""LSTM layers in both reading orders, pooled over time.

Source: Graves & Schmidhuber 2005, "Framewise phoneme classification with bidirectional LSTM".
"""

import keras

from zoo.layers import LSTM
from zoo.models import parts

SIZES = {
    "small": {"embedding_dim": 200, "units": 64, "num_layers": 1},
    "base": {"embedding_dim": 256, "units": 64, "num_layers": 1},
}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
) -> keras.Model:
    """Bidirectional LSTM layers, then mean and max over time; see `zoo.models`."""
    numbers = parts.resolve_size(size, SIZES)
    tensors, x = parts.embed(
        inputs,
        numbers["embedding_dim"],
        dropout_rate=dropout_rate,
        word_dropout_rate=word_dropout_rate,
    )
    for layer in range(numbers["num_layers"]):
        x = keras.layers.Bidirectional(
            LSTM(numbers["units"], return_sequences=True), name=f"bilstm_{layer}"
        )(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="bilstm")
