"""An LSTM's loop over time on TensorFlow's CPU kernels, with a gradient of its own.

What the portable loop spends beyond its matrix products is saved here:

- eight steps a turn, for a turn of TensorFlow's loop costs as much as several small operations;
- one `tanh` for all four gates, `sigmoid(x) = (1 + tanh(x / 2)) / 2`, the halves put into the
  weights, which changes no bit of them;
- the gradients of the weights once a turn, in one product of eight steps, and no transposed product
  within the loop, which takes up to twice as long as a plain one;
- of sorted rows of unlike length, only those that still run.

Stock operations alone, and none that a compiler must make.
"""

from typing import Any

import numpy as np

TURN = 8  # steps


def run_loop(
    x: Any,
    lengths: Any,
    hidden: Any,
    cell: Any,
    weights: tuple[Any, Any, Any],
    sequences: bool,
    keep: bool,
    block: bool = False,
) -> tuple[Any, Any, Any]:
    """Runs an LSTM over time; its gradient is exact, of first order alone.

    Args:
        x: `float[T, B, D]`.
        lengths: `int32[B]`, in steps, at most T, in descending order; `None` if all have T.
        hidden: `float32[B, U]`, the hidden state before.
        cell: `float32[B, U]`, the cell state before.
        weights: kernel `[D, 4U]`, recurrent kernel `[U, 4U]` and bias `[4U]` as Keras has them, all
            of `x`'s type.
        sequences: whether the hidden states of all steps are asked for.
        keep: whether to keep what a gradient needs; if not, a gradient runs the loop once more.
        block: whether to run all steps in one operation, which is faster for few rows; for
            float32, and where nothing is kept.

    Returns:
        The hidden states `float32[T, B, U]`, or, of rows of unlike length, `float32[N, U]`, where
        step t of row b is number `starts(lengths, block)[t] + b`; no more than a shape unless
        `sequences`.
        Then each row's last hidden and last cell state, `float32[B, U]`.
    """
    import tensorflow as tf

    # A user's function would else have every line of this rewritten.
    plain = tf.autograph.experimental.do_not_convert

    @tf.custom_gradient
    def run(x: Any, hidden: Any, cell: Any, kernel: Any, recurrent: Any, bias: Any) -> Any:
        packed = [_pack(weight) for weight in (kernel, recurrent, bias)]
        kept: dict = {}
        if block:
            outputs = _block(x, lengths, hidden, cell, (kernel, recurrent, bias))
        else:
            outputs, kept = _forward(x, lengths, hidden, cell, packed, sequences, keep)

        def gradient(*upstream: Any) -> tuple:
            again = kept
            if not keep:
                _, again = _forward(x, lengths, hidden, cell, packed, False, True)
            upstream = tuple(map(tf.convert_to_tensor, upstream))  # of a gather, it is sparse
            return _first_order(
                lambda *g: _backward(
                    x, lengths, hidden, cell, kernel, recurrent, again, g, sequences, block
                ),
                upstream,
            )

        return outputs, plain(gradient)

    return plain(run)(x, hidden, cell, *weights)


def starts(lengths: Any, block: bool) -> Any:
    """Where in `run_loop`'s `float32[N, U]` each step's rows begin, `int32[max(lengths)]`."""
    import tensorflow as tf

    steps = tf.reduce_max(tf.concat([lengths, [0]], 0))
    step = tf.range(steps)
    if block:
        return step * tf.shape(lengths)[0]
    # A turn computes, in all of its steps, the rows that are alive at its first.
    turn = tf.where(step < steps - steps % TURN, step - step % TURN, step)  # int32[T]
    alive = tf.reduce_sum(tf.cast(lengths[None, :] > turn[:, None], tf.int32), 1)  # int32[T]
    return tf.cumsum(alive, exclusive=True)


