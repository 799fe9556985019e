"""Why a trained model answered what it did: its gates, its attention, and each token's share.

`explain` looks at one text. `zoo.explain_page` and `zoo.explain_picture` show what it found.

Nothing is modelled anew: inner values are read from the model's own graph, and gates and attention
weights come from the layers' own code.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# A tensor's mask; Keras makes it public nowhere.
from keras.src.backend import get_keras_mask

from zoo.errors import UsageError
from zoo.layers import LSTM, MaskedPooling, MinLSTM, MultiHeadAttention, TransformerBlock
from zoo.metrics import softmax
from zoo.text import TextEncoder, truncate
from zoo.training import Trained
from zoo.wordpiece import WordPieceEncoder

# Points of the path that are computed together hold as many tokens as this, about.
_TOKENS_AT_ONCE = 4_096


@dataclass(frozen=True)
class Trace:
    """What the units of a recurrent layer did at every step, in the order of the text.

    Args:
        forget: `float[B, T, U]`, what a unit keeps of its state, in (0, 1); zeros on padding, as
            are the next two.
        input: `float[B, T, U]`, what it takes of the new candidate.
        output: `float[B, T, U]`, what it shows of its state; `None` for a MinLSTM, which shows all.
        state: `float[B, T, U]`, the cell state after the step, c.
    """

    forget: np.ndarray
    input: np.ndarray
    output: np.ndarray | None
    state: np.ndarray


@dataclass(frozen=True)
class Gates:
    """One layer's gates for one text.

    Args:
        means: `float[T]` by gate, `"forget"`, `"input"` and, but for a MinLSTM, `"output"`: the
            mean over the units.
        state_norm: `float[T]`, the length of the cell state, `sqrt(sum_u c[t, u]^2)`.
    """

    means: dict[str, np.ndarray]
    state_norm: np.ndarray


@dataclass(frozen=True)
class Explanation:
    """What a model made of one text.

    Args:
        text: as it was given.
        task: the task's name.
        model: the model's family.
        tokens: T tokens, as the model saw them: normalised, and cut to its length.
        unknown: T times, whether a token is none that the model knows.
        tokens_left_out: how many tokens were cut out of the text's middle.
        probabilities: of every class, by name.
        label: the most probable class, of which the next four speak.
        attributions: `float[T]`; above zero, the token speaks for the label.
        logit: the label's logit.
        baseline_logit: what it is where every token's vector is zero.
        steps: at how many points of the path the gradient was taken.
        gates: by recurrent layer and reading direction.
        attention: `float[H, T, T]` by layer, the rows summing to one: what a token, the row, takes
            from which; `float[1, 1, T]` for attention pooling.
    """

    text: str
    task: str
    model: str
    tokens: tuple[str, ...]
    unknown: tuple[bool, ...]
    tokens_left_out: int
    probabilities: dict[str, float]
    label: str
    attributions: np.ndarray
    logit: float
    baseline_logit: float
    steps: int
    gates: dict[str, Gates]
    attention: dict[str, np.ndarray]

    @property
    def completeness_error(self) -> float:
        """The attributions' sum less what it should be, `logit - baseline_logit`."""
        return float(self.attributions.sum()) - (self.logit - self.baseline_logit)


