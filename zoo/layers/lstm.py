"""An LSTM over time."""

import inspect
from typing import Any

import keras
from keras import ops

# cuDNN's LSTM where the backend has one; Keras makes it public nowhere.
from keras.src.backend import lstm as backend_lstm

from zoo.layers.lstm_cell import LSTMCell, cell_config

_OF_THE_CELL = frozenset(inspect.signature(LSTMCell).parameters) - {"kwargs"} | {"implementation"}


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
        use_cudnn: `"auto"` takes cuDNN where it can, `True` insists on it, `False` never does.

    Call arguments:
        sequences: `float[B, T, D]`.
        initial_state: the pair `[hidden, cell]`, each `float[B, U]`; zeros if left out.
        mask: `bool[B, T]`, true where a step is real. Elsewhere states and output stay as they
            were after the last real step.
        training: whether to drop.

    Returns:
        `float[B, U]`, or `float[B, T, U]` with `return_sequences`; with `return_state` followed by
        the hidden and the cell state, each `float[B, U]`.

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
        **kwargs: Any,
    ) -> None:
        if use_cudnn not in ("auto", True, False):
            raise ValueError(f"use_cudnn must be 'auto', True or False, not {use_cudnn!r}")
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

    def __getattr__(self, name: str) -> Any:
        # `units`, `kernel_initializer` and the others that Keras's layer has: they are the cell's.
        if name in _OF_THE_CELL and "cell" in self.__dict__:
            return getattr(self.__dict__["cell"], name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def inner_loop(
        self, sequences: Any, initial_state: Any, mask: Any, training: bool = False
    ) -> Any:
        """Runs the cell over time: by cuDNN where that applies, else by the backend's loop."""
        if isinstance(mask, list | tuple):
            mask = mask[0]
        if self.use_cudnn and not self.cell.recurrent_dropout:
            try:
                outputs = self._run_cudnn(sequences, initial_state, mask, training)
            except NotImplementedError:
                pass
            else:
                # XLA cannot compile cuDNN's ops.
                self.supports_jit = keras.backend.backend() != "tensorflow"
                return outputs
        if self.use_cudnn is True:
            raise ValueError("use_cudnn=True cannot work here: use 'auto', or a GPU and defaults")
        return super().inner_loop(sequences, initial_state, mask=mask, training=training)

    def _run_cudnn(self, sequences: Any, initial_state: Any, mask: Any, training: bool) -> Any:
        cell = self.cell
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
            recurrent_kernel=cell.recurrent_kernel,
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
        return super().call(sequences, initial_state=initial_state, mask=mask, training=training)

    def get_config(self) -> dict[str, Any]:
        """Every constructor argument, by name."""
        config = super().get_config()
        del config["cell"]
        regularizer = keras.regularizers.serialize(self.activity_regularizer)
        own = {"activity_regularizer": regularizer, "use_cudnn": self.use_cudnn}
        return {**config, **cell_config(self.cell), **own}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LSTM":
        """Makes the layer that `get_config` described."""
        return cls(**config)