def _forward(
    x: Any, lengths: Any, hidden: Any, cell: Any, packed: list, sequences: bool, keep: bool
) -> tuple[tuple, dict]:
    import tensorflow as tf

    kernel, recurrent, bias = packed
    size, units = kernel.shape[0], recurrent.shape[0]
    steps = _steps(x, lengths)
    ragged = lengths is not None
    widths = {"gates": 4 * units} if keep else {}
    if keep or ragged:
        widths["cells"] = units
    if keep or ragged or sequences:
        widths["hiddens"] = units
    arrays = {
        name: tf.TensorArray(tf.float32, steps, element_shape=[None, width], clear_after_read=False)
        for name, width in widths.items()
    }
    initial = (hidden, cell)

    def turn(length: int) -> Any:
        def body(step: Any, hidden: Any, cell: Any, arrays: dict) -> tuple:
            alive = _alive(lengths, step)
            hidden, cell = hidden[:alive], cell[:alive]
            inputs = tf.reshape(x[step : step + length, :alive], [-1, size])
            inputs = tf.nn.bias_add(tf.matmul(inputs, kernel), bias)  # [length * B, 4U]
            arrays = dict(arrays)
            for j, z in enumerate(tf.split(inputs, length)):
                z = z + tf.matmul(tf.cast(hidden, x.dtype), recurrent)  # [B, 4U]
                gates = tf.tanh(tf.cast(z, tf.float32))
                i, f, o, g = _gates(gates)
                cell = f * cell + i * g  # [B, U]
                hidden = o * tf.tanh(cell)  # [B, U]
                made = {"gates": gates, "cells": cell, "hiddens": hidden}
                for name, array in arrays.items():
                    arrays[name] = array.write(step + j, made[name])
            return step + length, hidden, cell, arrays

        return body

    for first, end, length in _turns(steps):
        hidden, cell, arrays = _while(first, end, turn(length), (hidden, cell, arrays))
    shown = tf.zeros([0])
    if ragged:
        shown = arrays["hiddens"].concat()  # [N, U]
        places = starts(lengths, False)
        hidden = _last(shown, places, lengths, initial[0])
        cell = _last(arrays["cells"].concat(), places, lengths, initial[1])
    elif sequences:
        shown = arrays["hiddens"].stack()  # [T, B, U]
    return (shown, hidden, cell), arrays


def _block(x: Any, lengths: Any, hidden: Any, cell: Any, weights: tuple) -> tuple:
    import tensorflow as tf

    kernel, recurrent, bias = weights
    units, steps = recurrent.shape[0], _steps(x, lengths)
    peephole = tf.zeros([units])
    # Its registered gradient is wrong in TensorFlow 2.21: never to be seen by a tape.
    _, cells, _, _, _, _, hiddens = tf.raw_ops.BlockLSTMV2(
        seq_len_max=tf.cast(steps, tf.int64),
        x=x[:steps],
        cs_prev=cell,
        h_prev=hidden,
        w=tf.concat([kernel, recurrent], 0),
        wci=peephole,
        wcf=peephole,
        wco=peephole,
        b=bias,
        cell_clip=-1.0,
        use_peephole=False,
    )  # each float32[T, B, U]
    if lengths is None:
        # The state before stands first for sequences of no step.
        hidden = tf.concat([hidden[None], hiddens[-1:]], 0)[-1]
        return hiddens, hidden, tf.concat([cell[None], cells[-1:]], 0)[-1]
    places = starts(lengths, True)
    hiddens, cells = (tf.reshape(values, [-1, units]) for values in (hiddens, cells))
    return hiddens, _last(hiddens, places, lengths, hidden), _last(cells, places, lengths, cell)


