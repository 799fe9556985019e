"""A Transformer encoder, pooled over time; in pre-norm order unless told otherwise.

Source: Vaswani et al. 2017; norm before each sub-layer, which trains at these sizes without a long
warm-up: Xiong et al. 2020. A size may choose besides

    position      sinusoidal (Vaswani et al. 2017), rotary (Su et al. 2021), alibi (Press et al.
                  2022) or relative (Raffel et al. 2020)
    norm          pre or post
    feedforward   relu, gelu or swiglu (Shazeer 2020)
    attention     full, or causal: no step attends to those behind it

as in `size="small,position=rotary,feedforward=swiglu"`.
"""

import keras

from zoo.layers import SinusoidalPositions, TransformerBlock
from zoo.models import parts
from zoo.models.search import COMMON, Choice, Space

SIZES = {
    "small": {"embedding_dim": 200, "num_layers": 1, "num_heads": 4, "feedforward_dim": 400},
    "base": {"embedding_dim": 256, "num_layers": 2, "num_heads": 8, "feedforward_dim": 512},
}
CHOICES = {
    "position": ("sinusoidal", "rotary", "alibi", "relative"),
    "norm": ("pre", "post"),
    "feedforward": ("relu", "gelu", "swiglu"),
    "attention": ("full", "causal"),
}
SEARCH: Space = {
    **COMMON,
    "size.num_layers": Choice((1, 2)),
    "size.position": Choice(CHOICES["position"]),
    "size.feedforward": Choice(CHOICES["feedforward"]),
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
    """Transformer blocks, then mean and max over time; see `zoo.models` for the arguments."""
    parts.refuse_recurrent_dropout(recurrent_dropout_rate)
    chosen = parts.resolve_size(size, SIZES, CHOICES)
    width = chosen["embedding_dim"]
    key_dim = parts.head_size(width, chosen["num_heads"])
    tensors, x = parts.embed(
        inputs, width, dropout_rate=dropout_rate, word_dropout_rate=word_dropout_rate
    )
    in_attention = None if chosen["position"] == "sinusoidal" else chosen["position"]
    if in_attention is None:
        x = SinusoidalPositions(name="positions")(x)
    gated = chosen["feedforward"] == "swiglu"
    for layer in range(chosen["num_layers"]):
        x = TransformerBlock(
            num_heads=chosen["num_heads"],
            key_dim=key_dim,
            feedforward_dim=chosen["feedforward_dim"],
            dropout=dropout_rate * parts.RESIDUAL_SHARE,
            activation="silu" if gated else chosen["feedforward"],
            norm=chosen["norm"],
            position=in_attention,
            gated=gated,
            # What it gives is dropped instead: to drop the weights would need them in memory.
            attention_dropout=0.0,
            name=f"block_{layer}",
        )(x, use_causal_mask=chosen["attention"] == "causal")
    if chosen["norm"] == "pre":
        x = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="transformer")