def explain(trained: Trained, text: str, steps: int = 128) -> Explanation:
    """Looks into a model while it reads a text.

    Args:
        trained: a finished run, of a task on texts.
        text: any text; the empty one is one unknown token, as in training.
        steps: as in `integrated_gradients`.

    Raises:
        UsageError: for a run on features, whose steps are no tokens, fewer than one step, or
            another backend than TensorFlow.

    Example:
        >>> from zoo.training import load_trained
        >>> found = explain(load_trained("runs/first"), "I would see it again.")  # doctest: +SKIP
        >>> found.tokens[np.argmax(found.attributions)]  # doctest: +SKIP
        'again'
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"explain runs on TensorFlow, not on {keras.backend.backend()}")
    if trained.encoder is None:
        raise UsageError(
            f"{trained.task.name} is a task on features: only models that read texts are explained"
        )
    # What Python cannot encode, the model would not have got: it stands for bytes that are no text.
    raw = tf.constant([text.encode("utf-8", "surrogatepass")])
    ids = trained.encoder(raw).numpy()[0]
    tokens, left_out = _tokens(trained.encoder, raw, ids)
    model, inputs = trained.model, {"ids": tf.constant(ids[None])}
    probabilities = softmax(model(inputs, training=False).numpy())[0]  # float[C]
    target = int(probabilities.argmax())
    attributions, logit, baseline = integrated_gradients(model, ids, target, steps)
    return Explanation(
        text=text,
        task=trained.task.name,
        model=trained.config.model,
        tokens=tokens,
        unknown=tuple(bool(i == trained.encoder.unknown_id) for i in ids),
        tokens_left_out=left_out,
        probabilities=dict(zip(trained.task.classes, probabilities.tolist(), strict=True)),
        label=trained.task.classes[target],
        attributions=attributions,
        logit=logit,
        baseline_logit=baseline,
        steps=steps,
        gates={name: _summary(trace) for name, trace in trace_gates(model, inputs).items()},
        attention={name: rows[0] for name, rows in trace_attention(model, inputs).items()},
    )


def _tokens(
    encoder: TextEncoder | WordPieceEncoder, raw: tf.Tensor, ids: np.ndarray
) -> tuple[tuple[str, ...], int]:
    """The tokens that the ids of one text stand for, and how many were cut out between them."""
    if isinstance(encoder, WordPieceEncoder):
        # Less the two tokens around them.
        return tuple(encoder.words(ids)), int(encoder.pieces(raw).row_lengths()[0]) - len(ids) + 2
    every = encoder.split(raw)
    kept = truncate(every, encoder.settings.max_length)[0].numpy()
    # A lone byte of several that make a character is no text: it is shown by its number.
    tokens = tuple(token.decode("utf-8", "backslashreplace") for token in kept)
    return tokens or ("[empty]",), int(every.row_lengths()[0]) - len(kept)


def _summary(trace: Trace) -> Gates:
    gates = {"forget": trace.forget, "input": trace.input, "output": trace.output}
    means = {name: gate[0].mean(axis=-1) for name, gate in gates.items() if gate is not None}
    return Gates(means, np.linalg.norm(trace.state[0], axis=-1))


def integrated_gradients(
    model: keras.Model, ids: np.ndarray, target: int, steps: int = 128
) -> tuple[np.ndarray, float, float]:
    """Each token's share in a logit: the gradient along the way from no words to the text.

        a[t] = sum_e x[t, e] * integral_0^1 dF(s x) / dx[t, e] ds
        sum_t a[t] = F(x) - F(0)                                      completeness

    F is the logit as a function of the embedding's output, the baseline is zero: a text as long,
    of words without a meaning. The integral is a Gauss-Legendre sum, exact for gradients that are
    polynomials in s of a degree below twice the steps; where maxima change hands, or ReLUs switch,
    it is not, and the completeness error says by how much.

    Source: Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks".

    Args:
        model: from `{"ids": int32[B, T]}` to `float[B, C]` logits, with an `Embedding`.
        ids: `int32[T]`, one text without padding.
        target: which class's logit F is.
        steps: at how many points the gradient is taken.

    Returns:
        `float[T]`, F(x) and F(0).

    Raises:
        UsageError: for fewer than one step, or a model without an `Embedding`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["bag"](TokenInputs(num_ids=9), num_classes=2)
        >>> shares, logit, baseline = integrated_gradients(model, np.array([2, 3, 4]), 1, steps=1)
        >>> shares.shape, bool(abs(shares.sum() - (logit - baseline)) < 1e-6)
        ((3,), True)
    """
    if steps < 1:
        raise UsageError(f"steps={steps} cannot work: it must be at least 1")
    table = next((one for one in model.layers if isinstance(one, keras.layers.Embedding)), None)
    if table is None:
        raise UsageError(f"the model {model.name} has no Embedding: its tokens have no vectors")
    # The ids besides, for the mask comes from them.
    rest = keras.Model([model.input["ids"], table.output], model.output)
    row = tf.constant(ids[None], "int32")  # int32[1, T]
    vectors = tf.identity(table(row)).numpy()[0]  # float[T, E]

    def logits(points: tf.Tensor) -> tf.Tensor:
        rows = tf.repeat(row, len(points), axis=0)  # int32[N, T]
        return rest([rows, points], training=False)[:, target]  # float[N]

    places, weights = np.polynomial.legendre.leggauss(steps)
    places, weights = (places + 1) / 2, weights / 2  # from [-1, 1] to [0, 1]
    gradient = np.zeros(vectors.shape)  # float64[T, E]
    at_once = max(1, _TOKENS_AT_ONCE // len(ids))
    for start in range(0, steps, at_once):
        some = slice(start, start + at_once)
        points = tf.constant(places[some, None, None] * vectors, "float32")  # float[N, T, E]
        with tf.GradientTape() as tape:
            tape.watch(points)
            found = logits(points)
        gradient += np.tensordot(weights[some], tape.gradient(found, points).numpy(), 1)
    baseline, logit = logits(tf.stack([tf.zeros_like(vectors), vectors])).numpy().tolist()
    return (vectors * gradient).sum(axis=-1), logit, baseline


def trace_gates(model: keras.Model, inputs: dict[str, Any]) -> dict[str, Trace]:
    """What every LSTM and MinLSTM of a model does while it reads.

    Args:
        model: any functional one; its recurrent layers may stand in a `Bidirectional`.
        inputs: a batch for it.

    Returns:
        A trace by layer; of a bidirectional one, two, whose names end in `forward` and `backward`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["bilstm"](TokenInputs(num_ids=9), num_classes=2, size="small,units=5")
        >>> {n: t.state.shape for n, t in trace_gates(model, {"ids": tf.ones((2, 7))}).items()}
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