def _backward(
    x: Any,
    lengths: Any,
    hidden: Any,
    cell: Any,
    kernel: Any,
    recurrent: Any,
    arrays: dict,
    upstream: tuple,
    sequences: bool,
    block: bool,
) -> tuple:
    import tensorflow as tf

    of_shown, of_hidden, of_cell = upstream
    size, units = kernel.shape[0], recurrent.shape[0]
    steps, rows = _steps(x, lengths), tf.shape(x)[1]
    ragged = lengths is not None
    # Twice: what went into the weights, and the derivative of (1 + tanh) / 2.
    scale = tf.cast(_scale(units) ** 2, x.dtype)
    recurrent_back = tf.transpose(_reorder(recurrent) * scale)  # [4U, U]
    kernel_back = tf.transpose(_reorder(kernel) * scale)  # [4U, D]
    hiddens, cells, gates = (arrays[name] for name in ("hiddens", "cells", "gates"))

    places: Any = starts(lengths, block) if ragged else None

    def before(array: Any, initial: Any, step: Any, alive: Any) -> Any:
        return tf.cond(
            step > 0, lambda: array.read(step - 1)[:alive], lambda: initial[:alive]
        )  # [B, U]

    def turn(length: int) -> Any:
        def body(step: Any, d_hidden: Any, d_cell: Any, sums: tuple, d_x: Any) -> tuple:
            step = step - length
            alive = _alive(lengths, step)
            if ragged:
                d_hidden, d_cell = _grow(d_hidden, alive), _grow(d_cell, alive)
            h = [before(hiddens, hidden, step, alive)]
            c = [before(cells, cell, step, alive)]
            h += [hiddens.read(step + j) for j in range(length - 1)]
            c += [cells.read(step + j) for j in range(length)]
            shown = None
            if sequences and ragged:
                firsts = tf.unstack(places[step : step + length], length)
                shown = [of_shown[first : first + alive] for first in firsts]
            elif sequences:
                shown = tf.unstack(of_shown[step : step + length], length)
            d_z = []
            for j in reversed(range(length)):
                if ragged:  # a row's last states are what the loop returned
                    ends = tf.cast(lengths[:alive, None] == step + j + 1, tf.float32)  # [B, 1]
                    d_hidden = d_hidden + ends * of_hidden[:alive]
                    d_cell = d_cell + ends * of_cell[:alive]
                if shown is not None:
                    d_hidden = d_hidden + shown[j]
                gate = gates.read(step + j)  # [B, 4U]
                i, f, o, g = _gates(gate)
                tanh = tf.tanh(c[j + 1])
                d_cell = d_cell + d_hidden * o * (1.0 - tanh * tanh)
                d = tf.concat([d_cell * g, d_cell * c[j], d_hidden * tanh, d_cell * i], 1)
                d = tf.cast(d * (1.0 - gate * gate), x.dtype)  # [B, 4U]
                d_z.append(d)
                d_cell = d_cell * f
                d_hidden = tf.cast(tf.matmul(d, recurrent_back), tf.float32)  # [B, U]
            d = tf.concat(d_z[::-1], 0)  # [length * B, 4U]
            inputs = tf.reshape(x[step : step + length, :alive], [-1, size])
            h = tf.cast(tf.concat(h, 0), x.dtype)  # [length * B, U]
            sums = (
                sums[0] + tf.cast(tf.matmul(inputs, d, transpose_a=True), tf.float32),
                sums[1] + tf.cast(tf.matmul(h, d, transpose_a=True), tf.float32),
                sums[2] + tf.reduce_sum(tf.cast(d, tf.float32), 0),
            )
            back = tf.matmul(d, kernel_back)  # [length * B, D]
            if ragged:
                back = tf.reshape(back, [length, -1, size])
                back = tf.pad(back, [[0, 0], [0, rows - alive], [0, 0]])
                back = tf.reshape(back, [-1, size])
            return step, d_hidden, d_cell, sums, d_x.write(step // TURN + step % TURN, back)

        return body

    sums = tuple(tf.zeros(shape) for shape in ([size, 4 * units], [units, 4 * units], [4 * units]))
    d_x = tf.TensorArray(
        x.dtype, steps // TURN + steps % TURN, element_shape=[None, size], infer_shape=False
    )
    start = (of_hidden, of_cell)
    if ragged:
        start = (tf.zeros([0, units]), tf.zeros([0, units]))
    state = (*start, sums, d_x)
    for first, end, length in reversed(_turns(steps)):
        state = _while(end, first, turn(length), state, down=True)
    d_hidden, d_cell, sums, d_x = state
    d_x = tf.reshape(d_x.concat(), [steps, rows, size])  # [T, B, D]
    if ragged:
        never = tf.cast(lengths[:, None] == 0, tf.float32)  # their states went through unchanged
        d_hidden = _grow(d_hidden, rows) + never * of_hidden
        d_cell = _grow(d_cell, rows) + never * of_cell
        d_x = tf.pad(d_x, [[0, tf.shape(x)[0] - steps], [0, 0], [0, 0]])
    full = tf.cast(_scale(units) ** 2, tf.float32)
    d_weights = [tf.cast(_reorder(d * full), x.dtype) for d in sums]
    return (tf.ensure_shape(d_x, x.shape), d_hidden, d_cell, *d_weights)


def _first_order(function: Any, upstream: tuple) -> tuple:
    """What `function` returns, and a word to whoever asks for the gradient of it."""
    import tensorflow as tf

    @tf.custom_gradient
    def once(*upstream: Any) -> Any:
        def gradient(*_: Any) -> Any:
            raise NotImplementedError(
                "the gradient of an LSTM's gradient is not known to its fast path; "
                "LSTM(..., unroll=True) has it"
            )

        return function(*upstream), gradient

    return once(*upstream)


def _scale(units: int) -> np.ndarray:
    return np.repeat(np.array([0.5, 0.5, 0.5, 1.0], "float32"), units)  # [4U], gates i, f, o, c


def _reorder(weights: Any) -> Any:
    """Gates i, f, c, o as i, f, o, c, and the other way round."""
    import tensorflow as tf

    first, second, third, fourth = tf.split(weights, 4, axis=-1)
    return tf.concat([first, second, fourth, third], axis=-1)


def _pack(weights: Any) -> Any:
    import tensorflow as tf

    return _reorder(weights) * tf.cast(_scale(weights.shape[-1] // 4), weights.dtype)


def _gates(tanh: Any) -> tuple:
    """The gates i, f, o, and the candidate g, of the one `tanh` of all."""
    import tensorflow as tf

    units = tanh.shape[-1] // 4
    sigmoids, candidate = tf.split(tanh, [3 * units, units], axis=1)
    return (*tf.split(sigmoids * 0.5 + 0.5, 3, axis=1), candidate)


def _steps(x: Any, lengths: Any) -> Any:
    import tensorflow as tf

    return tf.shape(x)[0] if lengths is None else tf.reduce_max(tf.concat([lengths, [0]], 0))


def _alive(lengths: Any, step: Any) -> Any:
    """How many rows are longer than `step`; `None` stands for all."""
    import tensorflow as tf

    return None if lengths is None else tf.reduce_sum(tf.cast(lengths > step, tf.int32))


def _turns(steps: Any) -> tuple[tuple[Any, Any, int], ...]:
    """First step, end, and steps a turn: of the whole turns, then of what is left over."""
    whole = steps - steps % TURN
    return (0, whole, TURN), (whole, steps, 1)


def _while(first: Any, end: Any, body: Any, state: tuple, down: bool = False) -> tuple:
    import tensorflow as tf

    # The number of rows changes where they are ragged, and else is often not known; all else is.
    widths = [tf.TensorShape([None, value.shape[1]]) for value in state[:2]]
    shapes = (tf.TensorShape([]), *widths, *tf.nest.map_structure(_shape, state[2:]))
    _, *state = tf.while_loop(
        (lambda step, *_: step > end) if down else (lambda step, *_: step < end),
        body,
        (tf.convert_to_tensor(first), *state),
        shape_invariants=shapes,
        parallel_iterations=1,
    )
    return tuple(state)


def _shape(value: Any) -> Any:
    import tensorflow as tf

    return tf.TensorShape(None) if isinstance(value, tf.TensorArray) else value.shape


def _grow(values: Any, rows: Any) -> Any:
    import tensorflow as tf

    return tf.pad(values, [[0, rows - tf.shape(values)[0]], [0, 0]])


def _last(values: Any, places: Any, lengths: Any, initial: Any) -> Any:
    """Each row's value at its last step, out of `float32[N, U]`; its initial one if it has none."""
    import tensorflow as tf

    some = tf.range(tf.reduce_sum(tf.cast(lengths > 0, tf.int32)))  # the first, sorted as they are
    at = tf.gather(places, tf.gather(lengths, some) - 1) + some
    return tf.concat([tf.gather(values, at), initial[tf.size(some) :]], 0)  # [B, U]
