"""A bidirectional LSTM whose states then attend to one another: gates first, attention second.

Source: multi-head attention of Vaswani et al. 2017 over the states of Graves & Schmidhuber 2005;
self-attention over a BiLSTM's states for classification: Lin et al. 2017.
"""

import keras

from zoo.layers import LSTM, MultiHeadAttention
from zoo.models import parts

SIZES = {
    "small": {"embedding_dim": 200, "units": 64, "num_layers": 1, "num_heads": 4},
    "base": {"embedding_dim": 256, "units": 64, "num_layers": 1, "num_heads": 8},
}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
) -> keras.Model:
    """BiLSTM, attention over its states, then mean and max over time; see `zoo.models`."""
    numbers = parts.resolve_size(size, SIZES)
    width = 2 * numbers["units"]
    key_dim = parts.head_size(width, numbers["num_heads"])
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
    attended = MultiHeadAttention(
        numbers["num_heads"], key_dim, dropout=dropout_rate, name="attention"
    )(x, x)
    # A layer, not `+`: an operator would lose the mask.
    x = keras.layers.Add(name="residual")([x, attended])
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="lstm_attention")
