"""A bidirectional LSTM whose states then attend to one another: gates first, attention second.

Source: multi-head attention of Vaswani et al. 2017 over the states of Graves & Schmidhuber 2005;
self-attention over a BiLSTM's states for classification: Lin et al. 2017.
"""

import keras

from zoo.layers import MultiHeadAttention
from zoo.models import bilstm, lstm, parts
from zoo.models.lstm import CHOICES, make_lstm
from zoo.models.search import Choice, Space

SIZES = {
    size: {**numbers, "num_heads": heads}
    for (size, numbers), heads in zip(bilstm.SIZES.items(), (4, 8), strict=True)
}
SEARCH: Space = {**lstm.SEARCH, "size.num_heads": Choice((2, 4, 8))}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
    recurrent_dropout_rate: float = 0.0,
) -> keras.Model:
    """BiLSTM, attention over its states, then mean and max over time; see `zoo.models`."""
    chosen = parts.resolve_size(size, SIZES, CHOICES)
    width = 2 * (chosen["projection_units"] or chosen["units"])
    key_dim = parts.head_size(width, chosen["num_heads"])
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
    attended = MultiHeadAttention(chosen["num_heads"], key_dim, name="attention")(x, x)
    rate = dropout_rate * parts.RESIDUAL_SHARE
    attended = keras.layers.Dropout(rate, name="attention_dropout")(attended)
    # A layer, not `+`: an operator would lose the mask.
    x = keras.layers.Add(name="residual")([x, attended])
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="lstm_attention")
