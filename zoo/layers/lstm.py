"""An LSTM over time."""

from typing import Any

import keras
from keras import ops

# cuDNN's LSTM where the backend has one; Keras makes it public nowhere.
from keras.src.backend import cudnn_ok
from keras.src.backend import lstm as backend_lstm
from keras.src.backend import rnn as backend_rnn

from zoo.layers import lstm_fast
from zoo.layers.gate_weights import GateWeights, gates_from_lstm
from zoo.layers.lstm_cell import LSTMCell, cell_config


def _of_the_cell(name: str) -> property:
    return property(lambda layer: getattr(layer.cell, name), doc=f"The cell's `{name}`.")


def _of_steps(mask: Any, sequences: Any) -> Any:
    """The mask as `[B, T]`; Keras's loop takes `[B, T, 1]` and `[1, T]` as well."""
    if isinstance(mask, list | tuple):
        mask = mask[0]
    if mask is None:
        return None
    if len(mask.shape) == 3 and mask.shape[2] == 1:
        mask = ops.squeeze(mask, 2)
    if mask.shape[0] == 1 != sequences.shape[0] and len(mask.shape) == 2:
        mask = ops.broadcast_to(mask, (ops.shape(sequences)[0], ops.shape(mask)[1]))
    return mask


@keras.saving.register_keras_serializable(package="zoo")
class LSTM(keras.layers.RNN):
    """An LSTM over time; the equations stand at `LSTMCell`.

    The constructor, the weights and the results are those of `keras.layers.LSTM`, so that the one
    can take the other's place, and weights go to and from it by `get_weights` and `set_weights`.

    Args:
        units: U. This and all others up to `seed` are `LSTMCell`'s, but for
            `activity_regularizer`, which regularises the output.
        return_sequences: whether to return the hidden state of every step, or of the last alone.
        return_state: whether to return the last hidden and cell state besides.
        go_backwards: whether to read the sequence from its end; outputs come in that order.
        stateful: whether a batch begins with the states in which the one before it ended.
        unroll: whether to write out the steps instead of looping; for short, fixed lengths.
        use_cudnn: `"auto"` takes cuDNN where it gives these very results, `False` never does;
            `True` insists on it, and then, on TensorFlow, masks must be padded right, and outputs
            behind a row's end are zeros.
        layer_norm: as `LSTMCell`'s, like the three that follow.
        projection_units: P.
        peephole: whether the gates see the cell state.
        recurrent_weight_dropout: share of the recurrent weights dropped in training, in [0, 1].
        return_gates: whether to return the gates of every step besides, to look at them.

    Call arguments:
        sequences: `float[B, T, D]`.
        initial_state: the pair `[hidden, cell]`, each `float[B, U]`; zeros if left out.
        mask: `bool[B, T]`, true where a step is real; if left out, the sequences' Keras mask, but
            none beside an initial state, as in Keras. Elsewhere states and output stay as they were
            after the last real step.
        training: whether to drop.

    Returns:
        `float[B, U]`, or `float[B, T, U]` with `return_sequences`; with `return_state` followed by
        the hidden and the cell state, each `float[B, U]`. With `projection_units`, P stands for U
        but in the cell state. With `return_gates` a dict follows, `i`, `f`, `c` (the candidate) and
        `o`, each `float[B, T, U]`, as they are without dropout, zeros where the mask is false.

    Raises:
        ValueError: as `LSTMCell`, or for a `use_cudnn` that is none of the three.

    Example:
        >>> LSTM(3, return_sequences=True)(ops.ones((2, 7, 5))).shape == (2, 7, 3)
        True
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
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: Any = "auto",
        *,
        layer_norm: bool = False,
        projection_units: int | None = None,
        peephole: bool = False,
        recurrent_weight_dropout: float = 0.0,
        return_gates: bool = False,
        **kwargs: Any,
    ) -> None:
        if use_cudnn not in ("auto", True, False):
            raise ValueError(
                f"argument `use_cudnn` must be 'auto', True or False, not {use_cudnn!r}"
            )
        cell = LSTMCell(
            units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            layer_norm=layer_norm,
            projection_units=projection_units,
            peephole=peephole,
            recurrent_weight_dropout=recurrent_weight_dropout,
            implementation=kwargs.pop("implementation", 2),
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="lstm_cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            activity_regularizer=activity_regularizer,
            **kwargs,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)
        self.use_cudnn = use_cudnn
        self.return_gates = return_gates
        if (
            keras.backend.backend() == "tensorflow"
            and use_cudnn
            and cell.is_plain
            and cudnn_ok(cell.activation, cell.recurrent_activation, unroll, cell.use_bias)
        ):
            self.supports_jit = False  # XLA cannot compile cuDNN's ops

    units = _of_the_cell("units")
    activation = _of_the_cell("activation")
    recurrent_activation = _of_the_cell("recurrent_activation")
    use_bias = _of_the_cell("use_bias")
    kernel_initializer = _of_the_cell("kernel_initializer")
    recurrent_initializer = _of_the_cell("recurrent_initializer")
    bias_initializer = _of_the_cell("bias_initializer")
    unit_forget_bias = _of_the_cell("unit_forget_bias")
    kernel_regularizer = _of_the_cell("kernel_regularizer")
    recurrent_regularizer = _of_the_cell("recurrent_regularizer")
    bias_regularizer = _of_the_cell("bias_regularizer")
    kernel_constraint = _of_the_cell("kernel_constraint")
    recurrent_constraint = _of_the_cell("recurrent_constraint")
    bias_constraint = _of_the_cell("bias_constraint")
    dropout = _of_the_cell("dropout")
    recurrent_dropout = _of_the_cell("recurrent_dropout")
    seed = _of_the_cell("seed")
    implementation = _of_the_cell("implementation")
    layer_norm = _of_the_cell("layer_norm")
    projection_units = _of_the_cell("projection_units")
    peephole = _of_the_cell("peephole")
    recurrent_weight_dropout = _of_the_cell("recurrent_weight_dropout")

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Runs the cell over time: by cuDNN where that applies, else by the backend's loop."""
        mask = _of_steps(mask, sequences)
        if self.stateful:
            # Under PyTorch, the states are overwritten in place, which would spoil the gradient.
            initial_state = [ops.copy(state) for state in initial_state]
        # Before cuDNN, which on PyTorch's CPU backend Keras 3.15 answers with a loop of Python's.
        fast = lstm_fast.takes(self.cell, sequences, training, self.use_cudnn)
        if fast and not self.unroll:
            return self._run_fast(sequences, initial_state, mask, training)
        if self.use_cudnn and self.cell.is_plain and not self.cell.recurrent_dropout:
            try:
                return self._run_cudnn(sequences, initial_state, mask, training)
            except NotImplementedError:
                pass
        if self.use_cudnn is True:
            raise ValueError("use_cudnn=True cannot work here: use 'auto', or a GPU and defaults")
        if self.unroll:
            return self._run_unrolled(sequences, initial_state, mask, training)
        return super().inner_loop(sequences, initial_state, mask=mask, training=training)

    def _run_fast(self, sequences: Any, state: list, mask: Any, training: bool) -> Any:
        if training and self.cell.dropout:
            dropped = self.cell.get_dropout_mask(sequences[:, 0, :])  # float[B, D]
            sequences = sequences * ops.expand_dims(dropped, axis=1)  # float[B, T, D]
        if self.go_backwards:
            sequences = ops.flip(sequences, axis=1)
            mask = None if mask is None else ops.flip(ops.cast(mask, "bool"), axis=1)
        return lstm_fast.run(
            self.cell,
            sequences,
            state,
            mask,
            return_sequences=self.return_sequences,
            zero_output_for_mask=self.zero_output_for_mask,
            training=training,
        )

    def _run_unrolled(self, sequences: Any, state: Any, mask: Any, training: bool) -> Any:
        # Not Keras 3.15's unrolling: with a mask, its zero_output_for_mask zeroes the wrong steps
        # backwards (TensorFlow) or none (JAX), and reading backwards fails (PyTorch).
        outputs: list[Any] = []
        steps = range(sequences.shape[1])
        for t in reversed(steps) if self.go_backwards else steps:
            output, new = self.cell(sequences[:, t], state, training=training)  # float[B, U]
            if mask is not None:
                real = ops.expand_dims(ops.cast(mask[:, t], "bool"), -1)  # bool[B, 1]
                before = outputs[-1] if outputs else ops.zeros_like(output)
                if self.zero_output_for_mask:
                    before = ops.zeros_like(output)
                output = ops.where(real, output, before)
                new = [ops.where(real, n, s) for n, s in zip(new, state, strict=True)]
            state = new
            outputs.append(output)
        shown = outputs if self.return_sequences else outputs[-1:]
        return outputs[-1], ops.stack(shown, axis=1), state  # float[B, T, U]

    def _run_cudnn(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> Any:
        cell = self.cell
        insisted = self.use_cudnn is True
        if mask is not None and not insisted and keras.backend.backend() == "tensorflow":
            # TensorFlow's route takes masks padded right alone, finds others out when a graph
            # runs, and gives zeros, not the last output, behind a row's end.
            raise NotImplementedError
        if keras.backend.backend() == "jax":
            # Keras 3.15 gives the outputs of a layer that reads backwards in another order than its
            # loop, and fails on bfloat16.
            raise NotImplementedError("lstm_fast has what there is of cuDNN under JAX")
        if training and cell.dropout:
            dropped = cell.get_dropout_mask(sequences[:, 0, :])
            if isinstance(dropped, list):
                raise NotImplementedError("cuDNN knows no mask for each gate")
            sequences = sequences * ops.expand_dims(dropped, axis=1)  # float[B, T, D]
        return backend_lstm(
            sequences,
            *initial_state,
            mask,
            kernel=cell.kernel,
            recurrent_kernel=cell.dropped_recurrent_kernel(training),
            bias=cell.bias,
            activation=cell.activation,
            recurrent_activation=cell.recurrent_activation,
            return_sequences=self.return_sequences,
            go_backwards=self.go_backwards,
            unroll=self.unroll,
        )

    def call(
        self,
        sequences: Any,
        initial_state: Any = None,
        mask: Any = None,
        training: bool = False,
    ) -> Any:
        """Runs the layer; see the class for shapes."""
        if not self.return_gates:
            return super().call(
                sequences, initial_state=initial_state, mask=mask, training=training
            )
        if initial_state is None:
            rows = ops.shape(sequences)[0]
            initial_state = self.states if self.stateful else self.get_initial_state(rows)
            # As they are now: a stateful layer overwrites them.
            initial_state = [ops.copy(ops.convert_to_tensor(s)) for s in initial_state]
        results = super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        gates = self.run_gates(sequences, list(initial_state), mask)
        return (*(results if self.return_state else (results,)), gates)

    def run_gates(self, sequences: Any, initial_state: list, mask: Any) -> dict[str, Any]:
        """The gates of every step: another run, for a loop returns one tensor a step alone.

        Args:
            sequences: `float[B, T, D]`; the layer must be built.
            initial_state: the hidden and the cell state before, each `float[B, U]`.
            mask: `bool[B, T]`, true where a step is real, or `None`.

        Returns:
            `i`, `f`, `c` and `o`, each `float[B, T, U]`, in the order in which the layer reads.
        """

        def step(inputs: Any, states: Any) -> tuple[Any, list]:
            state, gates = self.cell.step(inputs, states)
            return ops.concatenate(gates, axis=-1), list(state)  # float[B, 4U]

        dtype = self.cell.compute_dtype
        _, gates, _ = backend_rnn(
            step,
            ops.cast(sequences, dtype),
            [ops.cast(state, dtype) for state in initial_state],
            go_backwards=self.go_backwards,
            mask=_of_steps(mask, sequences),
            unroll=self.unroll,
            input_length=sequences.shape[1],
            zero_output_for_mask=True,
            return_all_outputs=True,
        )  # float[B, T, 4U]
        return dict(zip("ifco", ops.split(gates, 4, axis=-1), strict=True))

    def compute_output_shape(self, sequences_shape: Any, initial_state_shape: Any = None) -> Any:
        """The shapes of the results, those of the gates among them."""
        shapes = super().compute_output_shape(sequences_shape, initial_state_shape)
        if not self.return_gates:
            return shapes
        gates = dict.fromkeys("ifco", (*sequences_shape[:2], self.units))
        return (*(shapes if self.return_state else (shapes,)), gates)

    def compute_mask(self, sequences: Any, mask: Any) -> Any:
        """The sequences' mask for what has their steps, none for the last output and the states."""
        masks = super().compute_mask(sequences, mask)
        if not self.return_gates:
            return masks
        steps = mask[0] if isinstance(mask, list | tuple) else mask
        return [*(masks if self.return_state else [masks]), dict.fromkeys("ifco", steps)]

    def gates(self, order: str = "xh") -> GateWeights:
        """The weights gate by gate; `zoo.convert.lstm_from_gates` packs them again.

        Args:
            order: what a gate's matrix acts on: `"xh"` for `[x, h]`, `"hx"` for `[h, x]`.

        Returns:
            `(W, U, b)`: `W` and `b` are dicts of NumPy arrays keyed `f, i, o, c`, `[D + U, U]` and
            `[U]`; `b` is `None` without a bias, and `U`, a second recurrent matrix, is `None`, or
            zeros `[P, U]` with a projection.

        Raises:
            ValueError: if the layer is not built, or for another order.
        """
        if not self.cell.built:
            raise ValueError("LSTM.gates() needs a layer that is built: call it, or its build()")
        weights = [self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias]
        arrays = [None if w is None else ops.convert_to_numpy(w) for w in weights]
        return gates_from_lstm(arrays[0], arrays[1], arrays[2], order)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        own = {"activity_regularizer": regularizer, "use_cudnn": self.use_cudnn}
        if self.return_gates:  # left out where it is off, so that Keras's own class takes the rest
            own["return_gates"] = True
        return {**config, **cell_config(self.cell), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSTM":
        """Makes the layer that `get_config` described."""
        return cls(**config)
