"""A few steps of an LSTM, and the gradient of one, in as few of TensorFlow's operations as can be.

Those that TensorFlow has for LSTMs compute the four gates, the cell state and what is shown in one
go; for bfloat16 there is none, and its products are worth more than that.
"""

from typing import Any, NamedTuple


class Steps(NamedTuple):
    """What some steps made.

    Args:
        gates: input, forget and output gate, candidate, and the tanh of the cell state, each
            `float32[steps * b, U]`, the rows of one step behind those of the other; all five, or
            one tensor of all, one behind the other.
        cells: the cell state after each, `float32[steps * b, U]`.
        hiddens: the hidden state after each, `float[steps * b, U]`.
    """

    gates: list
    cells: Any
    hiddens: Any


def in_one_operation(x: Any, hidden: Any, cell: Any, stacked: Any, bias: Any) -> Steps:
    """All steps in one operation, for float32.

    Its registered gradient is wrong in TensorFlow 2.21: never to be seen by a tape.

    Args:
        x: `float32[T, b, D]`.
        hidden: `float32[b, U]`, before.
        cell: `float32[b, U]`, before.
        stacked: kernel and, below, recurrent kernel as Keras has them, `float32[D + U, 4U]`.
        bias: `float32[4U]`.
    """
    import tensorflow as tf

    units = hidden.shape[1]
    peephole = tf.zeros([units])
    i, cells, f, o, g, tanh, hiddens = (
        tf.reshape(values, [-1, units])
        for values in tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.shape(x, tf.int64)[0],
            x=x,
            cs_prev=cell,
            h_prev=hidden,
            w=stacked,
            wci=peephole,
            wcf=peephole,
            wco=peephole,
            b=bias,
            cell_clip=-1.0,
            use_peephole=False,
        )
    )
    return Steps([i, f, o, g, tanh], cells, hiddens)


def one_by_one(x: Any, hidden: Any, cell: Any, weights: list, length: int) -> Steps:
    """The same for bfloat16, with products in it; all else is in float32.

    Args:
        x: `bfloat16[length, b, D]`.
        hidden: `bfloat16[b, U]`, before.
        cell: `float32[b, U]`, before.
        weights: kernel, recurrent kernel and bias, as Keras has them.
        length: how many steps.
    """
    import tensorflow as tf

    kernel, recurrent, bias = weights
    inputs = tf.matmul(tf.reshape(x, [-1, kernel.shape[0]]), kernel)
    # In float32: in bfloat16, adding and converting take twice as long.
    inputs = tf.nn.bias_add(tf.cast(inputs, tf.float32), tf.cast(bias, tf.float32))
    made: list = []
    for z in tf.split(inputs, length):
        z = z + tf.cast(tf.matmul(hidden, recurrent), tf.float32)  # [b, 4U]
        i, f, g, o = tf.split(z, 4, axis=1)
        i, f, g, o = tf.sigmoid(i), tf.sigmoid(f), tf.tanh(g), tf.sigmoid(o)
        cell = f * cell + i * g  # [b, U]
        tanh = tf.tanh(cell)
        hidden = tf.cast(o * tanh, x.dtype)
        made.append((i, f, o, g, tanh, cell, hidden))
    *gates, cells, hiddens = zip(*made, strict=True)
    gates = tf.concat([values for kind in gates for values in kind], 0)
    return Steps([gates], tf.concat(cells, 0), tf.concat(hiddens, 0))


def gradient_of_one(
    gates: list, before: Any, cell: Any, d_hidden: Any, d_cell: Any
) -> tuple[Any, Any]:
    """The gradient of one step, in one operation.

    Args:
        gates: those of `Steps`, each `float32[b, U]`.
        before: the cell state before it, `float32[b, U]`.
        cell: the cell state after it, `float32[b, U]`.
        d_hidden: what the hidden state after it gets, `float32[b, U]`.
        d_cell: what the cell state gets from elsewhere, `float32[b, U]`.

    Returns:
        What the cell state before gets, `float32[b, U]`, and what the gates get before their
        sigmoid or tanh, `float32[b, 4U]`, in the order of `reorder`.
    """
    import tensorflow as tf

    i, f, o, g, tanh = gates
    units = before.shape[1]
    peephole = tf.zeros([units])
    # Of x, the hidden state and the weights it heeds no more than the shapes.
    d_cell, d_gates, _, _, _ = tf.raw_ops.LSTMBlockCellGrad(
        x=before,
        cs_prev=before,
        h_prev=before,
        w=tf.zeros([2 * units, 4 * units]),
        wci=peephole,
        wcf=peephole,
        wco=peephole,
        b=tf.zeros([4 * units]),
        i=i,
        cs=cell,
        f=f,
        o=o,
        ci=g,
        co=tanh,
        cs_grad=d_cell,
        h_grad=d_hidden,
        use_peephole=False,
    )
    return d_cell, d_gates


def reorder(weights: Any) -> Any:
    """Gates i, f, c, o as i, c, f, o, and the other way round; `[..., 4U]`."""
    import tensorflow as tf

    i, second, third, o = tf.split(weights, 4, axis=-1)
    return tf.concat([i, third, second, o], axis=-1)
