"""What a new word takes with what was kept of the words before it, against reading them all again.

Both write the same ids, greedily, in one graph each. Reading again means the whole row at a fixed
length, so that no length is compiled for itself, and the scores of the one word that is asked for.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from zoo.generation import Generator
from zoo.layers.own_gradient_fast import no_gradients
from zoo.models import MODELS, TokenInputs
from zoo.models.words import build_predictor
from zoo.text import FIRST_WORD_ID, TextEncoder, TextSettings


def contest(family: str, size: str, tokens: int, num_words: int) -> dict[str, Callable[[], Any]]:
    """Greedy ids behind one word, `int32[1, tokens]`, by either way; see `zoo.benchmark`.

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

    def read_again() -> tf.Tensor:
        def body(place: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with no_gradients():
                queries = predictor({"ids": row}, training=False)[:, place - 1]  # float32[1, E]
            scores = tf.matmul(queries, table, transpose_b=True) + bias  # float32[1, V]
            scores = scores[:, FIRST_WORD_ID:]
            word = tf.argmax(scores, axis=1, output_type=tf.int32) + FIRST_WORD_ID  # int32[1]
            row = tf.where(tf.range(1 + tokens) == place, word[:, None], row)
            return place + 1, tf.ensure_shape(row, [1, 1 + tokens])

        row = tf.pad(first, [[0, 0], [0, tokens]])
        _, row = tf.while_loop(lambda place, _: place <= tokens, body, (1, row))
        return row[:, 1:]

    ways = {"read again": read_again, "zoo": step_by_step}
    return {name: tf.function(way, autograph=False) for name, way in ways.items()}
