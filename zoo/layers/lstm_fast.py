"""The fast ways of an LSTM on a CPU, and what tells whether one applies.

One question, `takes`, and one answer, `run`, which gives what the portable loop gives. On
TensorFlow that is a loop of our own; on PyTorch, PyTorch's own LSTM. Any mask is heeded: the real
steps of each row are moved to its front, and what is no step is not computed.
"""

import functools
from typing import Any

import keras
from keras import ops

# One operation for all steps of each half is faster than a loop up to about this many rows.
BLOCK_ROWS = 16


def takes(cell: Any, sequences: Any, training: bool) -> bool:
    """Whether `run` can stand for the portable loop here.

    Args:
        cell: the layer's cell, built.
        sequences: `float[B, T, D]`.
        training: whether to drop.

    Returns:
        False for options that change the cell's equations, for activations of one's own, for
        dropout of the hidden state or of each gate by itself, for other numbers than float32 and
        bfloat16, on GPUs, and in what XLA compiles.
    """
    backend = keras.backend.backend()
    dropped = training and (cell.recurrent_dropout or (cell.dropout and cell.implementation == 1))
    usual = (
        cell.activation is keras.activations.tanh
        and cell.recurrent_activation is keras.activations.sigmoid
    )
    dtype = keras.backend.standardize_dtype(sequences.dtype)
    if dropped or not cell.is_plain or not usual or dtype != cell.compute_dtype:
        return False
    if backend == "torch":
        return dtype == "float32" and sequences.device.type == "cpu"
    numbers = dtype in ("float32", "bfloat16")
    return backend == "tensorflow" and numbers and not (_on_gpu() or _inside_xla())


def _on_gpu() -> bool:
    import tensorflow as tf

    return bool(tf.config.list_logical_devices("GPU"))


def _inside_xla() -> bool:
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    # There is no public way to ask what will compile the graph.
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


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
    way = _torch if keras.backend.backend() == "torch" else _tensorflow
    sequential, training = return_sequences, bool(training)
    if mask is None:
        outputs, hidden, state = way(sequences, None, initial_state, weights, sequential, training)
        last = hidden
    else:
        mask = ops.cast(mask, "bool")
        outputs, hidden, state = way(sequences, mask, initial_state, weights, sequential, training)
        shown = mask[:, -1] if zero_output_for_mask else ops.any(mask, axis=1)  # bool[B]
        last = ops.where(shown[:, None], hidden, ops.zeros_like(hidden))
        if sequential and zero_output_for_mask:
            outputs = ops.where(mask[:, :, None], outputs, ops.zeros_like(outputs))
    if not sequential:
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

    def loop(sequences: Any, state: list, weights: list, mask: Any = None) -> Any:
        return _loop(options, sequences, state, weights, mask)

    return tf.function(loop, signature, autograph=False)


def _torch(
    sequences: Any, mask: Any, state: list, weights: list, sequential: bool, _: bool
) -> tuple[Any, Any, Any]:
    import torch

    kernel, recurrent, bias = weights
    packed = [kernel.T.contiguous(), recurrent.T.contiguous(), bias, torch.zeros_like(bias)]
    before = [s[None].contiguous() for s in state]  # float[1, B, U]
    # Whatever `training` says: a gradient may be asked for.
    keep = torch.is_grad_enabled()
    options = (True, 1, 0.0, keep, False)  # biases, layers, dropout, training, two directions
    if mask is None or not mask.numel() or mask.all():
        if not sequences.shape[1] or not sequences.shape[0]:
            empty = sequences.new_zeros((*sequences.shape[:2], state[0].shape[1]))
            return empty, state[0], state[1]
        outputs, hidden, cell = torch.lstm(sequences, before, packed, *options, True)
        return outputs, hidden[0], cell[0]
    count = mask.to(torch.int64).cumsum(1)  # int64[B, T]
    lengths = count[:, -1]
    front = torch.argsort((~mask).to(torch.uint8), dim=1, stable=True)[:, :, None]
    sequences = torch.gather(sequences, 1, front.expand_as(sequences))
    # A row without a step runs for one, whose result is thrown away.
    pack = torch.nn.utils.rnn.pack_padded_sequence(
        sequences, lengths.clamp(min=1), batch_first=True, enforce_sorted=False
    )
    sorted_state = [s.index_select(1, pack.sorted_indices) for s in before]
    outputs, hidden, cell = torch.lstm(pack.data, pack.batch_sizes, sorted_state, packed, *options)
    some = (lengths > 0)[:, None]
    hidden, cell = (s[0].index_select(0, pack.unsorted_indices) for s in (hidden, cell))
    hidden, cell = torch.where(some, hidden, state[0]), torch.where(some, cell, state[1])
    if not sequential:
        return None, hidden, cell
    done = torch.nn.utils.rnn.PackedSequence(
        outputs, pack.batch_sizes, pack.sorted_indices, pack.unsorted_indices
    )
    padded, _ = torch.nn.utils.rnn.pad_packed_sequence(done, batch_first=True)  # [B, T', U]
    at = (count - 1).clamp(min=0)[:, :, None].expand(*mask.shape, padded.shape[2])
    spread = torch.gather(padded, 1, at)  # [B, T, U]
    return torch.where((count > 0)[:, :, None], spread, 0.0), hidden, cell
