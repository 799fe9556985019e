"""LSTM layers in reading order, pooled over time.

Source: Hochreiter & Schmidhuber 1997; pooling over all states instead of the last one alone:
Collobert & Weston 2008 (max), and common since. A size may choose besides

    projection_units   P, the size of the hidden state, smaller than the cell's (Sak et al. 2014)
    layer_norm         yes or no (Ba et al. 2016)
    peephole           yes or no (Gers et al. 2002)

as in `size="small,layer_norm=yes"`, and so may those of `bilstm` and `lstm_attention`. The layer
goes a slower way with any of them.
"""

from typing import Any

import keras

from zoo.layers import LSTM
from zoo.layers.arguments import check_rate
from zoo.models import parts
from zoo.models.search import COMMON, Choice, Range, Space

SIZES = {
    "small": {"embedding_dim": 200, "units": 64, "num_layers": 1, "projection_units": 0},
    "base": {"embedding_dim": 256, "units": 96, "num_layers": 1, "projection_units": 0},
}
CHOICES = {"layer_norm": ("no", "yes"), "peephole": ("no", "yes")}
SEARCH: Space = {
    **COMMON,
    "recurrent_dropout_rate": Range(0.0, 0.4),
    "size.units": Choice((32, 64, 96, 128)),
    "size.num_layers": Choice((1, 2)),
}


def make_lstm(chosen: dict[str, Any], dropout_rate: float, name: str | None = None) -> LSTM:
    """The layer over time that a size of this family, or of one built of it, stands for.

    Raises:
        ValueError: if `dropout_rate`, of the recurrent weights, lies outside [0, 1].
    """
    check_rate("recurrent_dropout_rate", dropout_rate)
    return LSTM(
        chosen["units"],
        return_sequences=True,
        layer_norm=chosen["layer_norm"] == "yes",
        peephole=chosen["peephole"] == "yes",
        projection_units=chosen["projection_units"] or None,
        recurrent_weight_dropout=dropout_rate,
        name=name,
    )


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
    recurrent_dropout_rate: float = 0.0,
) -> keras.Model:
    """LSTM layers, then mean and max over time; see `zoo.models` for the arguments."""
    chosen = parts.resolve_size(size, SIZES, CHOICES)
    tensors, x = parts.embed(
        inputs,
        chosen["embedding_dim"],
        dropout_rate=dropout_rate,
        word_dropout_rate=word_dropout_rate,
    )
    for layer in range(chosen["num_layers"]):
        x = make_lstm(chosen, recurrent_dropout_rate, name=f"lstm_{layer}")(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="lstm")
