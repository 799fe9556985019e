"""What multi-head attention is made of: its arguments, checked and kept, and its configuration."""

from collections.abc import Sequence
from typing import Any

import keras

from zoo.layers.arguments import (
    as_integers,
    check_above,
    check_choice,
    check_positive,
    check_rate,
)

POSITIONS = ("rotary", "alibi", "relative")

# What Keras lacks, and how it is when it is off.
DEFAULTS = {
    "num_kv_heads": None,
    "position": None,
    "rotary_max_wavelength": 10_000.0,
    "relative_num_buckets": 32,
    "relative_max_distance": 128,
    "relative_bidirectional": True,
    "logits_soft_cap": None,
    "qk_norm": False,
}


class AttentionOptions(keras.layers.Layer):
    """The constructor, attributes and configuration of `zoo.layers.MultiHeadAttention`.

    Arguments, and what is refused: there.

    Example:
        >>> AttentionOptions(num_heads=4, key_dim=3, num_kv_heads=2).get_config()["num_kv_heads"]
        2
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
        *,
        num_kv_heads: int | None = None,
        position: str | None = None,
        rotary_max_wavelength: float = 10_000.0,
        relative_num_buckets: int = 32,
        relative_max_distance: int = 128,
        relative_bidirectional: bool = True,
        logits_soft_cap: float | None = None,
        qk_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        check_positive("num_heads", num_heads)
        check_positive("key_dim", key_dim)
        check_rate("dropout", dropout)
        for name, value in (
            ("value_dim", value_dim),
            ("sliding_window", sliding_window),
            ("num_kv_heads", num_kv_heads),
        ):
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
        self._sliding_window = sliding_window
        self.flash_attention = flash_attention
        # As Keras has it, for good; but an explicit `False` is one.
        enabled = keras.config.is_flash_attention_enabled()
        self._flash_attention = enabled if flash_attention is None else flash_attention
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
        self.num_kv_heads = num_kv_heads
        self.position = position
        self.rotary_max_wavelength = rotary_max_wavelength
        self.relative_num_buckets = relative_num_buckets
        self.relative_max_distance = relative_max_distance
        self.relative_bidirectional = relative_bidirectional
        self.logits_soft_cap = logits_soft_cap
        self.qk_norm = qk_norm
        self._groups = num_kv_heads or num_heads
        self._check_options()

    def _check_options(self) -> None:
        """Raises `ValueError` for options that are wrong, or do not go together."""
        if self.num_heads % self._groups:
            raise ValueError(
                f"num_kv_heads={self.num_kv_heads} must divide num_heads={self.num_heads}"
            )
        if self.position is not None:
            check_choice("position", self.position, POSITIONS)
        if self.position == "rotary" and self.key_dim % 2:
            raise ValueError(f"position='rotary' needs an even key_dim, not {self.key_dim}")
        check_above("rotary_max_wavelength", self.rotary_max_wavelength, 1)
        check_positive("relative_num_buckets", self.relative_num_buckets)
        check_positive("relative_max_distance", self.relative_max_distance)
        sides = 2 if self.relative_bidirectional else 1
        if self.relative_num_buckets % (2 * sides):
            raise ValueError(
                f"relative_num_buckets={self.relative_num_buckets} must be a multiple of "
                f"{2 * sides} for relative_bidirectional={self.relative_bidirectional}"
            )
        # As many distances have a bucket each.
        check_above(
            "relative_max_distance",
            self.relative_max_distance,
            self.relative_num_buckets // (2 * sides),
        )
        if self.logits_soft_cap is not None:
            check_above("logits_soft_cap", self.logits_soft_cap, 0)
        if self.flash_attention and self.dropout:
            raise ValueError(
                "Dropout is not supported when flash attention is enabled. "
                f"flash_attention=True needs dropout=0, not {self.dropout}"
            )
        if self.flash_attention and self.logits_soft_cap is not None:
            raise ValueError(
                "flash_attention=True has no soft cap and needs logits_soft_cap=None, not "
                f"{self.logits_soft_cap}"
            )

    @property
    def sliding_window(self) -> int | None:
        """How many steps, itself included, a query sees to either side."""
        return self._sliding_window

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

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument of Keras's by name, and what else is not at its default.

        What Keras lacks is left out where it is off, so that Keras's layer takes the rest.
        """
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
        options = {name: getattr(self, name) for name in DEFAULTS}
        changed = {name: value for name, value in options.items() if value != DEFAULTS[name]}
        return {**super().get_config(), **own, **changed}
