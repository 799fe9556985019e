"""Each token's share in what a model says, by integrated gradients, as tensors.

    a[t] = sum_e x[t, e] * integral_0^1 dF(s x) / dx[t, e] ds
    sum_t a[t] = F(x) - F(0)                                      completeness

F is a class's logit as a function of the embedding's output, the baseline is zero: a text as long,
of words without a meaning. The integral is a Gauss-Legendre sum, exact for gradients that are
polynomials in s of a degree below twice the steps; where maxima change hands, or ReLUs switch, it
is not, and the completeness error says by how much.

Source: Sundararajan, Taly & Yan 2017, "Axiomatic Attribution for Deep Networks".
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from zoo.errors import UsageError
from zoo.layers.own_gradient_fast import plain_loops

# Points of the path that are computed together hold as many tokens as this, about.
_TOKENS_AT_ONCE = 4_096

Attribution = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]


def has_embedding(model: keras.Model) -> bool:
    """Whether the tokens of a model have vectors, which shares are asked of.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> [has_embedding(MODELS[name](TokenInputs(9), 2)) for name in ("bag", "nb_ngram")]
        [True, False]
    """
    return any(isinstance(layer, keras.layers.Embedding) for layer in model.layers)


def attribution(model: keras.Model, steps: int) -> Attribution:
    """Makes the function that attributes one text, eagerly or in a graph.

    Args:
        model: from `{"ids": int32[B, T]}` to `float[B, C]` logits, with an `Embedding`.
        steps: at how many points of the path the gradient is taken.

    Returns:
        A function of `int32[T]`, the ids of one text without padding, and of `int[]`, which class's
        logit F is. It returns the shares `float64[T]`, F(x) and F(0), both `float64[]`.

    Raises:
        UsageError: for fewer than one step, or a model without an `Embedding`.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["bag"](TokenInputs(num_ids=9), num_classes=2)
        >>> shares, logit, baseline = attribution(model, steps=1)(tf.constant([2, 3, 4]), 1)
        >>> tuple(shares.shape), bool(abs(tf.reduce_sum(shares) - float(logit - baseline)) < 1e-6)
        ((3,), True)
    """
    if steps < 1:
        raise UsageError(f"steps={steps} cannot work: it must be at least 1")
    table = next((one for one in model.layers if isinstance(one, keras.layers.Embedding)), None)
    if table is None:
        raise UsageError(f"the model {model.name} has no Embedding: its tokens have no vectors")
    # The ids besides, for the mask comes from them.
    rest = keras.Model([model.input["ids"], table.output], model.output)
    places, weights = _path(steps)

    def shares(ids: tf.Tensor, target: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        row = tf.cast(ids, tf.int32)[None]  # int32[1, T]
        vectors = tf.stop_gradient(tf.identity(table(row))[0])  # float[T, E]
        at_once = tf.maximum(1, _TOKENS_AT_ONCE // tf.maximum(tf.size(ids), 1))

        def some(start: tf.Tensor, slope: tf.Tensor, ends: tf.Tensor) -> tuple:
            here = slice(start, start + at_once)
            along = tf.cast(tf.constant(places)[here], vectors.dtype)  # float[N]
            shared = tf.constant(weights)[here]  # float64[N, 3]
            points = along[:, None, None] * vectors  # float[N, T, E]
            rows = tf.repeat(row, tf.size(along), axis=0)  # int32[N, T]
            with tf.GradientTape() as tape, plain_loops():
                tape.watch(points)
                logits = tf.gather(rest([rows, points], training=False), target, axis=1)  # float[N]
            slopes = tf.cast(tape.gradient(logits, points), tf.float64)  # float64[N, T, E]
            ends += tf.linalg.matvec(shared[:, 1:], tf.cast(logits, tf.float64), transpose_a=True)
            return start + at_once, slope + tf.tensordot(shared[:, 0], slopes, 1), ends

        size = vectors.shape[-1]
        _, slope, ends = tf.while_loop(
            lambda start, *_: start < len(places),
            some,
            (tf.constant(0), tf.zeros(tf.shape(vectors), tf.float64), tf.zeros(2, tf.float64)),
            (tf.TensorShape([]), tf.TensorShape([None, size]), tf.TensorShape([2])),
            parallel_iterations=1,
        )  # float64[T, E], float64[2]
        return tf.reduce_sum(tf.cast(vectors, tf.float64) * slope, axis=-1), ends[1], ends[0]

    return shares


def _path(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the way from 0 to 1, and what each is worth to the integral and to either end.

    The ends are worth nothing to the integral, but to ask for them apart would take a graph as
    large again as the model's.

    Example:
        >>> places, weights = _path(1)
        >>> places.tolist(), weights.tolist()
        ([0.0, 1.0, 0.5], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    """
    inner, worth = np.polynomial.legendre.leggauss(steps)
    places = np.concatenate([[0.0, 1.0], (inner + 1) / 2])  # from [-1, 1] to [0, 1]
    weights = np.zeros((steps + 2, 3))
    weights[2:, 0], weights[0, 1], weights[1, 2] = worth / 2, 1, 1
    return places, weights
