"""An LSTM's loop over time on TensorFlow's CPU kernels, with a gradient of its own.

What the portable loop spends beyond its matrix products is saved here:

- eight steps a turn, for a turn of TensorFlow's loop costs as much as several small operations;
- in float32, those eight in one operation, and the gradient of a step but for its products, too;
- in the gradient, the products that do not hang on the step behind are made for several turns at
  once, and none within the loop is a transposed one, which takes up to twice as long as a
  plain one;
- a turn reads its steps out of the batch and keeps its results together, so that no whole array is
  turned around or copied;
- of rows of unlike length, only those that still run are computed.

Stock operations alone, and none that a compiler must make.
"""

import functools
from typing import Any

from zoo.layers.lstm_backward_loop import gradients
from zoo.layers.lstm_higher_order_loop import twice_differentiable
from zoo.layers.lstm_rows_loop import (
    Part,
    alive,
    cut,
    joined,
    loop,
    number,
    places,
    together,
    turns,
)
from zoo.layers.lstm_steps_loop import in_one_operation, one_by_one
from zoo.layers.own_gradient_fast import own_gradient


def run_loop(
    x: Any,
    mask: Any,
    state: list,
    weights: list,
    *,
    sequences: bool,
    keep: bool,
    block: Any = False,
) -> tuple[Any, Any, Any]:
    """Runs an LSTM over time; its gradient is exact, and so are those of its gradient.

    Args:
        x: `float[B, T, D]`.
        mask: `bool[B, T]`, true where a step is real, or `None` if all are.
        state: the hidden and the cell state before, each `float[B, U]`.
        weights: kernel `[D, 4U]`, recurrent kernel `[U, 4U]` and bias `[4U]` as Keras has them.
            All floats are of one type; cell states are computed in float32.
        sequences: whether the outputs of all steps are asked for.
        keep: whether to keep what a gradient needs; if not, a gradient runs the loop once more.
        block: whether to run all steps in one operation, which is faster for few rows; for
            float32, and where nothing is kept. A `bool`, or a tensor that a graph knows later.

    Returns:
        The outputs `float[B, T, U]`, of a step that is not real the output before it, zeros if
        there is none; no more than a number unless `sequences`. Then each row's last hidden and
        last cell state, `float[B, U]`.
    """
    import tensorflow as tf

    plain = tf.autograph.experimental.do_not_convert
    parts, fitting = cut(x, mask, (x.shape[0] or 2) < 2)

    def run(*values: Any) -> Any:
        _refuse_forward_mode(values)
        # A tape would follow the loops else, and TensorFlow look for the gradient of each operation
        # in them where two tapes do.
        x, hidden, cell, *weights = map(tf.stop_gradient, values)

        def forward(keep: bool, sequences: bool) -> tuple[list, list]:
            """Outputs, hidden and cell states of each part, and what each kept."""
            made = [_forward(p, x, hidden, cell, weights, sequences, keep) for p in parts]
            return [m[:3] for m in made], [_constant(m[3]) for m in made]

        def whole(made: list) -> list:
            shown, *last = zip(*made, strict=True)
            like = tf.TensorShape([*x.shape[:2], hidden.shape[1]])
            outputs = together(parts, shown, like) if sequences else tf.zeros([], x.dtype)
            return [outputs, *(together(parts, values, hidden.shape) for values in last)]

        def in_one() -> list:
            return whole([_block(p, x, hidden, cell, weights, sequences) for p in parts])

        def in_turns() -> list:
            return whole(forward(False, sequences)[0])

        kept: list = []
        if keep:
            made, kept = forward(True, sequences)
            results = whole(made)
        elif isinstance(block, bool):
            results = in_one() if block else in_turns()
        else:  # in here, so that TensorFlow is not asked for a gradient of the choice
            results = tf.cond(block, plain(in_one), plain(in_turns))

        def gradient(*upstream: Any) -> tuple:
            # Those of a gather come as slices, sparse ones.
            upstream = tuple(map(tf.convert_to_tensor, upstream))
            of_parts = kept if keep else forward(True, False)[1]
            inputs = (x, hidden, cell, *weights)

            def backward(*upstream: Any) -> tuple:
                return gradients(parts, fitting, mask, inputs, of_parts, upstream, sequences)

            return twice_differentiable(backward, upstream, values, mask, sequences)

        return tuple(results), plain(gradient)

    return own_gradient(run, x, *state, *weights)


