"""Multi-head attention: projections around `attend`."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

# Keras makes it public nowhere.
from keras.src.backend import set_keras_mask

from zoo.layers.attention_cache import AttentionCache, empty, heads_first, opened, write
from zoo.layers.attention_masks import (
    both,
    check_fits,
    distances,
    full_rank,
    merged,
    scores_shape,
    side_mask,
    step_mask,
)
from zoo.layers.attention_options import AttentionOptions
from zoo.layers.attention_projections import check_same_steps, make_projection
from zoo.layers.dot_product import attend
from zoo.layers.position_bias import alibi_bias, relative_bias
from zoo.layers.rotary import rotate


@keras.saving.register_keras_serializable(package="zoo")
class MultiHeadAttention(AttentionOptions):
    """Attention in several heads, each with projections of its own.

        head_h = attention(Q W_h^Q + b_h^Q, K W_h^K + b_h^K, V W_h^V + b_h^V)
        output = concat(head_1, ..., head_H) W^O + b^O

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2.

    The constructor, the call, the weights and the results are those of
    `keras.layers.MultiHeadAttention`, with one difference: a query that may attend to nothing has
    a context of zeros on every path. Weights, in this order: `query/kernel [D, H, K]`,
    `query/bias [H, K]`, `key/kernel [D, G, K]`, `key/bias [G, K]`, with `use_gate` `gate/…` as
    the query's, `value/kernel [D, G, V]`, `value/bias [G, V]`, `attention_output/kernel [H, V, D]`,
    `attention_output/bias [D]`; then, if asked for, `query_norm/scale [K]`, `key_norm/scale [K]`
    and `relative_position/embeddings [N, H]`.

    Args:
        num_heads: H.
        key_dim: K, the size of a head's query and key.
        value_dim: V, the size of a head's value; `key_dim` if left out.
        dropout: share of the attention weights dropped in training, in [0, 1].
        use_bias: whether the projections have biases.
        output_shape: size, or sizes, of an output step; the query's if left out.
        attention_axes: axes over which attention runs; all but the first and last if left out.
        sliding_window: how many steps, itself included, a query sees to either side.
        flash_attention: whether to insist on the backend's flash attention.
        kernel_initializer: of the projections.
        bias_initializer: of their biases.
        kernel_regularizer: of the projections.
        bias_regularizer: of their biases.
        activity_regularizer: of the projections' results.
        kernel_constraint: of the projections.
        bias_constraint: of their biases.
        use_gate: whether a sigmoid of the query gates the heads' outputs.
        seed: of the dropout.
        num_kv_heads: G, how many heads keys and values have, each for H / G of the query's; H if
            left out (Ainslie et al. 2023).
        position: `"rotary"` turns queries and keys by their places (Su et al. 2021; `rotary.py`),
            `"alibi"` counts far keys less (Press et al. 2022), `"relative"` learns a number for
            each range of distances (Raffel et al. 2020; both in `position_bias.py`).
        rotary_max_wavelength: the longest wave, as a multiple of 2 pi steps.
        relative_num_buckets: N, how many ranges of distances there are.
        relative_max_distance: from where on all distances are one.
        relative_bidirectional: whether keys after the query have ranges of their own.
        logits_soft_cap: c of `c tanh(scores / c)`, before bias and mask (Gemma 2, 2024).
        qk_norm: whether each head's query and key are divided by the root of their mean square
            and multiplied by a learnt scale before they are turned (Henry et al. 2020 proposed
            it, with another norm; Dehghani et al. 2023 made it the way to train large models).

    Call arguments:
        query: `float[B, T, D]`.
        value: `float[B, S, D]`.
        key: `float[B, S, D]`; `value` if left out.
        query_mask: `bool[B, T]`, true where a query is real; the query's Keras mask if left out.
        value_mask: `bool[B, S]`, true where a value is real; its Keras mask if left out.
        key_mask: `bool[B, S]`, true where a key is real; its Keras mask if left out.
        attention_mask: true or non-zero where attending is allowed; `[B, S]`, `[B, T, S]`,
            `[B, 1, T, S]` or, for masks of single heads, `[B, H, T, S]`. Keras's `[T, S]` is
            known by a first size that is T and not B; pass `[1, T, S]` where both may be equal.
        return_attention_scores: whether to return the weights besides.
        training: whether to drop.
        use_causal_mask: whether a query sees no step after its own.
        bias: added to the scores before the mask; a float that broadcasts to `[B, H, T, S]`.
        cache: what `init_cache` made or the last call returned: query and value are the next
            steps of a sequence, and each sees itself and all before it. S is then the cache's
            length in `attention_mask` and `bias`, and T in `value_mask` and `key_mask`.
        cache_index: with a cache, the place of the first of these steps; an int or a tensor.

    Returns:
        `float[B, T, D]` with the query's mask; with `return_attention_scores` the weights
        `float[B, H, T, S]` besides; with `cache` the cache, these steps in it, last.

    Raises:
        ValueError: if a size is not positive, `dropout` lies outside [0, 1], options do not go
            together, or, when the layer is built, if `attention_axes` are not different axes
            between the first and the last; when it is called, if a mask or bias does not fit.

    Example:
        >>> layer = MultiHeadAttention(num_heads=2, key_dim=3)
        >>> x = ops.ones((1, 5, 7))
        >>> output, weights = layer(x, x, return_attention_scores=True)
        >>> tuple(output.shape), tuple(weights.shape)
        ((1, 5, 7), (1, 2, 5, 5))

        Step by step, each step sees those before it:

        >>> cache = layer.init_cache(batch_size=1, max_length=5)
        >>> for i in range(5):
        ...     step, cache = layer(x[:, i : i + 1], x[:, i : i + 1], cache=cache, cache_index=i)
        >>> tuple(step.shape), tuple(cache.key.shape)
        ((1, 1, 7), (1, 2, 5, 3))
    """

    def build(
        self,
        query_shape: Sequence[int | None],
        value_shape: Sequence[int | None],
        key_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Makes the projections for these shapes."""
        key_shape = value_shape if key_shape is None else key_shape
        check_same_steps(value_shape, key_shape)
        rank = len(query_shape)
        axes = self._axes_given or tuple(range(1, rank - 1))
        self._axes = tuple(axis if axis >= 0 else rank + axis for axis in axes)
        if not set(self._axes) <= set(range(1, rank - 1)) or len(set(self._axes)) < len(axes):
            raise ValueError(
                f"attention_axes={self._axes_given} must be different axes between the first and "
                f"the last of {rank}"
            )
        if self.position is not None and len(axes) != 1:
            raise ValueError(f"position={self.position!r} needs one attention axis, not {axes}")
        heads, key_heads = (self.num_heads, self.value_dim), (self.num_heads, self.key_dim)
        self._query_dense = self._project("query", query_shape, key_heads)
        self._key_dense = self._project("key", key_shape, (self._groups, self.key_dim))
        if self.use_gate:
            self._gate_dense = self._project("gate", query_shape, heads, activation="sigmoid")
        self._value_dense = self._project("value", value_shape, (self._groups, self.value_dim))
        self._dropout_layer = keras.layers.Dropout(
            self.dropout, seed=self.seed, dtype=self.dtype_policy
        )
        sizes = self._output_sizes or (query_shape[-1],)
        concatenated = (*query_shape[:-1], *heads)
        self._output_dense = self._project("attention_output", concatenated, sizes, bound=2)
        # After all that Keras has, so that its weights fit.
        if self.qk_norm:
            self._query_norm, self._key_norm = (
                keras.layers.RMSNormalization(dtype=self.dtype_policy, name=f"{name}_norm")
                for name in ("query", "key")
            )
            for norm in (self._query_norm, self._key_norm):
                norm.build((None, None, None, self.key_dim))
                norm.supports_masking = True
        if self.position == "relative":
            self._relative_position = keras.layers.Embedding(
                self.relative_num_buckets,
                self.num_heads,
                embeddings_initializer="zeros",
                dtype=self.dtype_policy,
                name="relative_position",
            )
            self._relative_position.build((None,))

    def _project(self, *args: Any, **kwargs: Any) -> keras.layers.EinsumDense:
        return make_projection(
            *args,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            bias_initializer=self.bias_initializer,
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._projection_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            **kwargs,
        )

    def init_cache(self, batch_size: Any, max_length: Any) -> AttentionCache:
        """An empty cache, for decoding of up to `max_length` steps.

        Sizes are ints, or whole tensors that a graph of TensorFlow's alone knows.

        Raises:
            ValueError: if a size is not positive.
        """
        sizes = (self.key_dim, self.value_dim)
        return empty(batch_size, max_length, self._groups, sizes, self.compute_dtype)

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        *,
        bias: Any = None,
        cache: AttentionCache | None = None,
        cache_index: Any = None,
    ) -> Any:
        """Attends; see the class for shapes."""
        cache, first, limit = opened(cache, cache_index, query.shape, value.shape)
        axes = self._axes
        gate = self._gate_dense(query) if self.use_gate else None  # [B, T, H, V]
        key = self._key_dense(value if key is None else key)  # [B, S, G, K]
        query, key = self._place(self._query_dense(query), key, first, limit)  # [B, T, H, K]
        value = self._value_dense(value)  # [B, S, G, V]
        causal, window, order = use_causal_mask, self.sliding_window, None
        shape = scores_shape(query.shape[:-1], value.shape[:-1], axes, self.num_heads)
        sides = {"value_mask": value_mask, "key_mask": key_mask}
        if cache is not None:
            new = merged(sides, None, axes, shape)  # bool[B, 1, 1, T]
            cache = write(cache, cache_index, key, value, None if new is None else new[:, 0, 0])
            key, value = heads_first(cache.key), heads_first(cache.value)  # [B, S, G, K]
            sides, causal = {"cache": cache.mask}, True
            shape = scores_shape(query.shape[:-1], value.shape[:-1], axes, self.num_heads)
        rows, columns = (ops.shape(side)[axes[0]] for side in (query, key))
        plain = type(self)._compute_attention is MultiHeadAttention._compute_attention
        if cache is not None or not plain or len(axes) != 1:
            order = step_mask(rows, columns, axes, causal, window, len(shape), first)
            causal, window = False, None
        mask = both(order, merged(sides, attention_mask, axes, shape))
        blind = None
        if query_mask is not None:
            # A mask of its rows spares what attends in blocks a mask of all pairs.
            blind = side_mask("query_mask", query_mask, axes, shape)  # bool[B, 1, T, 1]
            if not plain or return_attention_scores:
                mask = both(mask, blind)
        # What is off is not passed, for a subclass may know Keras's arguments alone.
        options = {
            "use_causal_mask": causal or None,
            "bias": self._bias(bias, rows, columns, first, shape),
            "window": window,
        }
        context, weights = self._compute_attention(
            query,
            key,
            value,
            mask,
            training,
            return_attention_scores,
            **{name: option for name, option in options.items() if option is not None},
        )
        if blind is not None:
            real = ops.cast(query_mask, "bool")[..., None, None]  # bool[B, T, 1, 1]
            context = ops.where(real, context, ops.zeros_like(context))
        output = self._output_dense(context if gate is None else context * gate)  # [B, T, D]
        if query_mask is not None:
            # Keras passes on the mask that a tensor carries; one that is passed must go on too.
            set_keras_mask(output, ops.cast(query_mask, "bool"))
        outputs = (output, weights) if return_attention_scores else (output,)
        outputs = outputs if cache is None else (*outputs, cache)
        return outputs if len(outputs) > 1 else output

    def _place(self, query: Any, key: Any, first: Any, limit: int | None) -> tuple[Any, Any]:
        """Queries and keys, projected, normalised and turned to their places."""
        if self.qk_norm:
            query, key = self._query_norm(query), self._key_norm(key)
        if self.position == "rotary":
            query, key = (
                rotate(side, self._axes[0], self.rotary_max_wavelength, first, limit)
                for side in (query, key)
            )
        return query, key

    def _bias(self, bias: Any, rows: Any, columns: Any, first: Any, shape: Sequence) -> Any:
        """What is added to the scores, by the caller and by the positions."""
        if bias is not None:
            check_fits("bias", bias.shape, shape)
        if self.position not in ("alibi", "relative"):
            return bias
        distance = distances(rows, columns, first)  # int32[T, S]
        if self.position == "alibi":
            added = alibi_bias(self.num_heads, distance)  # float32[H, T, S]
        else:
            table = self._relative_position(np.arange(self.relative_num_buckets))  # float[N, H]
            limit, sides = self.relative_max_distance, self.relative_bidirectional
            added = relative_bias(table, distance, limit, sides)  # float[H, T, S]
        added = ops.expand_dims(added, 0)  # float[1, H, T, S]
        return added if bias is None else added + ops.cast(bias, added.dtype)

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
        *,
        bias: Any = None,
        window: int | None = None,
    ) -> tuple[Any, Any]:
        """Attention between projected inputs; a subclass may put its own in its place.

        Args:
            query: `float[B, T, H, K]`.
            key: `float[B, S, G, K]`.
            value: `float[B, S, G, V]`.
            attention_mask: true where attending is allowed; what broadcasts to `[B, H, T, S]`, or
                `[B, T, S]`.
            training: whether to drop.
            return_attention_scores: whether the weights will be used.
            use_causal_mask: whether a query sees no step after its own.
            bias: added to the scores; what broadcasts to `[B, H, T, S]`.
            window: how many steps, itself included, a query sees to either side.

        Returns:
            The context `float[B, T, H, V]`, and the weights `float[B, H, T, S]` or `None`.
        """
        if self._flash_attention and return_attention_scores:
            raise ValueError(
                "Returning attention scores is not supported when flash attention is enabled. "
                "Please disable flash attention to access attention scores: "
                "return_attention_scores=True needs flash_attention=False"
            )
        if attention_mask is not None:
            attention_mask = ops.convert_to_tensor(attention_mask)
            shape = scores_shape(query.shape[:-1], value.shape[:-1], self._axes, self.num_heads)
            attention_mask = full_rank(attention_mask, self._axes, shape)
        query, key, value = (ops.convert_to_tensor(side) for side in (query, key, value))
        drops = self.dropout and training
        return attend(
            query,
            key,
            value,
            scale=1.0 / math.sqrt(self.key_dim),
            mask=attention_mask,
            bias=bias,
            causal=use_causal_mask,
            window=window,
            soft_cap=self.logits_soft_cap,
            dropout=(lambda w: self._dropout_layer(w, training=True)) if drops else None,
            axes=self._axes,
            return_weights=return_attention_scores,
            flash_attention=self._flash_attention,
        )

    def compute_output_shape(
        self,
        query_shape: Sequence[int | None],
        value_shape: Sequence[int | None],
        key_shape: Sequence[int | None] | None = None,
    ) -> tuple[int | None, ...]:
        """The query's shape, its last size changed if `output_shape` says so."""
        check_same_steps(value_shape, value_shape if key_shape is None else key_shape)
        return (*query_shape[:-1], *(self._output_sizes or query_shape[-1:]))

    def compute_output_spec(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
        *,
        bias: Any = None,
        cache: AttentionCache | None = None,
        cache_index: Any = None,
    ) -> Any:
        """The symbolic output, weights if asked for, and cache if there is one."""
        key_shape = None if key is None else key.shape
        shape = self.compute_output_shape(query.shape, value.shape, key_shape)
        outputs: tuple = (keras.KerasTensor(shape, dtype=self.compute_dtype),)
        if return_attention_scores:
            keys = value.shape if cache is None else cache[2].shape
            weights = scores_shape(query.shape, keys, self._axes, self.num_heads)
            outputs += (keras.KerasTensor(weights, dtype=self.compute_dtype),)
        if cache is not None:
            parts = (keras.KerasTensor(part.shape, dtype=part.dtype) for part in cache)
            outputs += (AttentionCache(*parts),)
        return outputs if len(outputs) > 1 else outputs[0]
