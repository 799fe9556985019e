"""A Transformer encoder in pre-norm order, pooled over time.

Source: Vaswani et al. 2017; norm before each sub-layer, which trains at these sizes without a long
warm-up: Xiong et al. 2020.
"""

import keras

from zoo.layers import SinusoidalPositions, TransformerBlock
from zoo.models import parts

SIZES = {
    "small": {"embedding_dim": 200, "num_layers": 1, "num_heads": 4, "feedforward_dim": 400},
    "base": {"embedding_dim": 256, "num_layers": 2, "num_heads": 8, "feedforward_dim": 512},
}


def build(
    inputs: parts.Inputs,
    num_classes: int,
    *,
    size: str = "small",
    dropout_rate: float = 0.3,
    word_dropout_rate: float = 0.0,
) -> keras.Model:
    """Transformer blocks, then mean and max over time; see `zoo.models` for the arguments."""
    numbers = parts.resolve_size(size, SIZES)
    width = numbers["embedding_dim"]
    key_dim = parts.head_size(width, numbers["num_heads"])
    tensors, x = parts.embed(
        inputs, width, dropout_rate=dropout_rate, word_dropout_rate=word_dropout_rate
    )
    x = SinusoidalPositions(name="positions")(x)
    for layer in range(numbers["num_layers"]):
        x = TransformerBlock(
            num_heads=numbers["num_heads"],
            key_dim=key_dim,
            feedforward_dim=numbers["feedforward_dim"],
            dropout=dropout_rate,
            norm="pre",
            name=f"block_{layer}",
        )(x)
    x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="transformer")