def _forward(
    part: Part, x: Any, hidden: Any, cell: Any, weights: list, sequences: bool, keep: bool
) -> tuple[Any, Any, Any, dict]:
    """Outputs `float[b, T, U]` or `None`, the last states `float[b, U]`, and what was kept."""
    import tensorflow as tf

    size, units = weights[0].shape[0], weights[1].shape[0]
    stacked = tf.concat(weights[:2], 0)
    ragged = part.lengths is not None
    flat = tf.reshape(x, [-1, size])  # [B * T, D]
    initial = [tf.gather(hidden, part.order), tf.cast(tf.gather(cell, part.order), tf.float32)]
    count = number(part.steps)

    def new(dtype: Any, extra: int = 0) -> Any:
        return tf.TensorArray(
            dtype,
            count + extra,
            element_shape=[None, units],
            clear_after_read=False,
            infer_shape=False,
        )

    arrays = {}
    if keep or ragged:
        arrays["cells"] = new(tf.float32, 1)
    if keep or ragged or sequences:
        arrays["hiddens"] = new(x.dtype, 1)
    if keep:
        arrays["gates"] = [new(tf.float32) for _ in range(5 if x.dtype == tf.float32 else 1)]
        arrays["cell_before"], arrays["hidden_before"] = new(tf.float32), new(x.dtype)

    def turn(length: int) -> Any:
        def body(step: Any, hidden: Any, cell: Any, arrays: dict) -> tuple:
            rows = alive(part, step)
            hidden, cell = hidden[:rows], cell[:rows]
            inputs = tf.gather(flat, part.reading[step : step + length, :rows])  # [length, b, D]
            if x.dtype == tf.float32:
                made = in_one_operation(inputs, hidden, cell, stacked, weights[2])
            else:
                made = one_by_one(inputs, hidden, cell, weights, length)
            values = {**made._asdict(), "hidden_before": hidden, "cell_before": cell}
            write = functools.partial(_write, number(step))
            arrays = {
                name: tf.nest.map_structure(write, array, values[name])
                for name, array in arrays.items()
            }
            after = tf.shape(hidden)[0] * (length - 1)
            return step + length, made.hiddens[after:], made.cells[after:], arrays

        return body

    state = (*initial, arrays)
    for first, end, length in turns(part.steps):
        state = loop(first, end, turn(length), state)
    hidden, cell, arrays = state
    shown = None
    if ragged or sequences:
        at, _ = places(part)  # int32[b, T]
        values = joined(arrays["hiddens"], count, units)  # [N, U]
        if sequences:
            shown = tf.gather(values, at)  # [b, T, U]
    if ragged:
        # A step behind the last real one shows that one, and one more stands for no steps at all.
        at = tf.pad(at, [[0, 0], [1, 0]])[:, -1]
        cells = joined(arrays["cells"], count, units)
        some = (part.lengths > 0)[:, None]
        hidden = tf.where(some, tf.gather(values, at), initial[0])
        cell = tf.where(some, tf.gather(cells, at), initial[1])
    return shown, hidden, tf.cast(cell, x.dtype), arrays


def _block(
    part: Part, x: Any, hidden: Any, cell: Any, weights: list, sequences: bool
) -> tuple[Any, Any, Any]:
    """`_forward` in one operation."""
    import tensorflow as tf

    hidden, cell = (tf.gather(state, part.order) for state in (hidden, cell))
    x = tf.gather(tf.reshape(x, [-1, x.shape[2]]), part.reading[: part.steps])  # [T, b, D]
    like = tf.concat([tf.shape(x)[:2], [hidden.shape[1]]], 0)
    made = in_one_operation(x, hidden, cell, tf.concat(weights[:2], 0), weights[2])
    # The states before stand first, for rows of no step.
    hiddens, cells = (
        tf.transpose(tf.concat([before[None], tf.reshape(values, like)], 0), [1, 0, 2])
        for before, values in ((hidden, made.hiddens), (cell, made.cells))
    )  # float32[b, T + 1, U]
    lengths = tf.fill(tf.shape(part.order), part.steps) if part.lengths is None else part.lengths
    last = [tf.gather(values, lengths, batch_dims=1) for values in (hiddens, cells)]
    if not sequences:
        return None, *last
    shown = tf.gather(hiddens, part.step + 1, batch_dims=1)
    return tf.where((part.step >= 0)[:, :, None], shown, 0.0), *last


def _write(place: Any, array: Any, values: Any) -> Any:
    return array.write(place, values)


def _refuse_forward_mode(values: tuple) -> None:
    """An error where TensorFlow would take the derivative to be zero, as it does in a graph.

    It asks each operation for its part as it is made, these ones too, which nothing reads.
    """
    import tensorflow as tf

    message = "tf.autodiff.ForwardAccumulator in a graph: put a tf.function around the LSTM's call"
    for value in values:
        tf.raw_ops.PreventGradient(input=value, message=message)


def _constant(kept: dict) -> dict:
    """What is kept, as something of which nobody can ask the gradient.

    TensorFlow else looks for it, and for the gradient of that, where two tapes watch.
    """
    import tensorflow as tf

    def constant(array: Any) -> Any:
        return tf.TensorArray(array.dtype, flow=tf.stop_gradient(array.flow), infer_shape=False)

    return tf.nest.map_structure(constant, kept)