def trace_attention(model: keras.Model, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
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
        >>> {n: w.shape for n, w in trace_attention(model, {"ids": tf.ones((2, 7))}).items()}
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
        _, scores = attention(*given, return_attention_scores=True)
        weights[layer.name] = scores.numpy()
    return weights


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


def _mask(x: Any) -> np.ndarray:
    mask = get_keras_mask(x)
    return np.ones(x.shape[:2], bool) if mask is None else mask.numpy()


def _trace(layer: LSTM | MinLSTM, x: Any) -> Trace:
    # Turned to the order in which the layer reads, and all that is found turned back.
    turn = slice(None, None, -1 if layer.go_backwards else 1)
    x, real = tf.identity(x)[:, turn], _mask(x)[:, turn, None]  # float[B, T, D], bool[B, T, 1]
    if isinstance(layer, MinLSTM):
        kept, added = (part.numpy() for part in layer.cell.shares(x))  # each float[B, T, U]
        forget, taken, output = kept * real, (1 - kept) * real, None
    else:
        own = {"return_gates": True, "return_sequences": True, "return_state": False}
        same = LSTM.from_config({**layer.get_config(), **own, "go_backwards": False})
        same.build(x.shape)
        same.set_weights(layer.get_weights())
        _, gates = same(x, mask=tf.constant(real[..., 0]), training=False)
        taken, forget, candidate, output = (gates[name].numpy() for name in "ifco")
        added = taken * candidate
    states = [np.zeros_like(forget[:, 0])]  # float[B, U]
    for t in range(forget.shape[1]):
        new = forget[:, t] * states[-1] + added[:, t]
        states.append(np.where(real[:, t], new, states[-1]))
    state = np.stack(states[1:], axis=1)  # float[B, T, U]
    found = (None if part is None else part[:, turn] for part in (forget, taken, output, state))
    return Trace(*found)  # type: ignore[arg-type]


def _pooling_weights(layer: MaskedPooling, x: Any) -> np.ndarray:
    real = _mask(x)[:, :, None]  # bool[B, T, 1]
    hidden = tf.tanh(tf.identity(x) @ layer.kernel + layer.bias)  # float[B, T, D]
    scores = np.where(real, (hidden @ layer.query).numpy(), -np.inf)  # float[B, T, 1]
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).transpose(0, 2, 1)[:, None]  # [B, 1, 1, T]
