"""The gradient of an LSTM's loop over time: the same turns, from the end."""

import functools
from typing import Any

from zoo.layers.lstm_rows_loop import Part, alive, joined, loop, number, places, together, turns
from zoo.layers.lstm_steps_loop import gradient_of_one, reorder

# Steps whose gradients go through the weights at once: enough for long products, and few enough to
# be still in a core's cache.
SPELL = 64


def gradients(
    parts: list[Part],
    fitting: Any,
    mask: Any,
    values: tuple,
    kept: list,
    upstream: tuple,
    sequences: bool,
) -> tuple:
    """The gradients of all that `run_loop` depends on.

    Args:
        parts: those of `cut`, and `fitting`, too.
        fitting: whether each row's real steps are its first, `bool[]`, `None` without a mask.
        mask: `bool[B, T]`, true where a step is real, or `None`.
        values: x, the hidden and the cell state before, the three weights.
        kept: what the forward loop kept of each part: gates, cell and hidden states by turn.
        upstream: the gradients of the outputs, the last hidden and the last cell states.
        sequences: whether there are outputs.

    Returns:
        The gradient of each of `values`, of its shape and type.
    """
    import tensorflow as tf

    x, hidden, cell, kernel, recurrent, _ = values
    of_shown, of_hidden, of_cell = upstream
    of_hidden, of_cell = tf.cast(of_hidden, tf.float32), tf.cast(of_cell, tf.float32)
    if sequences and mask is not None:
        of_shown, of_last = _of_real_steps(of_shown, mask, fitting)
        of_hidden = of_hidden + of_last
    if sequences:
        of_shown = tf.reshape(of_shown, [-1, hidden.shape[1]])  # [B * T, U]
    made = []
    for part, arrays in zip(parts, kept, strict=True):
        of_states = [tf.gather(values, part.order) for values in (of_hidden, of_cell)]
        shown = of_shown if sequences else None
        made.append(_backward(part, x, kernel, recurrent, arrays, shown, *of_states))
    d_x, d_hidden, d_cell, *sums = zip(*made, strict=True)
    return (
        together(parts, d_x, x.shape),
        tf.cast(together(parts, d_hidden, hidden.shape), x.dtype),
        tf.cast(together(parts, d_cell, cell.shape), x.dtype),
        *(tf.cast(reorder(tf.add_n(d)), x.dtype) for d in sums),
    )


def _of_real_steps(of_shown: Any, mask: Any, fitting: Any) -> tuple[Any, Any]:
    """The gradient of all outputs as one of each row's real steps, and of its last state.

    Args:
        of_shown: `float[B, T, U]`.
        mask: `bool[B, T]`.
        fitting: whether each row's real steps are its first, `bool[]`.

    Returns:
        `float[B, T, U]`, in which each row's real steps come first and what follows is not to be
        read, and `float32[B, U]`.
    """
    import tensorflow as tf

    shape = tf.shape(of_shown)

    def of_the_last() -> tuple[Any, Any]:
        real = tf.cast(mask, tf.float32)
        repeated = (1.0 - real) * tf.reduce_max(real, 1, keepdims=True)  # float32[B, T]
        # A product, which reads the outputs once.
        last = tf.matmul(repeated[:, None, :], tf.cast(of_shown, tf.float32))  # float32[B, 1, U]
        return tf.identity(of_shown), last[:, 0]

    def of_the_one_before() -> tuple[Any, Any]:
        count = tf.cumsum(tf.cast(mask, tf.int32), axis=1)
        at = tf.where(count > 0, tf.range(shape[0])[:, None] * shape[1] + count - 1, -1)
        sums = tf.math.unsorted_segment_sum(of_shown, at, shape[0] * shape[1])
        return tf.reshape(sums, shape), tf.zeros([shape[0], of_shown.shape[2]])

    return tf.cond(fitting, of_the_last, of_the_one_before)


