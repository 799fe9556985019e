"""What the layers of a model do while it reads, as tensors: the gates, the states, the attention.

Nothing is modelled anew: inner values are read from the model's own graph, and gates and attention
weights come from the layers' own code. All of it may stand in a graph, and so in a SavedModel.
"""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

# A tensor's mask; Keras makes it public nowhere.
from keras.src.backend import get_keras_mask

from zoo.layers import LSTM, MaskedPooling, MinLSTM, MultiHeadAttention, TransformerBlock
from zoo.layers.linear_recurrence import linear_recurrence


class Trace(NamedTuple):
    """What the units of a recurrent layer did at every step, in the order of the text.

    Args:
        forget: `float[B, T, U]`, what a unit keeps of its state, in (0, 1); zeros on padding, as
            are the next two.
        input: `float[B, T, U]`, what it takes of the new candidate.
        output: `float[B, T, U]`, what it shows of its state; `None` for a MinLSTM, which shows all.
        state: `float[B, T, U]`, the cell state after the step, c.
    """

    forget: Any
    input: Any
    output: Any
    state: Any


def gates_of(model: keras.Model, inputs: dict[str, Any]) -> dict[str, Trace]:
    """What every LSTM and MinLSTM of a model does while it reads.

    Args:
        model: any functional one; its recurrent layers may stand in a `Bidirectional`.
        inputs: a batch for it.

    Returns:
        A trace by layer; of a bidirectional one, two, whose names end in `forward` and `backward`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["bilstm"](TokenInputs(num_ids=9), num_classes=2, size="small,units=5")
        >>> traces = gates_of(model, {"ids": tf.ones((2, 7))})
        >>> {name: tuple(trace.state.shape) for name, trace in traces.items()}
        {'bilstm_0 forward': (2, 7, 5), 'bilstm_0 backward': (2, 7, 5)}
    """
    traces = {}
    for layer, given in _inputs_of(model, inputs, (LSTM, MinLSTM, keras.layers.Bidirectional)):
        parts = {layer.name: layer}
        if isinstance(layer, keras.layers.Bidirectional):
            sides = {"forward": layer.forward_layer, "backward": layer.backward_layer}
            parts = {f"{layer.name} {side}": part for side, part in sides.items()}
        for name, part in parts.items():
            if isinstance(part, LSTM | MinLSTM):
                traces[name] = _trace(part, given[0])
    return traces


def attention_of(model: keras.Model, inputs: dict[str, Any]) -> dict[str, Any]:
    """The attention weights of a model while it reads.

    Args:
        model: any functional one, with `MultiHeadAttention`, alone or in a `TransformerBlock`, or
            with `MaskedPooling("attention")`, called with no mask but their inputs' own.
        inputs: a batch for it.

    Returns:
        `float[B, H, T, S]` by layer, `float[B, 1, 1, T]` of attention pooling. The rows sum to one
        over real steps, those of padding are zeros.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["transformer"](TokenInputs(num_ids=9), num_classes=2)
        >>> weights = attention_of(model, {"ids": tf.ones((2, 7))})
        >>> {name: tuple(heads.shape) for name, heads in weights.items()}
        {'block_0': (2, 4, 7, 7)}
    """
    weights = {}
    kinds = (MultiHeadAttention, TransformerBlock, MaskedPooling)
    for layer, given in _inputs_of(model, inputs, kinds):
        if isinstance(layer, MaskedPooling):
            if layer.mode == "attention":
                weights[layer.name] = _pooling_weights(layer, given[0])
            continue
        attention = layer
        if isinstance(layer, TransformerBlock):
            seen = layer.attention_norm(given[0]) if layer.norm == "pre" else given[0]
            attention, given = layer.attention, [seen, seen]
        _, weights[layer.name] = attention(
            *given, use_causal_mask=_is_called_causal(layer), return_attention_scores=True
        )
    return weights


def _is_called_causal(layer: keras.Layer) -> bool:
    """Whether its model calls it with a causal mask, which the call alone remembers."""
    return any(node.arguments.kwargs.get("use_causal_mask") for node in layer._inbound_nodes)


def _inputs_of(model: keras.Model, inputs: dict[str, Any], kinds: Any) -> Any:
    """Layers of some kinds, each with the tensors that it is given, which carry their masks."""
    layers = [layer for layer in model.layers if isinstance(layer, kinds)]
    if not layers:
        return []
    wanted = {layer.name: layer.input for layer in layers}
    found = keras.Model(model.input, wanted)(inputs, training=False)
    # Behind its inputs, Keras lists the mask of a layer that asks for one.
    real = {
        name: [x for x in tf.nest.flatten(x) if x.dtype.is_floating] for name, x in found.items()
    }
    return [(layer, real[layer.name]) for layer in layers]


def _mask(x: Any) -> Any:
    mask = get_keras_mask(x)
    return tf.ones(tf.shape(x)[:2], tf.bool) if mask is None else mask


def _trace(layer: LSTM | MinLSTM, x: Any) -> Trace:
    # All of it in the order in which the layer reads, and turned back at the end.
    turn = slice(None, None, -1 if layer.go_backwards else 1)
    real = _mask(x)[:, turn, None]  # bool[B, T, 1]
    if isinstance(layer, MinLSTM):
        forget, added = layer.cell.shares(tf.identity(x)[:, turn])  # each float[B, T, U]
        taken, output = 1.0 - forget, None
    else:
        initial = layer.get_initial_state(tf.shape(x)[0])
        gates = layer.run_gates(tf.identity(x), initial, _mask(x))
        taken, forget, candidate, output = (tf.convert_to_tensor(gates[name]) for name in "ifco")
        added = taken * candidate
    zero = tf.zeros_like(forget)
    # A step of padding keeps the state and adds nothing to it.
    kept = tf.transpose(tf.where(real, forget, 1.0), [1, 0, 2])  # float[T, B, U]
    more = tf.transpose(tf.where(real, added, zero), [1, 0, 2])  # float[T, B, U]
    states = linear_recurrence(kept, more, zero[:, 0], form="steps")  # float[T, B, U]
    shown = (
        None if part is None else tf.where(real, part, 0.0) for part in (forget, taken, output)
    )
    found = (*shown, tf.transpose(states, [1, 0, 2]))
    return Trace(*(None if part is None else part[:, turn] for part in found))


def _pooling_weights(layer: MaskedPooling, x: Any) -> Any:
    real = _mask(x)[:, :, None]  # bool[B, T, 1]
    hidden = tf.tanh(tf.identity(x) @ layer.kernel + layer.bias)  # float[B, T, D]
    scores = tf.where(real, hidden @ layer.query, -1e30)  # float[B, T, 1]
    weights = tf.where(real, tf.nn.softmax(scores, axis=1), 0.0)
    return tf.transpose(weights, [0, 2, 1])[:, None]  # float[B, 1, 1, T]
