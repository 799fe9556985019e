"""A minimal LSTM: gates from the input alone, and so in parallel over time or step by step."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# A tensor's mask, and the class whose dropout masks stock `keras.layers.RNN` renews; Keras makes
# them public nowhere.
from keras.src.backend import get_keras_mask
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from zoo.layers.arguments import check_choice, check_positive, check_rate
from zoo.layers.linear_recurrence import FORMS, linear_recurrence


@keras.saving.register_keras_serializable(package="zoo")
def log_space_candidate(x: Any) -> Any:
    """The activation of the paper's form in log space: above zero everywhere, and continuous.

        g(x) = x + 0.5 where x >= 0, sigmoid(x) elsewhere

    Source: Feng et al. 2024, appendix B.

    Args:
        x: a tensor of any shape.

    Returns:
        A tensor of the same shape.

    Example:
        >>> ops.convert_to_numpy(log_space_candidate(ops.array([0.0, 2.0]))).tolist()
        [0.5, 2.5]
    """
    return ops.where(x >= 0, ops.relu(x) + 0.5, ops.sigmoid(x))


def min_lstm_gates(gates: Any, activation: Any = keras.activations.linear) -> tuple[Any, Any]:
    """What a MinLSTM keeps of its state, and what it adds to it.

        i, f = sigmoid(...), c = activation(...)
        i' = i / (i + f),  f' = f / (i + f) = 1 - i'

    computed as `i' = sigmoid(log i - log f)`, so that gates which are both all but zero still give
    numbers.

    Args:
        gates: `float[..., 3U]`, `x W + b` of all gates in the order i, f, c.
        activation: of the candidate.

    Returns:
        f' and i' * c, each `float[..., U]`.

    Example:
        >>> kept, added = min_lstm_gates(ops.array([[-200.0, -200.0, 3.0]]))
        >>> ops.convert_to_numpy(kept).tolist(), ops.convert_to_numpy(added).tolist()
        ([[0.5]], [[1.5]])
    """
    i, f, c = ops.split(gates, 3, axis=-1)  # each float[..., U]
    balance = ops.softplus(-f) - ops.softplus(-i)  # log i - log f
    return ops.sigmoid(-balance), ops.sigmoid(balance) * activation(c)


@keras.saving.register_keras_serializable(package="zoo")
class MinLSTMCell(DropoutRNNCell, keras.layers.Layer):
    """One step of a minimal LSTM, for `keras.layers.RNN`; `MinLSTM` has the same weights.

        f = sigmoid(x W_f + b_f)             forget gate
        i = sigmoid(x W_i + b_i)             input gate
        c = activation(x W_c + b_c)          candidate state
        f' = f / (f + i),  i' = i / (f + i)  shares that add up to one
        h' = f' * h + i' * c                 hidden state

    No gate sees the hidden state, so that those of all steps may be computed at once, and the
    state is a weighted mean of the candidates up to here. Source: Feng et al. 2024, "Were RNNs All
    We Needed?", arXiv 2410.01201.

    The weights are packed, gates in the order i, f, c: `kernel [D, 3U]`, `bias [3U]`. In half
    precision, gates and state are computed in float32, but the state goes from step to step as
    what the cell computes in; `MinLSTM` keeps it in float32 all along.

    Args:
        units: U.
        activation: of the candidate; the paper has none, or `log_space_candidate`.
        use_bias: whether there is a bias.
        kernel_initializer: of the weights.
        bias_initializer: of the bias.
        kernel_regularizer: of the weights.
        bias_regularizer: of the bias.
        kernel_constraint: of the weights.
        bias_constraint: of the bias.
        dropout: share of the inputs dropped in training, in [0, 1].
        seed: of the dropout.

    Call arguments:
        inputs: `float[B, D]`.
        states: `float[B, U]`, or a list of this one tensor.
        training: whether to drop.

    Returns:
        `float[B, U]`, the hidden state, and the new state, which is the same, in a list if the old
        one was.

    Raises:
        ValueError: if `units` is not positive, or `dropout` lies outside [0, 1].

    Example:
        >>> cell = MinLSTMCell(3)
        >>> output, state = cell(ops.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(output.shape), tuple(state.shape)
        ((2, 3), (2, 3))
    """

    def __init__(
        self,
        units: int,
        activation: Any = "linear",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_positive("units", units)
        check_rate("dropout", dropout)
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = dropout
        self.recurrent_dropout = 0.0  # stock RNN's cells with dropout have both
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed=seed)
        self.state_size = units
        self.output_size = units

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights for inputs of D features."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 3 * self.units),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(3 * self.units,),
                name="bias",
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    @property
    def state_dtype(self) -> str:
        """What gates and state are computed in: float32, or float64."""
        return "float64" if self.compute_dtype == "float64" else "float32"

    def shares(self, inputs: Any) -> tuple[Any, Any]:
        """What the state is multiplied by and what is added, each `float[..., U]`.

        Args:
            inputs: `float[..., D]`.
        """
        gates = ops.matmul(inputs, self.kernel)  # float[..., 3U]
        if self.bias is not None:
            gates = gates + self.bias
        return min_lstm_gates(ops.cast(gates, self.state_dtype), self.activation)

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, Any]:
        """Runs one step."""
        nested = isinstance(states, list | tuple)
        state = states[0] if nested else states
        if training and self.dropout:
            inputs = inputs * self.get_dropout_mask(inputs)
        kept, added = self.shares(inputs)
        state = kept * ops.cast(state, self.state_dtype) + added  # float[B, U]
        state = ops.cast(state, self.compute_dtype)
        return state, [state] if nested else state

    def get_initial_state(self, batch_size: Any = None) -> Any:
        """Returns zeros, `float[B, U]`."""
        return ops.zeros((batch_size, self.units), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        return {**super().get_config(), **_cell_config(self)}


def _of_the_cell(name: str) -> property:
    return property(lambda layer: getattr(layer.cell, name), doc=f"The cell's `{name}`.")


@keras.saving.register_keras_serializable(package="zoo")
class MinLSTM(keras.layers.RNN):
    """A minimal LSTM over time, in two equal forms; the equations stand at `MinLSTMCell`.

    Args:
        units: U. This and all others up to `seed` are `MinLSTMCell`'s, but for
            `activity_regularizer`, which regularises the output.
        return_sequences: whether to return the state of every step, or of the last alone.
        return_state: whether to return the last state besides.
        go_backwards: whether to read the sequence from its end; outputs come in that order.
        stateful: whether a batch begins with the states in which the one before it ended.
        mode: `"parallel"` computes all steps at once, by an associative scan of about log T turns;
            `"steps"` one after the other; `"auto"` takes what is faster: TensorFlow's loop on a
            CPU and where T is unknown, as the scan needs it, else the scan.

    Call arguments:
        sequences: `float[B, T, D]`.
        initial_state: `float[B, U]`, or a list of it; zeros if left out.
        mask: `bool[B, T]`, true where a step is real; the sequences' Keras mask if left out.
            Elsewhere state and output stay as they were after the last real step, and are the
            initial state before the first.
        training: whether to drop.

    Returns:
        `float[B, U]`, or `float[B, T, U]` with `return_sequences`; with `return_state` followed by
        the state, `float[B, U]`.

    Raises:
        ValueError: as `MinLSTMCell`, or for a `mode` that is none of the three.

    Example:
        >>> MinLSTM(3, return_sequences=True)(ops.ones((2, 7, 5))).shape == (2, 7, 3)
        True
    """

    def __init__(
        self,
        units: int,
        activation: Any = "linear",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        mode: str = "auto",
        **kwargs: Any,
    ) -> None:
        check_choice("mode", mode, ("auto", *FORMS))
        if kwargs.pop("unroll", False):
            raise ValueError("argument `unroll` must be False, not True: see `mode`")
        cell = MinLSTMCell(
            units,
            activation=activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            seed=seed,
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="min_lstm_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.mode = mode

    units = _of_the_cell("units")
    activation = _of_the_cell("activation")
    use_bias = _of_the_cell("use_bias")
    kernel_initializer = _of_the_cell("kernel_initializer")
    bias_initializer = _of_the_cell("bias_initializer")
    kernel_regularizer = _of_the_cell("kernel_regularizer")
    bias_regularizer = _of_the_cell("bias_regularizer")
    kernel_constraint = _of_the_cell("kernel_constraint")
    bias_constraint = _of_the_cell("bias_constraint")
    dropout = _of_the_cell("dropout")
    seed = _of_the_cell("seed")

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Runs all steps, in the form that `mode` says."""
        cell = self.cell
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        nested = isinstance(initial_state, list | tuple)
        state = ops.cast(initial_state[0] if nested else initial_state, cell.state_dtype)
        if training and cell.dropout:
            dropped = cell.get_dropout_mask(sequences[:, 0, :])  # float[B, D]
            sequences = sequences * ops.expand_dims(dropped, axis=1)  # float[B, T, D]
        inputs = ops.transpose(sequences, (1, 0, 2))  # float[T, B, D]
        inputs = ops.flip(inputs, axis=0) if self.go_backwards else inputs
        kept, added = cell.shares(inputs)  # each float[T, B, U]
        real = None
        if mask is not None:
            real = ops.expand_dims(ops.transpose(ops.cast(mask, "bool")), -1)  # bool[T, B, 1]
            real = ops.flip(real, axis=0) if self.go_backwards else real
            kept = ops.where(real, kept, ops.ones_like(kept))
            added = ops.where(real, added, ops.zeros_like(added))
        states = linear_recurrence(kept, added, state, self.mode)  # float[T, B, U]
        last = ops.cast(states[-1], cell.compute_dtype)  # float[B, U]
        if not self.return_sequences:
            return last, ops.expand_dims(last, axis=1), [last]
        if real is not None and self.zero_output_for_mask:
            states = ops.where(real, states, ops.zeros_like(states))
        outputs = ops.transpose(ops.cast(states, cell.compute_dtype), (1, 0, 2))
        return last, outputs, [last]  # float[B, T, U]

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Runs the layer; see the class for shapes."""
        if mask is None:
            # Keras fills `mask` in only where the sequences are the one tensor argument: with an
            # initial state, padding would count.
            mask = get_keras_mask(sequences)
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        own = {"activity_regularizer": regularizer, "mode": self.mode}
        return {**config, **_cell_config(self.cell), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "MinLSTM":
        """Makes the layer that `get_config` described."""
        return cls(**config)


def _cell_config(cell: MinLSTMCell) -> dict[str, Any]:
    """The constructor arguments that the cell and the layer share."""
    return {
        "units": cell.units,
        "activation": keras.activations.serialize(cell.activation),
        "use_bias": cell.use_bias,
        "kernel_initializer": keras.initializers.serialize(cell.kernel_initializer),
        "bias_initializer": keras.initializers.serialize(cell.bias_initializer),
        "kernel_regularizer": keras.regularizers.serialize(cell.kernel_regularizer),
        "bias_regularizer": keras.regularizers.serialize(cell.bias_regularizer),
        "kernel_constraint": keras.constraints.serialize(cell.kernel_constraint),
        "bias_constraint": keras.constraints.serialize(cell.bias_constraint),
        "dropout": cell.dropout,
        "seed": cell.seed,
    }