def _backward(
    part: Part,
    x: Any,
    kernel: Any,
    recurrent: Any,
    arrays: dict,
    of_shown: Any,
    of_hidden: Any,
    of_cell: Any,
) -> tuple:
    """The gradients of a part's rows `[b, T, D]`, states `[b, U]`, and, not yet scaled, weights."""
    import tensorflow as tf

    size, units = kernel.shape[0], recurrent.shape[0]
    flat = tf.reshape(x, [-1, size])  # [B * T, D]
    ragged = part.lengths is not None
    recurrent_back = tf.transpose(reorder(recurrent))  # [4U, U]
    kernel_back = tf.transpose(reorder(kernel))  # [4U, D]

    def array(count: Any, width: int) -> Any:
        return tf.TensorArray(x.dtype, count, element_shape=[None, width], infer_shape=False)

    def read(place: Any, array: Any) -> Any:
        return tf.ensure_shape(array.read(place), [None, units])

    def spell(length: int, end: Any) -> Any:
        """The body of a loop down to the step `end`, in turns of so many steps."""

        def turn(step: Any, d_hidden: Any, d_cell: Any, first: Any, written: tuple) -> tuple:
            step = step - length
            rows = alive(part, step)
            kept = tf.nest.map_structure(functools.partial(read, number(step)), arrays)
            if ragged:
                d_hidden, d_cell = _grow(d_hidden, rows), _grow(d_cell, rows)
            all_rows = tf.shape(kept["cells"])[0]  # length * b
            each = all_rows // length
            # All of one gate stand before all of the next; they are cut, not copied.
            count = 5 * length // len(kept["gates"])
            gates = [piece for values in kept["gates"] for piece in tf.split(values, count)]
            states = [kept["cell_before"], *tf.split(kept["cells"], length)]
            added, added_cell = _injected(part, step, length, rows, of_shown, of_hidden, of_cell)
            d_z = []
            for j in reversed(range(length)):
                if added is not None:
                    d_hidden = d_hidden + added[j]
                if added_cell is not None:
                    d_cell = d_cell + added_cell[j]
                d_cell, d = gradient_of_one(
                    gates[j::length], states[j], states[j + 1], d_hidden, d_cell
                )
                d_z.append(tf.cast(d, x.dtype))
                d_hidden = tf.cast(tf.matmul(d_z[-1], recurrent_back), tf.float32)  # [b, U]
            d = tf.concat(d_z[::-1], 0)  # [length * b, 4U]
            inputs = tf.gather(flat, part.reading[step : step + length, :rows])
            inputs = tf.reshape(inputs, [-1, size])
            before = tf.concat([kept["hidden_before"], kept["hiddens"][: all_rows - each]], 0)
            made = (d, inputs, before)
            at = number(step) - number(first)
            written = tuple(a.write(at, values) for a, values in zip(written, made, strict=True))
            return step, d_hidden, d_cell, first, written

        def body(step: Any, d_hidden: Any, d_cell: Any, sums: tuple, d_x: Any) -> tuple:
            first = tf.maximum(step - SPELL, end)
            widths = (4 * units, size, units)
            written = tuple(array((step - first) // length, width) for width in widths)
            state = (d_hidden, d_cell, first, written)
            d_hidden, d_cell, _, written = loop(step, first, turn, state, down=True)
            d, inputs, before = (values.concat() for values in written)
            ones = tf.ones([1, tf.shape(d)[0]], x.dtype)
            made = (
                tf.matmul(inputs, d, transpose_a=True),
                tf.matmul(before, d, transpose_a=True),
                # A product, which is several times as fast as a sum.
                tf.matmul(ones, d)[0],
            )
            sums = tuple(s + tf.cast(m, tf.float32) for s, m in zip(sums, made, strict=True))
            d_x = d_x.write(_spells(first), tf.matmul(d, kernel_back))  # [steps * b, D]
            return first, d_hidden, d_cell, sums, d_x

        return body

    sums = tuple(tf.zeros(shape) for shape in ([size, 4 * units], [units, 4 * units], [4 * units]))
    whole, rest = turns(part.steps)
    count = _spells(whole[1]) + tf.cast(rest[0] < rest[1], tf.int32)
    d_x = array(count + 1, size)
    start = (of_hidden, of_cell)
    if ragged:
        start = (tf.zeros([0, units]), tf.zeros([0, units]))
    state = (*start, sums, d_x)
    for first, end, length in (rest, whole):
        state = loop(end, first, spell(length, first), state, down=True)
    d_hidden, d_cell, sums, d_x = state
    d_x = joined(d_x, count, size)
    if ragged:
        never = tf.cast(part.lengths[:, None] == 0, tf.float32)  # their states went through
        d_hidden = _grow(d_hidden, tf.size(part.order)) + never * of_hidden
        d_cell = _grow(d_cell, tf.size(part.order)) + never * of_cell
    at, end = places(part)
    if ragged:
        # A step that is not real has no part in anything: zeros, which stand behind all.
        real = tf.concat([part.step[:, :1] >= 0, part.step[:, 1:] > part.step[:, :-1]], 1)
        at = tf.where(real, at, end)
    return tf.gather(d_x, at), d_hidden, d_cell, *sums


def _injected(
    part: Part, step: Any, length: int, rows: Any, of_shown: Any, of_hidden: Any, of_cell: Any
) -> tuple[list | None, list | None]:
    """What each step's hidden and cell state get from the results, `float32[b, U]` each."""
    import tensorflow as tf

    shown = None
    if of_shown is not None:
        shown = tf.gather(of_shown, part.writing[step : step + length, :rows])
        shown = tf.cast(shown, tf.float32)  # [length, b, U]
    if part.lengths is None:  # the last states stand at the loop's end
        return None if shown is None else tf.unstack(shown, length), None
    behind = part.lengths[None, :rows, None] - tf.range(step, step + length)[:, None, None]
    ends = tf.cast(tf.equal(behind, 1), tf.float32)  # [length, b, 1]
    of_h = ends * of_hidden[:rows]
    if shown is not None:
        of_h = of_h + tf.cast(behind > 0, tf.float32) * shown
    return tf.unstack(of_h, length), tf.unstack(ends * of_cell[:rows], length)


def _spells(steps: Any) -> Any:
    """How many spells so many steps take, the first of them perhaps a shorter one."""
    return (steps + SPELL - 1) // SPELL


def _grow(values: Any, rows: Any) -> Any:
    import tensorflow as tf

    return tf.pad(values, [[0, rows - tf.shape(values)[0]], [0, 0]])
