"""Why a trained model answered what it did: its gates, its attention, and each token's share.

`explain` looks at one text. `zoo.explain_page` and `zoo.explain_picture` show what it found.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.attribution import attribution
from zoo.errors import UsageError
from zoo.metrics import softmax
from zoo.text import TextEncoder, truncate
from zoo.trace import Trace, attention_of, gates_of
from zoo.training import Trained
from zoo.wordpiece import WordPieceEncoder


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
    """Each token's share in a logit; `zoo.attribution` says what that is.

    Args:
        model: from `{"ids": int32[B, T]}` to `float[B, C]` logits, with an `Embedding`.
        ids: `int32[T]`, one text without padding.
        target: of which class the logit is, F.
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
    found = attribution(model, steps)(tf.constant(ids, tf.int32), tf.constant(target))
    shares, logit, baseline = (part.numpy() for part in found)
    return shares, float(logit), float(baseline)


def trace_gates(model: keras.Model, inputs: dict[str, Any]) -> dict[str, Trace]:
    """What every LSTM and MinLSTM of a model does while it reads, as arrays.

    Args and Returns:
        As `zoo.trace.gates_of`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["lstm"](TokenInputs(num_ids=9), num_classes=2, size="small,units=5")
        >>> trace_gates(model, {"ids": tf.ones((2, 7))})["lstm_0"].state.shape
        (2, 7, 5)
    """
    return {
        name: Trace(*(None if part is None else part.numpy() for part in trace))
        for name, trace in gates_of(model, inputs).items()
    }


def trace_attention(model: keras.Model, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    """The attention weights of a model while it reads, as arrays.

    Args and Returns:
        As `zoo.trace.attention_of`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["transformer"](TokenInputs(num_ids=9), num_classes=2)
        >>> trace_attention(model, {"ids": tf.ones((2, 7))})["block_0"].shape
        (2, 4, 7, 7)
    """
    return {name: rows.numpy() for name, rows in attention_of(model, inputs).items()}
