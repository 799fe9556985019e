"""LSTMs that others wrote, over real steps alone: PyTorch's own, and cuDNN's under JAX.

Either takes rows of different lengths, but no mask. So the real steps of each row are moved to its
front, whatever the mask, and the outputs are spread over the steps that they belong to.
"""

from typing import Any

import keras

# The precisions of products that cuDNN's LSTM has under JAX; `None` is TensorFloat-32.
_PRECISIONS = (None, "high", "highest", "float32", "tensorfloat32")


def takes(sequences: Any) -> bool:
    """Whether there is cuDNN's LSTM for these sequences, `float[B, T, D]`, here.

    Under TensorFlow there is Keras's own way to it, which `LSTM` takes.
    """
    backend = keras.backend.backend()
    dtype = keras.backend.standardize_dtype(sequences.dtype)
    if backend == "torch":
        return sequences.device.type == "cuda" and dtype != "float64"
    if backend == "jax":
        import jax

        precise = jax.config.jax_default_matmul_precision in _PRECISIONS
        return jax.default_backend() == "gpu" and dtype == "float32" and precise
    return False


def torch_lstm(
    sequences: Any, mask: Any, state: list, weights: list, sequential: bool
) -> tuple[Any, Any, Any]:
    """Runs PyTorch's LSTM: oneDNN's on a CPU, cuDNN's on a GPU.

    Args:
        sequences: `float[B, T, D]`.
        mask: `bool[B, T]`, true where a step is real, or `None`.
        state: hidden and cell state before, each `float[B, U]`.
        weights: kernel `float[D, 4U]`, recurrent kernel `float[U, 4U]` and bias `float[4U]`.
        sequential: whether the outputs of all steps are asked for.

    Returns:
        Outputs `float[B, T, U]`, of no meaning unless asked for, and the two states after. The
        output of a step that is not real is that of the last one before it, or zero.
    """
    import torch

    kernel, recurrent, bias = weights
    packed = [kernel.T.contiguous(), recurrent.T.contiguous(), bias, torch.zeros_like(bias)]
    before = [s[None].contiguous() for s in state]  # float[1, B, U]
    # Whether to keep what a gradient needs, whatever `training` says of dropout.
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
        sequences, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
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


def jax_lstm(
    sequences: Any, mask: Any, state: list, weights: list, sequential: bool
) -> tuple[Any, Any, Any]:
    """Runs cuDNN's LSTM under JAX, in float32 on an NVIDIA GPU; see `torch_lstm`.

    Before a row's first real step, the output is the hidden state given.
    """
    from jax import numpy as jnp
    from jax.experimental import rnn

    del sequential  # cuDNN computes all outputs anyhow
    (rows, steps, size), units = sequences.shape, state[0].shape[1]
    if not rows or not steps:
        return jnp.zeros((rows, steps, units), sequences.dtype), state[0], state[1]
    kernel, recurrent, bias = weights
    packed = [kernel.T.ravel(), recurrent.T.ravel(), bias, jnp.zeros_like(bias)]
    lengths = jnp.full(rows, steps, "int32")
    if mask is not None:
        count = jnp.cumsum(mask.astype("int32"), axis=1)  # int32[B, T]
        lengths = count[:, -1]
        front = jnp.argsort(~mask, axis=1, stable=True)[:, :, None]
        sequences = jnp.take_along_axis(sequences, front, axis=1)
    outputs, hidden, cell = rnn.lstm(
        sequences,
        state[0][None],
        state[1][None],
        jnp.concatenate(packed),
        # A row without a step runs for one, whose result is thrown away.
        jnp.maximum(lengths, 1),
        input_size=size,
        hidden_size=units,
        num_layers=1,
        dropout=0.0,
        bidirectional=False,
    )
    hidden, cell = hidden[0], cell[0]
    if mask is None:
        return outputs, hidden, cell
    some = (lengths > 0)[:, None]
    hidden, cell = jnp.where(some, hidden, state[0]), jnp.where(some, cell, state[1])
    at = jnp.maximum(count - 1, 0)[:, :, None]
    outputs = jnp.take_along_axis(outputs, at, axis=1)
    # As Keras's loop under JAX has it: before the first step, what was the output before.
    outputs = jnp.where((count > 0)[:, :, None], outputs, state[0][:, None])
    return outputs, hidden, cell
