"""Temperature, top-k and top-p against NumPy, and what must hold of them for any scores."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from zoo.sampling import draw, keep_top_k, keep_top_p

# Halves, so that there are ties; and words that must never come.
SCORES = arrays.arrays(
    "float32",
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=13),
    elements=st.one_of(st.integers(-9, 9).map(lambda i: i / 2), st.just(-np.inf)),
).filter(lambda scores: np.isfinite(scores).any(axis=1).all())


def softmax(scores):
    shares = np.exp(scores.astype("float64") - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def nucleus(row, p):
    """Word by word, likeliest first, until p is reached; and all that equal the last one."""
    shares, total = softmax(row), 0.0
    for word in np.argsort(-row, kind="stable"):
        total += shares[word]
        if total >= p:
            break
    return row >= row[word]


@given(SCORES, st.integers(1, 15))
@settings(deadline=None)
def test_top_k_leaves_the_k_highest_and_what_equals_the_last(scores, k):
    kept = keep_top_k(tf.constant(scores), k).numpy()
    lowest = np.sort(scores, axis=1)[:, ::-1][:, min(k, scores.shape[1]) - 1][:, None]
    np.testing.assert_array_equal(kept, np.where(scores >= lowest, scores, -np.inf))


@given(SCORES, st.sampled_from([0.07, 0.3, 0.51, 0.77, 0.93]))
@settings(deadline=None)
def test_top_p_leaves_the_nucleus(scores, p):
    kept = keep_top_p(tf.constant(scores), p).numpy()
    for row, left in zip(scores, kept, strict=True):
        shares = np.sort(softmax(row))[::-1].cumsum()
        if np.abs(shares - p).min() < 1e-5:
            continue  # where p is met exactly, rounding decides
        np.testing.assert_array_equal(left, np.where(nucleus(row, p), row, -np.inf))
        assert softmax(row)[np.isfinite(left)].sum() >= p - 1e-6
        assert left.argmax() == row.argmax()


def test_the_smallest_top_p_leaves_the_likeliest():
    kept = keep_top_p(tf.constant([[0.0, 2.0, 1.0]]), 1e-300)
    np.testing.assert_array_equal(kept, [[-np.inf, 2, -np.inf]])


def test_a_top_p_of_one_leaves_everything():
    scores = tf.constant([[0.0, -200.0, -np.inf]])
    np.testing.assert_array_equal(keep_top_p(scores, 1.0), scores)


@given(SCORES, st.integers(0, 2**31 - 1))
@settings(deadline=None)
def test_greedy_and_every_narrow_choice_take_the_first_likeliest(scores, seed):
    scores = scores + np.linspace(0, 1e-3, scores.shape[1], dtype="float32")  # no ties
    expected = scores.argmax(axis=1)
    for temperature, narrow in ((0.0, {}), (1.0, {"top_k": 1}), (5.0, {"top_p": 1e-6})):
        found = draw(
            tf.constant(scores), tf.constant(temperature), tf.constant([seed, 7]), **narrow
        )
        np.testing.assert_array_equal(found, expected)


@given(SCORES, st.sampled_from([1e-30, 0.1, 1.0, 1e30]), st.integers(0, 99))
@settings(deadline=None)
def test_what_must_never_come_never_comes(scores, temperature, seed):
    found = draw(tf.constant(scores), tf.constant(temperature), tf.constant([seed, 3])).numpy()
    assert np.isfinite(scores[np.arange(len(scores)), found]).all()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_words_come_as_often_as_they_are_likely(temperature):
    row, rows = np.array([0.0, 1.0, -1.0, 0.5, -np.inf], "float32"), 20_000
    scores = tf.constant(np.repeat(row[None], rows, axis=0))
    found = draw(scores, tf.constant(temperature), tf.constant([11, 13])).numpy()
    shares = np.bincount(found, minlength=5) / rows
    np.testing.assert_allclose(shares, softmax(row / temperature), atol=0.015)


def test_the_temperature_comes_first_then_top_k_then_top_p():
    """At 2, the shares of the three likeliest are 0.51, 0.31 and 0.18: top-p takes two of them."""
    row = np.array([4.0, 3.0, 2.0, 1.0, 0.0], "float32")
    scores = tf.constant(np.repeat(row[None], 500, axis=0))
    found = draw(scores, tf.constant(2.0), tf.constant([1, 1]), top_k=3, top_p=0.8).numpy()
    assert set(found) == {0, 1}
    found = draw(scores, tf.constant(2.0), tf.constant([1, 1]), top_k=3, top_p=0.85).numpy()
    assert set(found) == {0, 1, 2}


def test_a_seed_is_a_draw_and_rows_do_not_depend_on_one_another():
    scores = tf.zeros((5, 1_009))
    first, again = (draw(scores, tf.constant(1.0), tf.constant([3, 4])).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(
        draw(scores[:2], tf.constant(1.0), tf.constant([3, 4])), first[:2]
    )
    assert len(set(first)) > 1
    other = draw(scores, tf.constant(1.0), tf.constant([3, 5])).numpy()
    assert (other != first).any()


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        (keep_top_k, 0, "k must be at least 1, not 0"),
        (keep_top_p, 0.0, "p must be above 0 and at most 1, not 0.0"),
        (keep_top_p, 1.5, "p must be above 0 and at most 1, not 1.5"),
        (keep_top_p, float("nan"), "p must be above 0 and at most 1, not nan"),
    ],
)
def test_shares_that_cannot_be_are_refused(function, value, message):
    with pytest.raises(ValueError, match=message):
        function(tf.zeros((1, 2)), value)
