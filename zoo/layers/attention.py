"""Multi-head attention: projections around `scaled_dot_product_attention`."""

import math
import string
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# Keras makes it public nowhere.
from keras.src.backend import set_keras_mask

from zoo.layers.arguments import as_integers, check_positive, check_rate
from zoo.layers.attention_masks import both, full_rank, side_mask, step_mask
from zoo.layers.dot_product import attend, einsum_equations


@keras.saving.register_keras_serializable(package="zoo")
class MultiHeadAttention(keras.layers.Layer):
    """Attention in several heads, each with projections of its own.

        head_h = attention(Q W_h^Q + b_h^Q, K W_h^K + b_h^K, V W_h^V + b_h^V)
        output = concat(head_1, ..., head_H) W^O + b^O

    Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2.

    The constructor, the call, the weights and the results are those of
    `keras.layers.MultiHeadAttention`, with one difference: a query that may attend to nothing has
    a context of zeros on every path. Weights, in this order: `query/kernel [D, H, K]`,
    `query/bias [H, K]`, `key/…` alike, `value/kernel [D, H, V]`, `value/bias [H, V]`,
    `attention_output/kernel [H, V, D]`, `attention_output/bias [D]`.

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

    Call arguments:
        query: `float[B, T, D]`.
        value: `float[B, S, D]`.
        key: `float[B, S, D]`; `value` if left out.
        query_mask: `bool[B, T]`, true where a query is real; the query's Keras mask if left out.
        value_mask: `bool[B, S]`, true where a value is real; its Keras mask if left out.
        key_mask: `bool[B, S]`, true where a key is real; its Keras mask if left out.
        attention_mask: true or non-zero where attending is allowed; `[B, T, S]` or, for masks of
            single heads, `[B, H, T, S]`.
        return_attention_scores: whether to return the weights besides.
        training: whether to drop.
        use_causal_mask: whether a query sees no step after its own.

    Returns:
        `float[B, T, D]` with the query's mask, and with `return_attention_scores` the weights
        `float[B, H, T, S]`.

    Raises:
        ValueError: if a size is not positive, `dropout` lies outside [0, 1], flash attention is
            asked for together with dropout or with the weights, or, when the layer is built, if
            `attention_axes` are not different axes between the first and the last.

    Example:
        >>> layer = MultiHeadAttention(num_heads=2, key_dim=3)
        >>> x = ops.ones((1, 5, 7))
        >>> output, weights = layer(x, x, return_attention_scores=True)
        >>> tuple(output.shape), tuple(weights.shape)
        ((1, 5, 7), (1, 2, 5, 5))
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | Sequence[int] | None = None,
        attention_axes: int | Sequence[int] | None = None,
        sliding_window: int | None = None,
        flash_attention: bool | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        use_gate: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive("num_heads", num_heads)
        check_positive("key_dim", key_dim)
        check_rate("dropout", dropout)
        for name, value in (("value_dim", value_dim), ("sliding_window", sliding_window)):
            if value is not None:
                check_positive(name, value)
        super().__init__(**kwargs)
        self.supports_masking = True
        self.num_heads = num_heads
        self.key_dim = key_dim
        self.value_dim = value_dim or key_dim
        self.dropout = dropout
        self.use_bias = use_bias
        # Not `output_shape`: Keras's models ask a layer's for something else.
        self._output_sizes = as_integers("output_shape", output_shape)
        for size in self._output_sizes or ():
            check_positive("output_shape", size)
        self._axes_given = as_integers("attention_axes", attention_axes)
        self.sliding_window = sliding_window
        self.flash_attention = flash_attention
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        # Of the projections, which get it below; the layer's own would count it once more.
        self._projection_regularizer = keras.regularizers.get(activity_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.use_gate = use_gate
        self.seed = seed
        if self._flash_attention and dropout:
            raise ValueError(
                "Dropout is not supported when flash attention is enabled: "
                f"flash_attention={flash_attention} needs dropout=0, not {dropout}"
            )

    @property
    def _flash_attention(self) -> bool:
        return bool(self.flash_attention or keras.config.is_flash_attention_enabled())

    @property
    def attention_axes(self) -> tuple[int, ...] | None:
        """The axes over which attention runs; `None` before the layer is built for the default."""
        return self._axes if self.built else self._axes_given

    @property
    def query_dense(self) -> keras.layers.EinsumDense:
        """The projection of the query."""
        return self._query_dense

    @property
    def key_dense(self) -> keras.layers.EinsumDense:
        """The projection of the key."""
        return self._key_dense

    @property
    def value_dense(self) -> keras.layers.EinsumDense:
        """The projection of the value."""
        return self._value_dense

    @property
    def output_dense(self) -> keras.layers.EinsumDense:
        """The projection of the concatenated heads."""
        return self._output_dense

    def build(
        self,
        query_shape: Sequence[int | None],
        value_shape: Sequence[int | None],
        key_shape: Sequence[int | None] | None = None,
    ) -> None:
        """Makes the projections for these shapes."""
        key_shape = value_shape if key_shape is None else key_shape
        _check_same_steps(value_shape, key_shape)
        rank = len(query_shape)
        heads, key_heads = (self.num_heads, self.value_dim), (self.num_heads, self.key_dim)
        self._query_dense = self._project("query", query_shape, key_heads)
        self._key_dense = self._project("key", key_shape, key_heads)
        if self.use_gate:
            self._gate_dense = self._project("gate", query_shape, heads, activation="sigmoid")
        self._value_dense = self._project("value", value_shape, heads)
        axes = self._axes_given or tuple(range(1, rank - 1))
        self._axes = tuple(axis if axis >= 0 else rank + axis for axis in axes)
        if not set(self._axes) <= set(range(1, rank - 1)) or len(set(self._axes)) < len(axes):
            raise ValueError(
                f"attention_axes={self._axes_given} must be different axes between the first and "
                f"the last of {rank}"
            )
        self._equations = einsum_equations(rank + 1, self._axes)
        self._dropout_layer = keras.layers.Dropout(
            self.dropout, seed=self.seed, dtype=self.dtype_policy
        )
        sizes = self._output_sizes or (query_shape[-1],)
        concatenated = (*query_shape[:-1], self.num_heads, self.value_dim)
        self._output_dense = self._project("attention_output", concatenated, sizes, bound=2)

    def _project(
        self,
        name: str,
        shape: Sequence[int | None],
        sizes: Sequence[int | None],
        bound: int = 1,
        activation: str | None = None,
    ) -> keras.layers.EinsumDense:
        """A built projection of the last `bound` axes to `sizes`."""
        letters = iter(string.ascii_lowercase)
        free = "".join(next(letters) for _ in shape[:-bound])
        summed = "".join(next(letters) for _ in shape[-bound:])
        made = "".join(next(letters) for _ in sizes)
        layer = keras.layers.EinsumDense(
            f"{free}{summed},{summed}{made}->{free}{made}",
            output_shape=(*(None for _ in free[1:]), *sizes),
            bias_axes=made if self.use_bias else None,
            activation=activation,
            # Copies: a stateless initialiser used twice gives the same numbers twice.
            kernel_initializer=_copy(self.kernel_initializer),
            bias_initializer=_copy(self.bias_initializer),
            kernel_regularizer=self.kernel_regularizer,
            bias_regularizer=self.bias_regularizer,
            activity_regularizer=self._projection_regularizer,
            kernel_constraint=self.kernel_constraint,
            bias_constraint=self.bias_constraint,
            dtype=self.dtype_policy,
            name=name,
        )
        # A projection works step by step: it destroys no mask, and need not warn that it does.
        layer.supports_masking = True
        layer.build(tuple(shape))
        return layer

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
    ) -> Any:
        """Attends; see the class for shapes."""
        key = value if key is None else key
        axes, rank = self._axes, len(query.shape)
        mask = step_mask(
            query, value, axes, use_causal_mask, self.sliding_window, rank + len(axes)
        )  # bool[1, 1, T, S]
        sides = {"query_mask": query_mask, "value_mask": value_mask, "key_mask": key_mask}
        for name, side in sides.items():
            if side is not None:
                mask = both(mask, side_mask(name, side, axes, rank))  # bool[B, 1, T, S]
        if attention_mask is not None:
            mask = both(mask, full_rank(attention_mask, axes, rank + len(axes)))
        gate = self._gate_dense(query) if self.use_gate else None  # [B, T, H, V]
        query = self._query_dense(query)  # [B, T, H, K]
        key = self._key_dense(key)  # [B, S, H, K]
        value = self._value_dense(value)  # [B, S, H, V]
        context, weights = self._compute_attention(
            query, key, value, mask, training, return_attention_scores
        )
        if gate is not None:
            context = context * gate
        output = self._output_dense(context)  # [B, T, D]
        if query_mask is not None:
            # Keras passes on the mask that a tensor carries; one that is passed must go on too.
            set_keras_mask(output, ops.cast(query_mask, "bool"))
        return (output, weights) if return_attention_scores else output

    def _compute_attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        attention_mask: Any = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Any, Any]:
        """Attention between projected inputs; a subclass may put its own in its place.

        Args:
            query: `float[B, T, H, K]`.
            key: `float[B, S, H, K]`.
            value: `float[B, S, H, V]`.
            attention_mask: true where attending is allowed; what broadcasts to `[B, H, T, S]`, or
                `[B, T, S]`.
            training: whether to drop.
            return_attention_scores: whether the weights will be used.
            use_causal_mask: whether a query sees no step after its own.

        Returns:
            The context `float[B, T, H, V]`, and the weights `float[B, H, T, S]` or `None`.
        """
        axes, rank = self._axes, len(query.shape) + len(self._axes)
        mask = step_mask(query, value, axes, use_causal_mask, None, rank - 1)
        if attention_mask is not None:
            mask = both(full_rank(attention_mask, axes, rank - 1), mask)
        scale = 1.0 / math.sqrt(self.key_dim)
        if not self._flash_attention:
            return attend(
                query, key, value, mask, scale, self._drop(training), self._equations, len(axes)
            )
        if return_attention_scores:
            raise ValueError(
                "Returning attention scores is not supported when flash attention is enabled: "
                "return_attention_scores=True needs flash_attention=False"
            )
        context = ops.dot_product_attention(
            query, key, value, mask=mask, scale=scale, flash_attention=True
        )  # [B, T, H, V]
        if mask is not None:
            # The backends average over what a row without anything to attend to must not see.
            seen = ops.expand_dims(ops.any(mask, axis=-1), -1)  # bool[B, H, T, 1]
            context = ops.where(ops.transpose(seen, (0, 2, 1, 3)), context, 0.0)  # [B, T, H, V]
        return context, None

    def _drop(self, training: bool | None) -> Any:
        return (lambda w: self._dropout_layer(w, training=training)) if self.dropout else None

    def compute_output_shape(
        self,
        query_shape: Sequence[int | None],
        value_shape: Sequence[int | None],
        key_shape: Sequence[int | None] | None = None,
    ) -> tuple[int | None, ...]:
        """The query's shape, its last size changed if `output_shape` says so."""
        _check_same_steps(value_shape, value_shape if key_shape is None else key_shape)
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
    ) -> Any:
        """The symbolic output, and the symbolic weights where they are asked for."""
        key_shape = None if key is None else key.shape
        shape = self.compute_output_shape(query.shape, value.shape, key_shape)
        output = keras.KerasTensor(shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        others = [n for axis, n in enumerate(query.shape[:-1]) if axis not in self._axes]
        steps = [side.shape[axis] for side in (query, value) for axis in self._axes]
        weights = (*others, self.num_heads, *steps)
        return output, keras.KerasTensor(weights, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        own = {
            "num_heads": self.num_heads,
            "key_dim": self.key_dim,
            "value_dim": self.value_dim,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "output_shape": self._output_sizes,
            "attention_axes": self._axes_given,
            "sliding_window": self.sliding_window,
            "flash_attention": self.flash_attention,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self._projection_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
            "use_gate": self.use_gate,
            "seed": self.seed,
        }
        return {**super().get_config(), **own}


def _copy(initializer: Any) -> Any:
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return type(initializer).from_config(initializer.get_config())


def _check_same_steps(value_shape: Sequence, key_shape: Sequence) -> None:
    if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
        raise ValueError(
            "the steps of value and key must be equal, not those of the shapes "
            f"{tuple(value_shape)} and {tuple(key_shape)}"
        )
