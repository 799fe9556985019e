"""Which rows and steps an LSTM's loop visits, and where it puts what it makes of them.

A batch is cut into parts that run side by side, for two cores are better used so than within
products. In a part, the longest row comes first, so that the rows that still run are the first
ones; a row's real steps are counted without those between them that are not.
"""

from typing import Any, NamedTuple

TURN = 8  # steps; a turn computes, in all of them, the rows that are alive at its first


class Part(NamedTuple):
    """Some rows of a batch, the longest first.

    Args:
        order: which rows of the batch, `int32[b]`.
        lengths: their real steps, `int32[b]`; `None` if all steps are real.
        steps: those of the longest row, `int32[]`.
        reading: where in the batch's `B * T` steps each row's real ones stand, `int32[T, b]`; the
            last of them again behind its end.
        writing: where they would stand if each row's real steps were its first, and so on.
        step: which of its row's real steps each step shows, itself or the last before it;
            `int32[b, T]`, -1 before the first.
    """

    order: Any
    lengths: Any
    steps: Any
    reading: Any
    writing: Any
    step: Any


def cut(sequences: Any, mask: Any, single: bool) -> tuple[list[Part], Any]:
    """Cuts a batch into two parts, or leaves it whole.

    Args:
        sequences: `float[B, T, D]`.
        mask: `bool[B, T]`, true where a step is real, or `None`.
        single: whether to leave it whole.

    Returns:
        The parts, and whether each row's real steps are its first, `bool[]`, `None` without a mask.
    """
    import tensorflow as tf

    shape = tf.shape(sequences)
    rows, steps = shape[0], shape[1]
    time = tf.range(steps)
    half = (rows + 1) // 2
    if mask is None:
        cuts = [(0, rows)] if single else [(0, half), (half, rows)]
        parts = []
        for i, j in cuts:
            order = tf.range(i, j)
            places = order[None, :] * steps + time[:, None]
            step = tf.broadcast_to(time[None, :], [j - i, steps])
            parts.append(Part(order, None, steps, places, places, step))
        return parts, None
    count = tf.cumsum(tf.cast(mask, tf.int32), axis=1)  # int32[B, T]
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), 1)
    fitting = tf.reduce_all(tf.equal(count, time + 1) | tf.logical_not(mask))
    first = tf.range(rows)[:, None] * steps
    real = tf.cond(
        fitting,
        lambda: first + time,
        lambda: first + tf.argsort(tf.cast(~mask, tf.int32), axis=1, stable=True),
    )  # int32[B, T]
    # A turn reads on behind a row's end: its last real step, for what is no step may be no number,
    # and nothing times that is no number either.
    real = tf.gather(real, tf.minimum(time, tf.maximum(lengths[:, None] - 1, 0)), batch_dims=1)
    sorted_rows = tf.argsort(lengths, direction="DESCENDING", stable=True)
    # Every other row, so that both have as much work.
    orders = [sorted_rows] if single else [sorted_rows[0::2], sorted_rows[1::2]]
    parts = []
    for order in orders:
        of_part = tf.gather(lengths, order)
        reading = tf.transpose(tf.gather(real, order))
        writing = order[None, :] * steps + time[:, None]
        longest = tf.reduce_max(tf.concat([of_part, [0]], 0))
        parts.append(Part(order, of_part, longest, reading, writing, tf.gather(count, order) - 1))
    return parts, fitting


def turns(steps: Any) -> tuple[tuple[Any, Any, int], ...]:
    """First step, end, and steps a turn: of the whole turns, then of what is left over."""
    whole = steps - steps % TURN
    return (0, whole, TURN), (whole, steps, 1)


def number(step: Any) -> Any:
    """Which turn begins at `step`."""
    return step // TURN + step % TURN


def alive(part: Part, step: Any) -> Any:
    """How many rows are longer than `step`; `None` stands for all."""
    import tensorflow as tf

    if part.lengths is None:
        return None
    return tf.reduce_sum(tf.cast(part.lengths > step, tf.int32))


def places(part: Part) -> tuple[Any, Any]:
    """Where each step of the part is in what its turns made, one behind the other.

    Returns:
        `int32[b, T]`, and the place behind all, `int32[]`, which is also where a step before a
        row's first real one is.
    """
    import tensorflow as tf

    step = tf.range(part.steps)
    first = tf.where(step < part.steps - part.steps % TURN, step - step % TURN, step)
    if part.lengths is None:
        rows = tf.fill([part.steps], tf.size(part.order))
    else:
        rows = tf.reduce_sum(tf.cast(part.lengths[None, :] > first[:, None], tf.int32), 1)
    start = tf.cumsum(rows, exclusive=True)  # int32[steps]
    end = tf.reduce_sum(rows)
    found = tf.gather(tf.concat([start, [end]], 0), tf.where(part.step < 0, part.steps, part.step))
    at = tf.where(part.step < 0, end, found + tf.range(tf.size(part.order))[:, None])
    return at, end


def together(parts: list[Part], values: list | tuple, like: Any) -> Any:
    """What was made of the parts, as one batch of the static shape of `like`."""
    import tensorflow as tf

    if parts[0].lengths is None:
        whole = tf.concat(values, 0)
    else:
        whole = tf.dynamic_stitch([part.order for part in parts], values)
    return tf.ensure_shape(whole, like)


def loop(first: Any, end: Any, body: Any, state: tuple, down: bool = False) -> tuple:
    """Turns from step `first` to `end`; `state` begins with two values `float[b, U]` of rows."""
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


def joined(array: Any, count: Any, width: int) -> Any:
    """What the turns wrote, one behind the other, and a row of zeros behind all."""
    import tensorflow as tf

    return array.write(count, tf.zeros([1, width], array.dtype)).concat()


def _shape(value: Any) -> Any:
    import tensorflow as tf

    return tf.TensorShape(None) if isinstance(value, tf.TensorArray) else value.shape
