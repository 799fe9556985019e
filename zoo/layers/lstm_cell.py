"""The cell of an LSTM."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

# Stock `keras.layers.RNN` renews the dropout masks of instances of this class alone, and it is
# nowhere public; without it a cell of ours in Keras's RNN would keep the first batch's masks.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

from zoo.layers.arguments import check_positive, check_rate, copied
from zoo.layers.lstm_equations import LSTMState, normalize, step_with_gates

# What Keras's cell has not, and where it is off.
OPTIONS = {
    "layer_norm": False,
    "projection_units": None,
    "peephole": False,
    "recurrent_weight_dropout": 0.0,
}


@keras.saving.register_keras_serializable(package="zoo")
class LSTMCell(DropoutRNNCell, keras.layers.Layer):
    """One step of an LSTM, to be run over time by `keras.layers.RNN` or `zoo.layers.LSTM`.

    With `[h, x]` the concatenation of the previous hidden state and the input:

        f = sigmoid(W_f [h, x] + b_f)        forget gate: near 0 forgets, near 1 keeps
        i = sigmoid(W_i [h, x] + b_i)        input gate
        g = tanh   (W_c [h, x] + b_c)        candidate cell state
        c' = f * c + i * g                   cell state
        o = sigmoid(W_o [h, x] + b_o)        output gate
        h' = o * tanh(c')                    hidden state

    Sources: Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000; its bias of one:
    Jozefowicz et al. 2015; dropout with one mask a sequence: Gal & Ghahramani 2016.

    Options, each off by default, change these lines alone:

        layer_norm        W [h, x] + b  becomes  LN(W_h h) + LN(W_x x) + b, each LN over all four
                          gates with a gain, and h' = o * tanh(LN(c')), with gain and offset
        projection_units  h' = (o * tanh(c')) W_p, of P units in place of U
        peephole          p_i * c, p_f * c and p_o * c' are added within the gates' sigmoids
        recurrent_weight_dropout
                          W_h with single weights dropped, the same for all rows and steps of a call

    Sources: layer normalisation: Ba et al. 2016, whose two offsets within the gates are one with b;
    projection: Sak et al. 2014; peepholes: Gers et al. 2002; dropped weights: Merity et al. 2017.

    The weights are packed as `keras.layers.LSTMCell` packs them, gates in the order i, f, c, o:
    `kernel [D, 4U]`, `recurrent_kernel [U, 4U]`, `bias [4U]`. Those of the options follow:
    `projection_kernel [U, P]` (`recurrent_kernel` is `[P, 4U]` then), `peephole_kernel [3, U]` in
    the order i, f, o, `input_norm_gain [4U]`, `recurrent_norm_gain [4U]`, `cell_norm_gain [U]`,
    `cell_norm_offset [U]`.

    Args:
        units: U.
        activation: of the candidate and of the cell state.
        recurrent_activation: of the three gates.
        use_bias: whether there is a bias.
        kernel_initializer: of the input weights.
        recurrent_initializer: of the recurrent weights.
        bias_initializer: of the bias.
        unit_forget_bias: whether the forget gate's bias begins at one.
        kernel_regularizer: of the input weights.
        recurrent_regularizer: of the recurrent weights.
        bias_regularizer: of the bias.
        kernel_constraint: of the input weights.
        recurrent_constraint: of the recurrent weights.
        bias_constraint: of the bias.
        dropout: share of the inputs dropped in training, in [0, 1].
        recurrent_dropout: share of the hidden state dropped in training, in [0, 1].
        seed: of the dropout.
        implementation: 2 drops the same inputs for all gates, 1 others for each gate; a
            `recurrent_dropout` above zero implies 1.
        layer_norm: whether the gates' inputs and the cell state are normalised.
        projection_units: P, units of the hidden state; U of them, not projected, if left out.
        peephole: whether the gates see the cell state.
        recurrent_weight_dropout: share of the recurrent weights dropped in training, in [0, 1].

    Call arguments:
        inputs: `float[B, D]`.
        states: the pair `[hidden, cell]`, each `float[B, U]`, the hidden one `float[B, P]` where it
            is projected.
        training: whether to drop.

    Returns:
        `float[B, U]` or `float[B, P]`, the hidden state, and the list of the two new states.

    Raises:
        ValueError: if `units` or `projection_units` is not positive, or a rate lies outside [0, 1].

    Example:
        >>> cell = LSTMCell(3)
        >>> output, state = cell(ops.ones((2, 5)), cell.get_initial_state(2))
        >>> tuple(output.shape), len(state)
        ((2, 3), 2)
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        *,
        layer_norm: bool = False,
        projection_units: int | None = None,
        peephole: bool = False,
        recurrent_weight_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        check_positive("units", units)
        if projection_units is not None:
            check_positive("projection_units", projection_units)
        check_rate("recurrent_weight_dropout", recurrent_weight_dropout)
        check_rate("dropout", dropout)
        check_rate("recurrent_dropout", recurrent_dropout)
        implementation = kwargs.pop("implementation", 2)
        if implementation not in (0, 1, 2):
            raise ValueError(f"argument `implementation` must be 0, 1 or 2, not {implementation}")
        super().__init__(**kwargs)
        self.units = units
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.unit_forget_bias = unit_forget_bias
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.recurrent_regularizer = keras.regularizers.get(recurrent_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.recurrent_constraint = keras.constraints.get(recurrent_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.implementation = 1 if recurrent_dropout else implementation
        if self.implementation == 1:
            # DropoutRNNCell then draws a mask for each gate.
            self.dropout_mask_count = 4
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed=seed)
        self.layer_norm = layer_norm
        self.projection_units = projection_units
        self.peephole = peephole
        self.recurrent_weight_dropout = recurrent_weight_dropout
        self._recurrent_weight_mask = None
        self.output_size = projection_units or units
        self.state_size = [self.output_size, units]

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Makes the weights for inputs of D features."""
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 4 * self.units),
            name="kernel",
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.recurrent_kernel = self.add_weight(
            shape=(self.output_size, 4 * self.units),
            name="recurrent_kernel",
            initializer=self._initial_recurrent_kernel,
            regularizer=self.recurrent_regularizer,
            constraint=self.recurrent_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                shape=(4 * self.units,),
                name="bias",
                initializer=self._initial_bias if self.unit_forget_bias else self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        if self.projection_units is not None:
            self.projection_kernel = self.add_weight(
                shape=(self.units, self.projection_units),
                name="projection_kernel",
                initializer=copied(self.kernel_initializer),
                regularizer=self.kernel_regularizer,
                constraint=self.kernel_constraint,
            )
        if self.peephole:
            self.peephole_kernel = self.add_weight(
                shape=(3, self.units),
                name="peephole_kernel",
                initializer="zeros",  # no peephole at the start
                regularizer=self.recurrent_regularizer,
                constraint=self.recurrent_constraint,
            )
        if self.layer_norm:
            for name in ("input_norm_gain", "recurrent_norm_gain"):
                setattr(self, name, self.add_weight((4 * self.units,), "ones", name=name))
            self.cell_norm_gain = self.add_weight((self.units,), "ones", name="cell_norm_gain")
            self.cell_norm_offset = self.add_weight((self.units,), "zeros", name="cell_norm_offset")

    def _initial_recurrent_kernel(self, shape: Sequence[int], dtype: Any = None) -> Any:
        # No backend decomposes every matrix of half precision, which an orthogonal one needs.
        drawn_as = "float32" if dtype in ("float16", "bfloat16") else dtype
        return ops.cast(self.recurrent_initializer(shape, dtype=drawn_as), dtype)

    def _initial_bias(self, shape: Sequence[int], *args: Any, **kwargs: Any) -> Any:
        del shape  # made gate by gate, as Keras does, so that a seeded initialiser gives the same
        units = self.units
        return ops.concatenate(
            [
                self.bias_initializer((units,), *args, **kwargs),
                keras.initializers.Ones()((units,), *args, **kwargs),
                self.bias_initializer((2 * units,), *args, **kwargs),
            ]
        )  # float[4U]

    def call(self, inputs: Any, states: Any, training: bool = False) -> tuple[Any, list[Any]]:
        """Runs one step."""
        state, _ = self.step(inputs, states, training)
        return state.hidden, list(state)

    def step(self, inputs: Any, states: Any, training: bool = False) -> tuple[LSTMState, tuple]:
        """Runs one step, and shows its gates.

        Returns the new state, and i, f, c (the candidate) and o, each `float[B, U]`.
        """
        hidden, cell = states
        dropped = training and self.recurrent_dropout
        input_mask = self.get_dropout_mask(inputs) if training and self.dropout else None
        hidden_mask = self.get_recurrent_dropout_mask(hidden) if dropped else None
        recurrent_kernel = self.dropped_recurrent_kernel(training)
        of_input = self._project(inputs, self.kernel, input_mask)  # float[B, 4U]
        of_hidden = self._project(hidden, recurrent_kernel, hidden_mask)  # float[B, 4U]
        if self.layer_norm:
            of_input = normalize(of_input) * self.input_norm_gain
            of_hidden = normalize(of_hidden) * self.recurrent_norm_gain
        gates = of_input + of_hidden
        if self.bias is not None:
            gates = gates + self.bias
        peepholes = ops.convert_to_tensor(self.peephole_kernel) if self.peephole else None
        (hidden, cell), shown = step_with_gates(
            gates,
            cell,
            self.activation,
            self.recurrent_activation,
            peepholes,
            self._normalize_cell if self.layer_norm else lambda cell: cell,
        )
        if self.projection_units is not None:
            hidden = ops.matmul(hidden, self.projection_kernel)  # float[B, P]
        return LSTMState(hidden, cell), shown

    def _normalize_cell(self, cell: Any) -> Any:
        return normalize(cell) * self.cell_norm_gain + self.cell_norm_offset

    def get_recurrent_dropout_mask(self, step_input: Any) -> Any:
        """As Keras's, and draws which weights are dropped: Keras asks for it before a loop."""
        if self.recurrent_weight_dropout and self._recurrent_weight_mask is None:
            kernel = ops.convert_to_tensor(self.recurrent_kernel)
            self._recurrent_weight_mask = keras.random.dropout(
                ops.ones_like(kernel), self.recurrent_weight_dropout, seed=self.seed_generator
            )  # float[U, 4U]
        return super().get_recurrent_dropout_mask(step_input)

    def reset_recurrent_dropout_mask(self) -> None:
        """Forgets the masks, that the next call draws others."""
        super().reset_recurrent_dropout_mask()
        self._recurrent_weight_mask = None

    def dropped_recurrent_kernel(self, training: bool) -> Any:
        """The recurrent kernel, `float[U, 4U]`; in training, some of its weights zero."""
        if not training or not self.recurrent_weight_dropout:
            return self.recurrent_kernel
        self.get_recurrent_dropout_mask(self.recurrent_kernel)
        return self.recurrent_kernel * self._recurrent_weight_mask

    @property
    def is_plain(self) -> bool:
        """Whether the equations are those of Keras's cell: no option but dropped weights."""
        options = self.layer_norm or self.peephole or self.projection_units is not None
        # One of a user's own, made from this one, may compute anything.
        return not options and type(self).call is LSTMCell.call

    def _project(self, values: Any, kernel: Any, mask: Any) -> Any:
        """`values W` of all gates; a list of masks is one for each gate."""
        if mask is None:
            return ops.matmul(values, kernel)  # float[B, 4U]
        if not isinstance(mask, list):
            return ops.matmul(values * mask, kernel)  # float[B, 4U]
        kernels = ops.split(kernel, 4, axis=1)  # each float[D, U]
        parts = [ops.matmul(values * m, k) for m, k in zip(mask, kernels, strict=True)]
        return ops.concatenate(parts, axis=-1)  # float[B, 4U]

    def get_initial_state(self, batch_size: Any = None) -> list[Any]:
        """Returns zeros for both states, each `float[B, U]`."""
        return [ops.zeros((batch_size, u), dtype=self.compute_dtype) for u in self.state_size]

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        return {**super().get_config(), **cell_config(self)}


def cell_config(cell: LSTMCell) -> dict[str, Any]:
    """The constructor arguments that the cell and the layer share."""
    return {
        "units": cell.units,
        "activation": keras.activations.serialize(cell.activation),
        "recurrent_activation": keras.activations.serialize(cell.recurrent_activation),
        "use_bias": cell.use_bias,
        "kernel_initializer": keras.initializers.serialize(cell.kernel_initializer),
        "recurrent_initializer": keras.initializers.serialize(cell.recurrent_initializer),
        "bias_initializer": keras.initializers.serialize(cell.bias_initializer),
        "unit_forget_bias": cell.unit_forget_bias,
        "kernel_regularizer": keras.regularizers.serialize(cell.kernel_regularizer),
        "recurrent_regularizer": keras.regularizers.serialize(cell.recurrent_regularizer),
        "bias_regularizer": keras.regularizers.serialize(cell.bias_regularizer),
        "kernel_constraint": keras.constraints.serialize(cell.kernel_constraint),
        "recurrent_constraint": keras.constraints.serialize(cell.recurrent_constraint),
        "bias_constraint": keras.constraints.serialize(cell.bias_constraint),
        "dropout": cell.dropout,
        "recurrent_dropout": cell.recurrent_dropout,
        "seed": cell.seed,
        "implementation": cell.implementation,
        # Of the options what is on: without them, Keras's own class takes the rest.
        **{
            name: getattr(cell, name) for name, off in OPTIONS.items() if getattr(cell, name) != off
        },
    }
