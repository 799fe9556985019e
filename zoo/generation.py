"""Text of a causal model's own: a prompt, and behind it one word after another.

The same steps run in Python, a word at a time for who watches, and as one loop inside a graph, for
a SavedModel. Each word is read once: `zoo.models.decoder` keeps what later steps need of it.
"""

import codecs
import os
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from zoo.errors import UsageError
from zoo.generation_config import MOST_NEW_TOKENS, GenerationConfig
from zoo.joining import Joiner
from zoo.layers.own_gradient_fast import no_gradients
from zoo.models.decoder import Decoder
from zoo.models.words import words_unseen
from zoo.pretraining import Pretrained, load_pretrained
from zoo.run import require_tensorflow
from zoo.sampling import draw
from zoo.servable import use_no_cudnn
from zoo.text import FIRST_WORD_ID, PAD_ID, UNKNOWN_ID, TextEncoder, padded


class Generator(tf.Module):
    """A causal model with all that stands between it and text.

    Of a prompt, the last `max_length` tokens are read; what the vocabulary lacks is read as the
    unknown word; no prompt at all as that word alone, as the model was taught. Neither padding nor
    the unknown word is ever written. A text has no end: as much is written as is asked for.

    Args:
        model: of `zoo.models.words.build_predictor`, asked for the next word. Its recurrent layers
            take no cuDNN from then on, and no gradient may be asked for.
        encoder: strings to ids.

    Raises:
        UsageError: if the encoder's ids cannot be turned back into text.
        ValueError: as `Decoder`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> from zoo.models.words import build_predictor
        >>> from zoo.text import TextSettings
        >>> encoder = TextEncoder(("ha",), TextSettings())
        >>> classifier = MODELS["lstm"](TokenInputs(encoder.num_ids), num_classes=2)
        >>> generator = Generator(build_predictor(classifier, ("next",)), encoder)
        >>> "".join(generator.stream("He said:", GenerationConfig(max_new_tokens=3)))
        'He said: ha ha ha'
    """

    def __init__(self, model: keras.Model, encoder: TextEncoder) -> None:
        super().__init__()
        use_no_cudnn(model)
        self._encoder = encoder
        self._joiner = Joiner(encoder)
        self._decoder = Decoder(model)
        # The variables, not the model: Keras's own objects would be saved with it.
        self._variables = [variable.value for variable in model.variables]
        never = [[-float("inf")] * FIRST_WORD_ID + [0.0] * (encoder.num_ids - FIRST_WORD_ID)]
        self._never = tf.constant(never)  # float32[1, V]
        self._one_step = tf.function(self._advance, autograph=False)

    def unknown(self, prompt: str | bytes) -> list[str]:
        """The tokens of a prompt that the vocabulary lacks, each once."""
        tokens = self._encoder.split(tf.constant([prompt]))
        ids = self._encoder.look_up(tokens).numpy()[0]
        pairs = zip(tokens.numpy()[0], ids, strict=False)  # no token at all has an id as well
        return list(dict.fromkeys(word.decode("utf-8") for word, i in pairs if i == UNKNOWN_ID))

    def stream(
        self, prompt: str | bytes, config: GenerationConfig, sample: int = 0
    ) -> Iterator[str]:
        """Writes one text, the prompt first.

        Args:
            prompt: where it begins.
            config: how much, and how words are chosen.
            sample: of several texts of one seed, which.

        Yields:
            Pieces of the text, as soon as they are known; some may be empty.

        Raises:
            UsageError: if the model has not learnt as many positions.
        """
        ids, lengths, last, before = self._read(tf.constant([prompt]))
        first, steps = int(lengths[0]), config.max_new_tokens
        limit = self._decoder.max_length
        if limit is not None and first + steps > limit:
            raise UsageError(
                f"--max_new_tokens={steps} cannot work behind a prompt of {first} tokens: the "
                f"model has learnt {limit} positions, so at most {max(0, limit - first)}"
            )
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        yield decode(before.numpy()[0])
        state = self._decoder.init_state(1, first + steps)
        temperature, key = tf.constant(config.temperature), tf.constant([config.seed, sample])
        index = 0
        for _ in range(steps):
            token, state = self._one_step(
                ids, state, tf.constant(index), temperature, key, config.top_k, config.top_p
            )
            yield decode(self._joiner(last, token).numpy()[0])
            index += ids.shape[1]
            ids, last = token[:, None], token
        yield decode(b"", final=True)

    def generate(
        self, prompt: tf.Tensor, max_new_tokens: tf.Tensor, temperature: tf.Tensor, seed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Writes a text behind each prompt, all of it inside the graph.

        Args:
            prompt: `string[B]`; any bytes will do, and any number of rows.
            max_new_tokens: `int32[]`, 0 to 4,096.
            temperature: `float32[]`, 0 for the likeliest words.
            seed: `int32[]`.

        Returns:
            `text`, `string[B]`, UTF-8, each prompt first; and `ids`, `int32[B, N]`, of what is new.

        Raises:
            tf.errors.InvalidArgumentError: for a number that cannot be, or more steps than the
                model has learnt positions.
        """
        within = (max_new_tokens >= 0) & (max_new_tokens <= MOST_NEW_TOKENS)
        message = f"max_new_tokens must be 0 to {MOST_NEW_TOKENS}"
        max_new_tokens = _checked(max_new_tokens, within, message)
        finite = (temperature >= 0) & tf.math.is_finite(temperature)
        message = "temperature must be a finite number, 0 or above"
        temperature = _checked(temperature, finite, message)
        ids, lengths, last, before = self._read(prompt)
        new = self.write_ids(ids, lengths, max_new_tokens, temperature, tf.stack([seed, 0]))
        previous = tf.concat([last[:, None], new], axis=1)[:, :-1]  # int32[B, N]
        pieces = self._joiner(previous, new)  # string[B, N]
        whole = tf.strings.join([before, tf.strings.reduce_join(pieces, axis=1)])
        text = tf.strings.unicode_transcode(whole, "UTF-8", "UTF-8", errors="replace")
        return {"text": text, "ids": new}

    def write_ids(
        self,
        ids: tf.Tensor,
        lengths: tf.Tensor,
        number: tf.Tensor,
        temperature: tf.Tensor,
        key: tf.Tensor,
    ) -> tf.Tensor:
        """The ids behind each row of ids.

        All rows go on at the same place: where one has ended, it is written on, while those that
        are longer are read on.

        Args:
            ids: `int32[B, T]`, padded behind each row.
            lengths: `int32[B]`, at least 1.
            number: N, `int32[]`.
            temperature: `float32[]`.
            key: `int32[2]`, of all chance.

        Returns:
            `int32[B, N]`.
        """
        width = tf.shape(ids)[1]
        shortest = tf.minimum(width, tf.reduce_min(lengths))
        total = width + number
        limit = self._decoder.max_length
        if limit is not None:
            message = f"prompt and max_new_tokens make more than {limit} tokens, all it has learnt"
            total = _checked(total, total <= limit, message)
        places = tf.range(total)  # int32[T + N]

        def body(place: tf.Tensor, row: tf.Tensor, token: tf.Tensor, state: Any) -> Any:
            new = (places == place) & (place >= lengths[:, None])  # bool[B, T + N]
            row = tf.where(new, token[:, None], row)  # int32[B, T + N]
            step = tf.gather(row, place, axis=1)[:, None]  # int32[B, 1]
            token, state = self._advance(step, state, place, temperature, key)
            return place + 1, row, token, state

        state = self._decoder.init_state(tf.shape(ids)[0], total)
        start = ids[:, :shortest]
        token, state = self._advance(start, state, tf.constant(0), temperature, key)
        row = tf.pad(ids, [[0, 0], [0, number]])  # int32[B, T + N]
        begun = (shortest, row, token, state)
        _, row, _, _ = tf.while_loop(lambda place, *_: place < total, body, begun)
        return tf.gather(row, lengths[:, None] + tf.range(number), axis=1, batch_dims=1)

    def _read(self, prompt: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Ids `int32[B, T]`, how many, the last that stands in the text, and how that begins."""
        tokens = self._encoder.split(prompt)
        ids = self._encoder.look_up(tokens[:, -self._encoder.settings.max_length :])
        lengths = tf.cast(ids.row_lengths(), tf.int32)  # int32[B]
        dense = padded(ids)  # int32[B, T]
        last = tf.gather(dense, lengths - 1, axis=1, batch_dims=1)  # int32[B]
        last = tf.where(tokens.row_lengths() > 0, last, PAD_ID)
        return dense, lengths, last, tf.strings.strip(prompt)

    def _advance(
        self,
        ids: tf.Tensor,
        state: Any,
        index: tf.Tensor,
        temperature: tf.Tensor,
        key: tf.Tensor,
        top_k: int = 0,
        top_p: float = 1.0,
    ) -> tuple[tf.Tensor, Any]:
        """Reads steps, and draws the word behind them, `int32[B]`."""
        with no_gradients():
            scores, state = self._decoder(ids, state, index)  # float32[B, V]
        # By place, so that a text does not depend on those that are written beside it.
        seed = tf.random.fold_in(key, index + tf.shape(ids)[1])
        return draw(scores + self._never, temperature, seed, top_k, top_p), state


def load_generator(workdir: str | os.PathLike[str]) -> tuple[Generator, Pretrained]:
    """Reads a finished run of `zoo.pretraining` back, to write text with it.

    Raises:
        UsageError: if its model is no causal one, or its tokens are no text, saying what would do.
        RunError: as `load_pretrained`.
    """
    require_tensorflow()
    pretrained = load_pretrained(workdir)
    config = pretrained.config
    reads_forward = words_unseen(config.model, config.size) == ("next",)
    if config.objective != "causal" or not reads_forward:
        raise UsageError(
            f"{os.fspath(workdir)} holds no causal language model (--model={config.model} "
            f"--size={config.size} --objective={config.objective}): pretrain with "
            "--objective=causal and --model=lstm, or --model=transformer "
            "--size=small,attention=causal"
        )
    return Generator(pretrained.model, pretrained.encoder), pretrained


def _checked(value: tf.Tensor, condition: tf.Tensor, message: str) -> tf.Tensor:
    """The value, of which nothing is made before the condition holds."""
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(value)
