"""LSTM layers in reading order, pooled over time.

Source: Hochreiter & Schmidhuber 1997; pooling over all states instead of the last one alone:
Collobert & Weston 2008 (max), and common since.
"""

import keras

from zoo.layers import LSTM
from zoo.models import parts

SIZES = {
    "small": {"embedding_dim": 200, "units": 64, "num_layers": 1},
    "base": {"embedding_dim": 256, "units": 96, "num_layers": 1},
}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
) -> keras.Model:
    """LSTM layers, then mean and max over time; see `zoo.models` for the arguments."""
    numbers = parts.resolve_size(size, SIZES)
    tensors, x = parts.embed(
        inputs,
        numbers["embedding_dim"],
        dropout_rate=dropout_rate,
        word_dropout_rate=word_dropout_rate,
    )
    for layer in range(numbers["num_layers"]):
        x = LSTM(numbers["units"], return_sequences=True, name=f"lstm_{layer}")(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="lstm")
