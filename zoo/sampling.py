"""One word out of the scores of all: the likeliest, or one by chance.

    p(word) = exp(s(word) / temperature) / sum_v exp(s(v) / temperature)

A temperature below 1 makes likely words likelier, and 0 stands for the limit: the likeliest word
alone. What is left of the vocabulary besides is a matter of taste:

    top-k   the k likeliest words (Fan et al. 2018, "Hierarchical Neural Story Generation")
    top-p   the least number of likeliest words that make up p of all probability, also called the
            nucleus (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration")

A word that is left out has the score minus infinity, and so have words that must never come. Of
the others, one is drawn as the highest score with noise added, which has the very probabilities
above (Gumbel 1954; Maddison et al. 2014, "A* Sampling"):

    word = argmax_v (s(v) / temperature - log(-log(u_v))),   u_v uniform in (0, 1)
"""

import tensorflow as tf

_NEVER = -float("inf")
_LEAST = 1e-30


def keep_top_k(scores: tf.Tensor, k: int) -> tf.Tensor:
    """Leaves the k highest scores of a row, and those that are equal to the last of them.

    Args:
        scores: `float32[B, V]`.
        k: how many, at least 1; from V on, all.

    Returns:
        `float32[B, V]`, minus infinity where a word was left out.

    Raises:
        ValueError: if `k` is below 1.

    Example:
        >>> keep_top_k(tf.constant([[1.0, 3.0, 2.0]]), 2).numpy().tolist()
        [[-inf, 3.0, 2.0]]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    highest = tf.math.top_k(scores, tf.minimum(k, tf.shape(scores)[1]), sorted=True).values
    return tf.where(scores >= highest[:, -1:], scores, _NEVER)


def keep_top_p(scores: tf.Tensor, p: float) -> tf.Tensor:
    """Leaves the fewest words of a row whose probabilities sum to `p`, and those equal to the last.

        kept = {w : sum of p(v) over v likelier than w < p}

    Args:
        scores: `float32[B, V]`; the probabilities are their softmax.
        p: in (0, 1]; with 1, nothing is left out.

    Returns:
        `float32[B, V]`, minus infinity where a word was left out; the likeliest never is.

    Raises:
        ValueError: if `p` lies outside (0, 1].

    Example:
        >>> keep_top_p(tf.constant([[0.0, 2.0, 1.0]]), 0.9).numpy().tolist()
        [[-inf, 2.0, 1.0]]
    """
    if not 0 < p <= 1:
        raise ValueError(f"p must be above 0 and at most 1, not {p}")
    if p == 1:
        return scores
    falling = tf.sort(scores, axis=1, direction="DESCENDING")  # float32[B, V]
    likelier = tf.cumsum(tf.nn.softmax(falling), axis=1, exclusive=True)  # float32[B, V]
    # A p that float32 has no number for keeps the likeliest still.
    kept = (likelier < p) | (likelier == 0)  # bool[B, V]
    lowest = tf.reduce_min(tf.where(kept, falling, float("inf")), axis=1, keepdims=True)
    return tf.where(scores >= lowest, scores, _NEVER)


def draw(
    scores: tf.Tensor,
    temperature: tf.Tensor,
    seed: tf.Tensor,
    top_k: int = 0,
    top_p: float = 1.0,
) -> tf.Tensor:
    """One word a row: first the temperature, then top-k, then top-p, then chance.

    Args:
        scores: `float32[B, V]`, of which one of a row at least is finite.
        temperature: `float32[]`, 0 or above; 0 takes the likeliest word, of several the first.
        seed: `int32[2]`; the same one gives the same words, and rows do not depend on one another.
        top_k: as `keep_top_k`'s; 0 for all.
        top_p: as `keep_top_p`'s.

    Returns:
        `int32[B]`, ids.

    Example:
        >>> scores = tf.constant([[0.0, 2.0, 1.0]])
        >>> draw(scores, tf.constant(0.0), tf.constant([1, 2])).numpy().tolist()
        [1]
        >>> draw(scores, tf.constant(9.0), tf.constant([1, 2]), top_k=1).numpy().tolist()
        [1]
    """

    def by_chance() -> tf.Tensor:
        # The highest score is 0 then, so that no temperature makes infinities of two.
        left = (scores - tf.reduce_max(scores, axis=1, keepdims=True)) / temperature
        left = keep_top_k(left, top_k) if top_k else left
        left = keep_top_p(left, top_p)
        # Not TensorFlow's categorical draw, which gives rows other words with other threads.
        chance = tf.random.stateless_uniform(tf.shape(left), seed, minval=_LEAST)
        return tf.argmax(left - tf.math.log(-tf.math.log(chance)), axis=1, output_type=tf.int32)

    likeliest = tf.argmax(scores, axis=1, output_type=tf.int32)  # int32[B]
    return tf.cond(temperature > 0, by_chance, lambda: likeliest)
