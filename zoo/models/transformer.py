"""A Transformer encoder, pooled over time; in pre-norm order unless told otherwise.

Source: Vaswani et al. 2017; norm before each sub-layer, which trains at these sizes without a long
warm-up: Xiong et al. 2020. A size may choose besides

    position        sinusoidal (Vaswani et al. 2017), rotary (Su et al. 2021), alibi (Press et al.
                    2022), relative (Raffel et al. 2020) or, for texts of up to `max_positions`
                    tokens, learned (Devlin et al. 2018)
    norm            pre or post
    feedforward     relu, gelu or swiglu (Shazeer 2020)
    embedding_norm  whether the blocks' input is normalised (Devlin et al. 2018)
    epsilon         of all norms
    attention       full, or causal: no step attends to those behind it

as in `size="small,position=rotary,feedforward=swiglu"`. The size `minilm` is that of a BERT of six
layers, which `zoo.convert.from_bert` has the weights of (MiniLM: Wang et al. 2020).
"""

import math
from typing import Any

import keras

from zoo.layers import LearnedPositions, SinusoidalPositions, TransformerBlock
from zoo.models import parts
from zoo.models.search import COMMON, Choice, Space

SIZES: parts.Sizes = {
    "small": {"embedding_dim": 200, "num_layers": 1, "num_heads": 4, "feedforward_dim": 400}
    | {"max_positions": 512},
    "base": {"embedding_dim": 256, "num_layers": 2, "num_heads": 8, "feedforward_dim": 512}
    | {"max_positions": 512},
    "minilm": {"embedding_dim": 384, "num_layers": 6, "num_heads": 12, "feedforward_dim": 1536}
    | {"max_positions": 512, "position": "learned", "norm": "post", "feedforward": "gelu"}
    | {"embedding_norm": "yes", "epsilon": "1e-12"},
}
CHOICES = {
    "position": ("sinusoidal", "rotary", "alibi", "relative", "learned"),
    "norm": ("pre", "post"),
    "feedforward": ("relu", "gelu", "swiglu"),
    "attention": ("full", "causal"),
    "embedding_norm": ("no", "yes"),
    "epsilon": ("1e-6", "1e-12"),
}
SEARCH: Space = {
    **COMMON,
    "size.num_layers": Choice((1, 2)),
    # Not the learnt ones: they would refuse a task of features, and of longer texts.
    "size.position": Choice(CHOICES["position"][:-1]),
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
    tensors, x = _encode(inputs, size, dropout_rate, word_dropout_rate)
    return parts.classify(tensors, x, num_classes, dropout_rate=dropout_rate, name="transformer")


def build_encoder(inputs: parts.Inputs, *, size: str = "small") -> keras.Model:
    """What `build` pools: from a batch to `float[B, T, D]`, with a mask.

    Args:
        inputs: what a batch holds.
        size: as `build`'s.

    Returns:
        A functional model, whose layers have the names that they have in a classifier.

    Raises:
        ValueError: for a size that the family lacks, or that cannot be.

    Example:
        >>> build_encoder(parts.TokenInputs(50)).output_shape
        (None, None, 200)
    """
    return keras.Model(*_encode(inputs, size, 0.0, 0.0), name="transformer_encoder")


def _encode(
    inputs: parts.Inputs, size: str, dropout_rate: float, word_dropout_rate: float
) -> tuple[dict[str, keras.KerasTensor], keras.KerasTensor]:
    """The model's inputs by name, and the blocks' result, `float[B, T, D]`."""
    chosen = parts.resolve_size(size, SIZES, CHOICES)
    width, epsilon = chosen["embedding_dim"], float(chosen["epsilon"])
    key_dim = parts.head_size(width, chosen["num_heads"])
    tensors, x = parts.embed(
        inputs, width, dropout_rate=dropout_rate, word_dropout_rate=word_dropout_rate
    )
    places = _positions(chosen, inputs)
    if places is not None:
        x = places(x)
    if chosen["embedding_norm"] == "yes":
        x = keras.layers.LayerNormalization(epsilon=epsilon, name="embedding_norm")(x)
    gated = chosen["feedforward"] == "swiglu"
    for layer in range(chosen["num_layers"]):
        x = TransformerBlock(
            num_heads=chosen["num_heads"],
            key_dim=key_dim,
            feedforward_dim=chosen["feedforward_dim"],
            dropout=dropout_rate * parts.RESIDUAL_SHARE,
            activation="silu" if gated else chosen["feedforward"],
            norm=chosen["norm"],
            epsilon=epsilon,
            position=None if places is not None else chosen["position"],
            gated=gated,
            # What it gives is dropped instead: to drop the weights would need them in memory.
            attention_dropout=0.0,
            name=f"block_{layer}",
        )(x, use_causal_mask=chosen["attention"] == "causal")
    if chosen["norm"] == "pre":
        x = keras.layers.LayerNormalization(epsilon=epsilon, name="norm")(x)
    return tensors, x


def _positions(chosen: dict[str, Any], inputs: parts.Inputs) -> keras.layers.Layer | None:
    """What tells the blocks' input its places; `None` where the attention tells them."""
    if chosen["position"] == "sinusoidal":
        # An embedding begins small, and the waves would drown it; a standardised track is as large.
        words = isinstance(inputs, parts.TokenInputs)
        scale = math.sqrt(chosen["embedding_dim"]) if words else 1.0
        return SinusoidalPositions(input_scale=scale, name="positions")
    if chosen["position"] != "learned":
        return None
    if isinstance(inputs, parts.FeatureInputs):
        raise ValueError("position=learned cannot work: a track of features has any length")
    return LearnedPositions(chosen["max_positions"], name="positions")
