"""One step of an LSTM as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
from keras import ops

Activation = Callable[[Any], Any]


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step.

    Args:
        hidden: `float[B, U]`, the output of the last step, h.
        cell: `float[B, U]`, the cell state, c.
    """

    hidden: Any
    cell: Any


def lstm_step(
    gates: Any, cell: Any, activation: Activation = ops.tanh, gate: Activation = ops.sigmoid
) -> LSTMState:
    """One step of an LSTM, from its gates' inputs on.

        i, f, o = gate(...), g = activation(...)
        c' = f * c + i * g
        h' = o * activation(c')

    Args:
        gates: `float[B, 4U]`, `[h, x] W + b` of all gates in the order i, f, c, o.
        cell: `float[B, U]`, the cell state before.
        activation: of the candidate and of the cell state.
        gate: activation of the three gates.

    Returns:
        The state after.

    Example:
        >>> state = lstm_step(ops.zeros((1, 8)), ops.ones((1, 2)))
        >>> ops.convert_to_numpy(state.cell).tolist()
        [[0.5, 0.5]]
    """
    return step_with_gates(gates, cell, activation, gate)[0]


def step_with_gates(
    gates: Any,
    cell: Any,
    activation: Activation,
    gate: Activation,
    peepholes: Any = None,
    before_output: Activation = lambda cell: cell,
) -> tuple[LSTMState, tuple]:
    """`lstm_step` with its options, and the gates that it took.

    Args:
        gates: as there.
        cell: as there.
        activation: as there.
        gate: as there.
        peepholes: `float[3, U]`, factors of the cell state that the gates i, f, o see.
        before_output: applied to the new cell state before its activation.

    Returns:
        The state after, and i, f, c (the candidate) and o, each `float[B, U]`.

    Example:
        >>> _, gates = step_with_gates(ops.zeros((1, 8)), ops.ones((1, 2)), ops.tanh, ops.sigmoid)
        >>> ops.convert_to_numpy(gates[0]).tolist()
        [[0.5, 0.5]]
    """
    i, f, g, o = ops.split(gates, 4, axis=-1)  # each float[B, U]
    if peepholes is not None:
        of_i, of_f, of_o = ops.unstack(peepholes, 3)
        i, f = i + of_i * cell, f + of_f * cell
    i, f, g = gate(i), gate(f), activation(g)
    cell = f * cell + i * g  # float[B, U]
    o = gate(o if peepholes is None else o + of_o * cell)
    return LSTMState(o * activation(before_output(cell)), cell), (i, f, g, o)


def normalize(values: Any) -> Any:
    """Mean zero and variance one along the last axis, computed in float32 at least.

    Example:
        >>> ops.convert_to_numpy(normalize(ops.array([[1.0, 3.0]]))).round(3).tolist()
        [[-1.0, 1.0]]
    """
    dtype = values.dtype
    values = ops.cast(values, keras.backend.result_type(dtype, "float32"))
    mean, variance = ops.moments(values, axes=-1, keepdims=True)
    return ops.cast((values - mean) * ops.rsqrt(variance + 1e-5), dtype)
