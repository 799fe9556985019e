"""Word dropout: which ids it touches, how often, and when."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import WordDropout

B, T = 5, 11


def make_ids(rng, rows=B, steps=T):
    ids = rng.integers(2, 29, (rows, steps)).astype("int32")
    ids[:, steps // 2 :] *= rng.integers(0, 2, (rows, steps - steps // 2))
    return ids


def test_it_does_nothing_outside_training(rng, numpy):
    ids = make_ids(rng)
    for rate in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(numpy(WordDropout(rate)(ids)), ids)
        np.testing.assert_array_equal(numpy(WordDropout(rate)(ids, training=False)), ids)
    np.testing.assert_array_equal(numpy(WordDropout(0.0)(ids, training=True)), ids)


def test_it_makes_words_unknown_and_leaves_padding(rng, numpy):
    ids = make_ids(rng)
    np.testing.assert_array_equal(
        numpy(WordDropout(1.0, unknown_id=23)(ids, training=True)), np.where(ids == 0, 0, 23)
    )


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_it_keeps_to_its_rate(rate, rng, numpy):
    ids = make_ids(rng, 101, 211)
    dropped = numpy(WordDropout(rate, seed=1)(ids, training=True))
    changed = dropped != ids
    assert set(dropped[changed]) == {1}
    # Four standard deviations of a share of some 16,000 words.
    assert abs(changed[ids != 0].mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / (ids != 0).sum())


def test_a_seed_repeats_the_choice_and_batches_differ(rng, numpy):
    ids = make_ids(rng)
    first, second = WordDropout(0.5, seed=3), WordDropout(0.5, seed=3)
    batches = [numpy(first(ids, training=True)) for _ in range(2)]
    for batch in batches:
        np.testing.assert_array_equal(numpy(second(ids, training=True)), batch)
    assert (batches[0] != batches[1]).any()


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_ids_keep_their_type(dtype, rng):
    ids = keras.ops.convert_to_tensor(make_ids(rng), dtype)
    for training in (False, True):
        dropped = WordDropout(0.5)(ids, training=training)
        assert keras.backend.standardize_dtype(dropped.dtype) == dtype
    assert WordDropout(0.5)(keras.Input((None,), dtype=dtype)).dtype == dtype


def test_before_an_embedding_in_a_model_that_trains(rng):
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            WordDropout(0.5),
            stock.Embedding(29, 3, mask_zero=True),
            stock.GlobalAveragePooling1D(),
            stock.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    assert np.isfinite(model.train_on_batch(make_ids(rng), np.ones((B, 1), "float32")))


@pytest.mark.parametrize("unknown_id", [0, -1, "x", 1.5])
def test_an_unknown_id_that_means_something_else_is_refused(unknown_id):
    with pytest.raises(ValueError, match="`unknown_id` must be a positive integer, not"):
        WordDropout(0.5, unknown_id=unknown_id)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), "0.1", None])
def test_a_bad_rate_is_refused(rate):
    with pytest.raises(ValueError, match="`rate` must be between 0 and 1, not"):
        WordDropout(rate)
