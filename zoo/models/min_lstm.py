"""Minimal LSTM layers in both reading orders, pooled over time.

Source: Feng et al. 2024, "Were RNNs All We Needed?", arXiv 2410.01201. No gate of a layer sees what
the layer remembers, so that there are two layers, of which the second's gates see what the first
remembers.
"""

import keras

from zoo.layers import MinLSTM
from zoo.models import parts
from zoo.models.search import COMMON, Choice, Space

SIZES = {
    "small": {"embedding_dim": 200, "units": 64, "num_layers": 2},
    "base": {"embedding_dim": 256, "units": 96, "num_layers": 2},
}
SEARCH: Space = {
    **COMMON,
    "size.units": Choice((32, 64, 96, 128)),
    "size.num_layers": Choice((1, 2, 3)),
}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
    recurrent_dropout_rate: float = 0.0,
) -> keras.Model:
    """Bidirectional minimal LSTM layers, then mean and max over time; see `zoo.models`."""
    parts.refuse_recurrent_dropout(recurrent_dropout_rate)
    numbers = parts.resolve_size(size, SIZES)
    tensors, x = parts.embed(
        inputs,
        numbers["embedding_dim"],
        dropout_rate=dropout_rate,
        word_dropout_rate=word_dropout_rate,
    )
    for layer in range(numbers["num_layers"]):
        x = keras.layers.Bidirectional(
            MinLSTM(numbers["units"], return_sequences=True), name=f"min_lstm_{layer}"
        )(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="min_lstm")
