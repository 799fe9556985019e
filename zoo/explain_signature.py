"""Why a model answers as it does, as a function that is saved with it: no training code is needed.

The numbers are those of `zoo.explain`, for a batch of texts.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from zoo.attribution import attribution
from zoo.layers.own_gradient_fast import no_gradients, plain_loops
from zoo.text import FIRST_WORD_ID, PAD_ID, TextEncoder, truncate
from zoo.trace import Trace, attention_of, gates_of
from zoo.wordpiece import WordPieceEncoder

# A quarter of what `zoo.explain` takes, for the time of a server; what that costs a text is said by
# its completeness error.
STEPS = 32

_EMPTY = "[empty]"


def explain_function(
    model: keras.Model,
    encoder: TextEncoder | WordPieceEncoder,
    logits_of: Callable[[tf.Tensor], dict[str, tf.Tensor]],
    classes: Sequence[str],
    steps: int = STEPS,
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Makes what explains a batch of texts, to stand in a graph.

    Args:
        model: from ids to logits, with an `Embedding`.
        encoder: strings to ids.
        logits_of: from `string[B]` to a dict of `logits`, `float32[B, C]`.
        classes: C names.
        steps: at how many points of the path the gradient is taken.

    Returns:
        A function of `string[B]`. It returns, T being the tokens of the longest text:

        - `tokens`, `string[B, T]`: as the model saw them, `""` behind a text's end; an empty text
          is the one token `[empty]`, a byte that is no ASCII character its number, as in `\\xe6`;
        - `label`, `string[B]`: the most probable class, of whose logit the next two speak;
        - `attribution`, `float32[B, T]`: each token's share in it, zero behind the end;
        - `completeness_error`, `float32[B]`: by how much their sum misses what it should be;
        - `attention_LAYER`, `float32[B, H, T, T]`, for each layer with attention: the row is the
          token that takes, the column the one that is taken from;
        - `gates_LAYER`, `float32[B, T, 4]`, for each recurrent layer and reading direction: the
          means of the forget, the input and the output gate, and the length of the cell state.
          A MinLSTM shows all of its state: its third number is 1.

    Raises:
        UsageError: for fewer than one step, or a model without an `Embedding`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> from zoo.text import TextSettings
        >>> encoder = TextEncoder(("a", "film"), TextSettings())
        >>> model = MODELS["lstm"](TokenInputs(encoder.num_ids), 2, size="small,units=3")
        >>> def logits_of(text):
        ...     return {"logits": model({"ids": encoder.encode_dense(text)})}
        >>> explain = explain_function(model, encoder, logits_of, ("bad", "good"))
        >>> found = explain(tf.constant(["A film", ""]))
        >>> found["tokens"].numpy().tolist()
        [[b'a', b'film'], [b'[empty]', b'']]
        >>> tuple(found["gates_lstm_0"].shape)
        (2, 2, 4)
    """
    shares_of = attribution(model, steps)

    def explain(text: tf.Tensor) -> dict[str, tf.Tensor]:
        ids = encoder.encode_dense(text)  # int32[B, T]
        target = tf.argmax(logits_of(text)["logits"], axis=-1)  # int64[B]

        def one(row: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            real = tf.boolean_mask(row[0], row[0] != 0)
            shares, logit, baseline = shares_of(real, row[1])
            error = tf.reduce_sum(shares) - tf.cast(logit - baseline, tf.float64)
            padded = tf.pad(shares, [[0, tf.size(row[0]) - tf.size(real)]])  # float64[T]
            return tf.cast(padded, tf.float32), tf.cast(error, tf.float32)

        # Row by row, so that a long text costs no short one anything, and the memory is of one. Of
        # no rows, the map would know no length: one stands there, and is left out.
        rows = tf.shape(ids)[0]
        missing = tf.maximum(0, 1 - rows)
        some = tf.pad(ids, [[0, missing], [0, 0]], constant_values=encoder.unknown_id)
        specs = (tf.TensorSpec([None], tf.float32), tf.TensorSpec([], tf.float32))
        shares, error = tf.map_fn(
            one,
            (some, tf.pad(target, [[0, missing]])),
            fn_output_signature=specs,
            parallel_iterations=1,
        )  # float32[B, T], float32[B]
        found = {
            "tokens": _tokens(encoder, text, ids),
            "label": tf.gather(tf.constant(list(classes)), target),
            "attribution": shares[:rows],
            "completeness_error": error[:rows],
        }
        with no_gradients(), plain_loops():
            for name, trace in gates_of(model, {"ids": ids}).items():
                found[f"gates_{name.replace(' ', '_')}"] = _summary(trace, ids)
            for name, weights in attention_of(model, {"ids": ids}).items():
                found[f"attention_{name}"] = weights
        return found

    return explain


def _tokens(encoder: TextEncoder | WordPieceEncoder, text: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
    """The tokens that ids stand for, `string[B, T]`."""
    if isinstance(encoder, WordPieceEncoder):
        return tf.where(ids == PAD_ID, "", tf.gather(tf.constant(encoder.vocabulary), ids))
    if encoder.settings.unit == "byte":
        names = [chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in range(256)]
        before = ["", _EMPTY]
        assert len(before) == FIRST_WORD_ID
        return tf.gather(tf.constant(before + names), ids)
    kept = truncate(encoder.split(text), encoder.settings.max_length)
    tokens = kept.to_tensor("", shape=[None, None])
    tokens = tf.pad(tokens, [[0, 0], [0, tf.shape(ids)[1] - tf.shape(tokens)[1]]])
    return tf.where((tokens == "") & (ids == encoder.unknown_id), _EMPTY, tokens)


def _summary(trace: Trace, ids: tf.Tensor) -> tf.Tensor:
    """What a layer's units did on the whole, `float32[B, T, 4]`."""
    real = tf.cast(ids != 0, tf.float32)  # float32[B, T]
    means = [
        real if gate is None else tf.reduce_mean(gate, axis=-1)
        for gate in (trace.forget, trace.input, trace.output)
    ]
    return tf.stack([*means, real * tf.norm(trace.state, axis=-1)], axis=-1)
