"""The fast ways of an LSTM, and what tells whether one applies.

One question, `takes`, and one answer, `run`, which gives what the portable loop gives. On
TensorFlow's CPU that is a loop of our own; on PyTorch, PyTorch's own LSTM; under JAX on a GPU,
cuDNN's. Any mask is heeded: the real steps of each row are moved to its front, and what is no step
is not computed.
"""

import functools
from typing import Any

import keras
from keras import ops

from zoo.layers import lstm_packed_fast
from zoo.layers.own_gradient_fast import plain_loops_wanted
from zoo.layers.xla_fast import inside_xla

# One operation for all steps of each half is faster than a loop up to about this many rows.
BLOCK_ROWS = 16


def takes(cell: Any, sequences: Any, training: bool, use_cudnn: Any) -> bool:
    """Whether `run` can stand for the portable loop here.

    Args:
        cell: the layer's cell, built.
        sequences: `float[B, T, D]`.
        training: whether to drop.
        use_cudnn: as the layer's: true to insist on it, false for none of it, or "auto".

    Returns:
        False within `plain_loops`, for options that change the cell's equations, for activations
        of one's own, for dropout of the hidden state or of each gate by itself. On a CPU, for other
        numbers than float32 and, on TensorFlow, bfloat16, and in what XLA compiles; on a GPU,
        without cuDNN.
    """
    backend = keras.backend.backend()
    dropped = training and (cell.recurrent_dropout or (cell.dropout and cell.implementation == 1))
    usual = (
        cell.activation is keras.activations.tanh
        and cell.recurrent_activation is keras.activations.sigmoid
    )
    dtype = keras.backend.standardize_dtype(sequences.dtype)
    if (
        plain_loops_wanted()
        or dropped
        or not cell.is_plain
        or not usual
        or dtype != cell.compute_dtype
    ):
        return False
    if use_cudnn and lstm_packed_fast.takes(sequences):
        return True
    if use_cudnn is True:
        return False
    if backend == "torch":
        return dtype == "float32" and sequences.device.type == "cpu"
    numbers = dtype in ("float32", "bfloat16")
    return backend == "tensorflow" and numbers and not (_on_gpu() or inside_xla())


def _on_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def run(
    cell: Any,
    sequences: Any,
    initial_state: list,
    mask: Any,
    *,
    return_sequences: bool,
    zero_output_for_mask: bool,
    training: bool,
) -> tuple[Any, Any, list]:
    """Runs the cell over time, forwards.

    Args:
        cell: the layer's cell, built.
        sequences: `float[B, T, D]`, dropout applied.
        initial_state: hidden and cell state before, each `float[B, U]`.
        mask: `bool[B, T]`, true where a step is real, or `None`.
        return_sequences: whether the outputs of all steps are asked for.
        zero_output_for_mask: whether a step that is not real gives zeros, not the output before.
        training: whether a gradient is likely to be asked for; it is right either way.

    Returns:
        What Keras's loop returns: the last output `float[B, U]`, the outputs `float[B, T, U]`, or
        `float[B, 1, U]` where they are not asked for, and the two last states.
    """
    recurrent = cell.dropped_recurrent_kernel(training)
    weights = [ops.convert_to_tensor(weight) for weight in (cell.kernel, recurrent)]
    bias = cell.bias
    bias = ops.zeros((4 * cell.units,), weights[0].dtype) if bias is None else bias
    weights.append(ops.convert_to_tensor(bias))
    backend = keras.backend.backend()
    if backend == "tensorflow":
        way: Any = functools.partial(_tensorflow, training=bool(training))
    else:
        way = getattr(lstm_packed_fast, f"{backend}_lstm")
    mask = None if mask is None else ops.cast(mask, "bool")
    outputs, hidden, state = way(sequences, mask, initial_state, weights, return_sequences)
    if mask is None:
        last = hidden
    else:
        shown = mask[:, -1] if zero_output_for_mask else ops.any(mask, axis=1)  # bool[B]
        if backend == "jax" and not zero_output_for_mask:  # whose loop repeats the state given
            shown = ops.ones_like(shown)
        last = ops.where(shown[:, None], hidden, ops.zeros_like(hidden))
        if return_sequences and zero_output_for_mask:
            outputs = ops.where(mask[:, :, None], outputs, ops.zeros_like(outputs))
    if not return_sequences:
        outputs = ops.expand_dims(last, 1)  # float[B, 1, U]
    return last, outputs, [hidden, state]


def _tensorflow(
    sequences: Any, mask: Any, state: list, weights: list, sequential: bool, training: bool
) -> tuple[Any, Any, Any]:
    import tensorflow as tf

    # Read here: a custom gradient may hold no variable.
    weights = [tf.convert_to_tensor(weight) for weight in weights]

    block: Any = False
    if not training and sequences.dtype == tf.float32:
        rows = sequences.shape[0]
        block = (tf.shape(sequences)[0] if rows is None else rows) <= BLOCK_ROWS
    options = (sequential, training, block)
    if tf.executing_eagerly():
        size, gates = weights[0].shape
        loop = _eager_loop(size, gates // 4, sequences.dtype, mask is not None, options)
    else:
        loop = functools.partial(_loop, options)
    plain = tf.autograph.experimental.do_not_convert
    return plain(loop)(sequences, state, weights, *([] if mask is None else [mask]))


def _loop(
    options: tuple, sequences: Any, state: list, weights: list, mask: Any = None
) -> tuple[Any, Any, Any]:
    from zoo.layers.lstm_loop import run_loop

    sequential, keep, block = options
    return run_loop(sequences, mask, state, weights, sequences=sequential, keep=keep, block=block)


@functools.cache
def _eager_loop(size: int, units: int, dtype: Any, masked: bool, options: tuple) -> Any:
    """`_loop` as one graph for any batch and length; in Python, each step would cost too much."""
    import tensorflow as tf

    def spec(*shape: int | None) -> Any:
        return tf.TensorSpec(shape, dtype)

    signature = [
        spec(None, None, size),
        [spec(None, units)] * 2,
        [spec(size, 4 * units), spec(units, 4 * units), spec(4 * units)],
    ]
    if masked:
        signature.append(tf.TensorSpec([None, None], tf.bool))

    def loop(*inputs: Any) -> Any:
        return _loop(options, *inputs)

    # Made at once: TensorFlow would warn of tracing too often after five sizes.
    return tf.function(loop, signature, autograph=False).get_concrete_function()
