"""The gradient of an LSTM's gradient, by way of its equations step by step.

Few ask for one, gradient penalties among them, so it is no faster than TensorFlow makes it.
"""

from collections.abc import Callable
from typing import Any

from zoo.layers.lstm_equations import lstm_step


def twice_differentiable(
    function: Callable, upstream: tuple, values: tuple, mask: Any, sequences: bool
) -> tuple:
    """What an LSTM's hand-written gradient gives, with a gradient of its own.

    Those of a higher order are TensorFlow's.

    Args:
        function: makes the gradient of each of `values` from `upstream`.
        upstream: the gradients of the outputs, the last hidden and the last cell states.
        values: x `float[B, T, D]`, hidden and cell state before, the three weights.
        mask: `bool[B, T]`, true where a step is real, or `None`.
        sequences: whether there are outputs, `float[B, T, U]`.

    Returns:
        What `function` returns.
    """
    import tensorflow as tf

    count, floats = len(upstream), (*upstream, *values)
    # The mask goes in with the others, for the graph of a gradient's gradient knows no more.
    masks = () if mask is None else (mask,)
    # Of this graph, not of the one that the gradient is taken of: the next gradient's graph can ask
    # for nothing of a graph further out.
    floats, masks = tf.nest.map_structure(tf.identity, (floats, masks))

    @tf.custom_gradient
    def once(*inputs: Any) -> Any:
        inputs, mask = inputs[: len(floats)], (*inputs[len(floats) :], None)[0]

        def gradient(*of_slopes: Any) -> tuple:
            # Of the graph in which this is asked for, whichever it is.
            wide = [tf.identity(tf.cast(value, tf.float32)) for value in inputs]
            slopes = _slopes(wide[:count], wide[count:], mask, sequences)
            found = _gradient(slopes, wide, [tf.cast(value, tf.float32) for value in of_slopes])
            found = [tf.cast(f, value.dtype) for f, value in zip(found, inputs, strict=True)]
            return (*found, *(None for _ in masks))

        return function(*map(tf.stop_gradient, inputs[:count])), gradient

    return once(*floats, *masks)


def _slopes(upstream: list, values: list, mask: Any, sequences: bool) -> list:
    results = _equations(mask, *values)
    first = 0 if sequences else 1
    return _gradient(results[first:], values, upstream[first:])


def _gradient(targets: Any, sources: list, upstream: Any) -> list:
    """Of the graph, for where a forward-mode derivative is made, tapes see nothing."""
    import tensorflow as tf

    return tf.gradients(targets, sources, upstream, unconnected_gradients="zero")


def _equations(
    mask: Any, x: Any, hidden: Any, cell: Any, kernel: Any, recurrent: Any, bias: Any
) -> list:
    """Outputs `float32[B, T, U]` and the last two states, all in float32."""
    import tensorflow as tf

    real = tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else mask
    real = tf.transpose(real)[:, :, None]  # bool[T, B, 1]
    steps = tf.transpose(x, (1, 0, 2))  # float32[T, B, D]
    # What is behind a row's end may be no number.
    steps = tf.where(real, steps, 0.0)

    def step(before: tuple, inputs: tuple) -> tuple:
        _, hidden, cell = before
        x, real = inputs
        gates = tf.matmul(x, kernel) + tf.matmul(hidden, recurrent) + bias  # float32[B, 4U]
        new = lstm_step(gates, cell)
        after = (new.hidden, *new)
        return tuple(tf.where(real, a, b) for a, b in zip(after, before, strict=True))

    start = (tf.zeros_like(hidden), hidden, cell)
    made = tf.scan(step, (steps, real), start, parallel_iterations=1)
    return [tf.transpose(made[0], (1, 0, 2)), made[1][-1], made[2][-1]]
