"""What a new word takes with what was kept of the words before it, against reading them all again.

Both write the same ids, greedily, in one graph each. Reading again means the whole row at a fixed
length, so that no length is compiled for itself, and the scores of the one word that is asked for.
Those scores, the product of one vector with those of all words, both have to compute. What that
takes alone is timed besides: no way to write, whatever it keeps, could take less.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from zoo.generation import Generator
from zoo.layers.own_gradient_fast import no_gradients
from zoo.models import MODELS, TokenInputs
from zoo.models.words import build_predictor
from zoo.text import FIRST_WORD_ID, TextEncoder, TextSettings


def contest(family: str, size: str, tokens: int, num_words: int) -> dict[str, Callable[[], Any]]:
    """Greedy ids behind one word, `int32[1, tokens]`, by either way; see `zoo.benchmark`.

    The third, `"scores alone"`, is no model of a text: each word is what scores highest with the
    vector of the one before.

    Args:
        family: of a causal model.
        size: its size, as `build` takes it.
        tokens: how many ids are written.
        num_words: words in the vocabulary.
    """
    encoder = TextEncoder([f"word{n}" for n in range(num_words)], TextSettings())
    classifier = MODELS[family](TokenInputs(encoder.num_ids), 2, size=size)
    predictor = build_predictor(classifier, ("next",))
    generator = Generator(predictor, encoder)
    table = predictor.get_layer("embedding").embeddings.value
    bias = predictor.get_layer("next").word_bias.value
    first = tf.constant([[FIRST_WORD_ID]])

    def step_by_step() -> tf.Tensor:
        return generator.write_ids(
            first, tf.constant([1]), tf.constant(tokens), tf.constant(0.0), tf.constant([0, 0])
        )

    def written(query: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        """Ids that each score highest with a vector made of all those before and their number."""

        def body(place: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scores = tf.matmul(query(row, place), table, transpose_b=True) + bias  # float32[1, V]
            scores = scores[:, FIRST_WORD_ID:]
            word = tf.argmax(scores, axis=1, output_type=tf.int32) + FIRST_WORD_ID  # int32[1]
            row = tf.where(tf.range(1 + tokens) == place, word[:, None], row)
            return place + 1, tf.ensure_shape(row, [1, 1 + tokens])

        row = tf.pad(first, [[0, 0], [0, tokens]])
        _, row = tf.while_loop(lambda place, _: place <= tokens, body, (1, row))
        return row[:, 1:]

    def read_again(row: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        with no_gradients():
            return predictor({"ids": row}, training=False)[:, place - 1]  # float32[1, E]

    def read_nothing(row: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
        # Asked for rows of the variable itself, TensorFlow copies it whole at each later read.
        return tf.gather(tf.convert_to_tensor(table), row[:, place - 1])  # float32[1, E]

    ways = {
        "read again": partial(written, read_again),
        "zoo": step_by_step,
        "scores alone": partial(written, read_nothing),
    }
    return {name: tf.function(way, autograph=False) for name, way in ways.items()}
