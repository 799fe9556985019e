"""The Transformer's encoder block."""

from collections.abc import Sequence
from typing import Any

import keras

from zoo.layers.arguments import check_above, check_choice, check_positive, check_rate
from zoo.layers.attention import MultiHeadAttention
from zoo.layers.attention_cache import AttentionCache
from zoo.layers.attention_options import POSITIONS
from zoo.layers.gelu_fast import gelu

NORMS = ("post", "pre")


@keras.saving.register_keras_serializable(package="zoo")
class TransformerBlock(keras.layers.Layer):
    """Self-attention and a two-layer network, each with a residual connection and a norm.

        post   x = norm(x + attention(x));          x = norm(x + network(x))
        pre    x = x + attention(norm(x));          x = x + network(norm(x))
        network(x) = W_2 activation(W_1 x + b_1) + b_2
        gated  network(x) = W_2 (activation(W_1 x + b_1) * (W_3 x + b_3)) + b_2

    Sources: `"post"`, Vaswani et al. 2017; `"pre"`, which trains without warm-up and wants one
    more norm after the last block, Xiong et al. 2020; the gated network, which with `"silu"` is
    called SwiGLU, Shazeer 2020.

    Args:
        num_heads: H.
        key_dim: K, the size of a head's query, key and value.
        feedforward_dim: size of the network's inner layer.
        dropout: share of the attention weights, and of each half's result, dropped in training.
        activation: of the network's inner layer.
        norm: `"post"` or `"pre"`.
        epsilon: of the norms.
        seed: of the dropout.
        position: how the attention tells places apart, as `MultiHeadAttention`'s: `"rotary"`,
            `"alibi"`, `"relative"`, or `None` where the inputs tell.
        gated: whether the network has a gate, and so a third matrix.
        attention_dropout: share of the attention weights dropped in training; as `dropout` if left
            out. Without any, long sequences take less time and memory, as at `MultiHeadAttention`.

    Call arguments:
        inputs: `float[B, T, D]`.
        mask: `bool[B, T]`, true where a step is real; the inputs' Keras mask if left out.
        attention_mask: true where attending is allowed besides, `[B, T, T]` or `[B, H, T, T]`.
        training: whether to drop.
        use_causal_mask: whether a step sees none after it.
        cache: what `init_cache` made or the last call returned: the inputs are the next steps of
            sequences, of which each sees itself and all before it. The last size of
            `attention_mask` is then the cache's length.
        cache_index: with a cache, the place of the first of these steps; an int or a tensor.

    Returns:
        `float[B, T, D]`, with the inputs' mask; with `cache` the cache, these steps in it, last.

    Raises:
        ValueError: if a size or `epsilon` is not positive, a share lies outside [0, 1], or for
            another norm or position.

    Example:
        >>> block = TransformerBlock(num_heads=2, key_dim=3, feedforward_dim=11)
        >>> tuple(block(keras.ops.ones((1, 5, 7))).shape)
        (1, 5, 7)
        >>> step, cache = keras.ops.ones((1, 1, 7)), block.init_cache(1, 5)
        >>> output, cache = block(step, cache=cache, cache_index=0)
        >>> tuple(output.shape), tuple(cache.key.shape)
        ((1, 1, 7), (1, 2, 5, 3))
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        feedforward_dim: int,
        dropout: float = 0.0,
        activation: Any = "relu",
        norm: str = "post",
        epsilon: float = 1e-6,
        seed: int | None = None,
        position: str | None = None,
        gated: bool = False,
        attention_dropout: float | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive("num_heads", num_heads)
        check_positive("key_dim", key_dim)
        check_positive("feedforward_dim", feedforward_dim)
        check_rate("dropout", dropout)
        if attention_dropout is not None:
            check_rate("attention_dropout", attention_dropout)
        check_choice("norm", norm, NORMS)
        check_above("epsilon", epsilon, 0)
        if position is not None:
            check_choice("position", position, POSITIONS)
        if position == "rotary" and key_dim % 2:
            raise ValueError(f"position='rotary' needs an even key_dim, not {key_dim}")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.feedforward_dim = feedforward_dim
        self.dropout = dropout
        self.activation = keras.activations.get(activation)
        self.norm = norm
        self.epsilon = epsilon
        self.seed = seed
        self.position = position
        self.gated = gated
        self.attention_dropout = attention_dropout

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the parts for inputs of D features."""
        shape, policy = tuple(input_shape), self.dtype_policy
        self.attention = MultiHeadAttention(
            self.num_heads,
            self.key_dim,
            dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
            seed=self.seed,
            position=self.position,
            dtype=policy,
            name="attention",
        )
        self.attention.build(shape, shape)
        self.inner = keras.layers.Dense(self.feedforward_dim, dtype=policy, name="inner")
        self.inner.build(shape)
        if self.gated:
            self.gate = keras.layers.Dense(self.feedforward_dim, dtype=policy, name="gate")
            self.gate.build(shape)
        self.outer = keras.layers.Dense(shape[-1], dtype=policy, name="outer")
        self.outer.build((*shape[:-1], self.feedforward_dim))
        self.attention_norm = self._make_norm("attention_norm", shape)
        self.network_norm = self._make_norm("network_norm", shape)
        self.result_dropout, self.network_dropout = (
            # Each half has a seed of its own: with one for both, both would drop the same places.
            keras.layers.Dropout(
                self.dropout, seed=None if self.seed is None else self.seed + n, dtype=policy
            )
            for n in (1, 2)
        )

    def _make_norm(self, name: str, shape: tuple) -> keras.layers.LayerNormalization:
        layer = keras.layers.LayerNormalization(
            epsilon=self.epsilon, dtype=self.dtype_policy, name=name
        )
        layer.build(shape)
        return layer

    def _activate(self, hidden: Any, training: bool | None) -> Any:
        if self.activation is keras.activations.gelu:
            return gelu(hidden, training)
        return self.activation(hidden)

    def init_cache(self, batch_size: Any, max_length: Any) -> AttentionCache:
        """An empty cache, as `MultiHeadAttention.init_cache`.

        Raises:
            ValueError: if the block is not built, or a size is not positive.
        """
        if not self.built:
            raise ValueError("TransformerBlock.init_cache() needs a layer that is built: call it")
        return self.attention.init_cache(batch_size, max_length)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        attention_mask: Any = None,
        training: bool | None = None,
        use_causal_mask: bool = False,
        *,
        cache: AttentionCache | None = None,
        cache_index: Any = None,
    ) -> Any:
        """Runs both halves."""
        grown = None

        def attend(x: Any) -> Any:
            nonlocal grown
            attended = self.attention(
                x,
                x,
                query_mask=mask,
                value_mask=mask,
                attention_mask=attention_mask,
                training=training,
                use_causal_mask=use_causal_mask,
                cache=cache,
                cache_index=cache_index,
            )
            if cache is not None:
                attended, grown = attended
            return self.result_dropout(attended, training=training)  # [B, T, D]

        def transform(x: Any) -> Any:
            hidden = self._activate(self.inner(x), training)  # [B, T, F]
            if self.gated:
                hidden = hidden * self.gate(x)  # [B, T, F]
            return self.network_dropout(self.outer(hidden), training=training)  # [B, T, D]

        if self.norm == "post":
            x = self.attention_norm(inputs + attend(inputs))
            x = self.network_norm(x + transform(x))
        else:
            x = inputs + attend(self.attention_norm(inputs))
            x = x + transform(self.network_norm(x))
        return x if cache is None else (x, grown)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        """The input's shape."""
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, *args: Any, cache: Any = None, **kwargs: Any) -> Any:
        """The symbolic output, and the cache if there is one."""
        output = keras.KerasTensor(inputs.shape, dtype=self.compute_dtype)
        if cache is None:
            return output
        parts = (keras.KerasTensor(part.shape, dtype=part.dtype) for part in cache)
        return output, AttentionCache(*parts)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        own = {
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "feedforward_dim": self.feedforward_dim,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "norm": self.norm,
            "epsilon": self.epsilon,
            "seed": self.seed,
            "position": self.position,
            "gated": self.gated,
            "attention_dropout": self.attention_dropout,
        }
        return {**super().get_config(), **own}
