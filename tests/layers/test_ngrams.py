"""N-grams against sets of tuples, and ratios against a count by hand."""

import keras
import numpy as np
import pytest

from zoo.layers import HashedNgrams, LogCountRatios

PRIMES, MULTIPLIERS = (32749, 32719), (20011, 12347)


def bucket(ngram, num_ids, num_buckets):
    """In Python's own numbers, which never overflow."""
    if len(ngram) == 1:
        return ngram[0]
    high, low = 0, 0
    for word in ngram:
        high = (high * MULTIPLIERS[0] + word) % PRIMES[0]
        low = (low * MULTIPLIERS[1] + word) % PRIMES[1]
    low = (low + high**2) % PRIMES[1]
    high = (high + low**2) % PRIMES[0]
    return num_ids + (high * 2**15 + low) % num_buckets


def expected_buckets(row, max_ngram, num_ids, num_buckets):
    ngrams = {
        tuple(row[start : start + size])
        for size in range(1, max_ngram + 1)
        for start in range(len(row) - size + 1)
    }
    return sorted({bucket(n, num_ids, num_buckets) for n in ngrams if all(n)})


def make_ids(rng, rows, steps, num_ids):
    ids = rng.integers(1, num_ids, (rows, steps))
    return np.where(rng.random((rows, steps)) < 0.2, 0, ids).astype("int32")


@pytest.mark.parametrize("max_ngram", [1, 2, 3, 5])
@pytest.mark.parametrize(("rows", "steps"), [(5, 11), (1, 7), (5, 1), (5, 2), (3, 0), (0, 3)])
@pytest.mark.parametrize(("num_ids", "num_buckets"), [(5, 2**19), (2**29, 2**29), (29, 1)])
def test_the_buckets_are_those_of_the_set_of_ngrams(
    max_ngram, rows, steps, num_ids, num_buckets, rng, numpy
):
    ids = make_ids(rng, rows, steps, num_ids)
    found = numpy(HashedNgrams(num_ids, max_ngram, num_buckets)(ids))
    assert (found.shape, found.dtype) == ((rows, max_ngram * steps), np.int32)
    for row, numbers in zip(ids.tolist(), found, strict=True):
        expected = expected_buckets(row, max_ngram, num_ids, num_buckets)
        assert numbers[numbers != 0].tolist() == expected


def test_a_row_of_padding_has_no_ngram_and_padding_behind_a_row_changes_none(rng, numpy):
    layer, ids = HashedNgrams(29, 3, 2**19), make_ids(rng, 5, 11, 29)
    ids[2] = 0
    short, long = numpy(layer(ids)), numpy(layer(np.pad(ids, ((0, 0), (0, 13)))))
    assert not short[2].any()
    for ours, theirs in zip(short, long, strict=True):
        assert ours[ours > 0].tolist() == theirs[theirs > 0].tolist()


def test_order_and_size_make_an_ngram(numpy):
    layer = HashedNgrams(9, 3, 2**19)
    rows = [[3, 4, 0], [4, 3, 0], [3, 0, 4], [3, 4, 4], [3, 3, 4]]
    sets = {tuple(row[row > 0].tolist()) for row in numpy(layer(np.array(rows, "int32")))}
    assert len(sets) == len(rows)


def test_ngrams_are_spread_evenly(numpy):
    """As many buckets are used as by chance, by n-grams of the most frequent words too."""
    ids = np.stack(np.meshgrid(*[np.arange(1, 41)] * 3), -1).reshape(-1, 3).astype("int32")
    for num_buckets in (2**16, 2**19, 100_000):
        found = numpy(HashedNgrams(41, 3, num_buckets)(ids))
        used = len(np.unique(found[found >= 41]))
        # Balls thrown into bins.
        by_chance = num_buckets * (1 - np.exp(-(40**3 + 40**2) / num_buckets))
        assert used == pytest.approx(by_chance, rel=0.01)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int64"])
def test_any_type_of_ids_gives_int32(dtype, rng, numpy):
    layer, ids = HashedNgrams(200, 2, 101), make_ids(rng, 5, 11, 200)
    np.testing.assert_array_equal(numpy(layer(ids.astype(dtype))), numpy(layer(ids)))
    assert layer(keras.Input((None,), dtype=dtype)).dtype == "int32"


@pytest.mark.parametrize("name", ["num_ids", "max_ngram", "num_buckets"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_bad_sizes_of_ngrams_are_refused(name, value):
    arguments = {"num_ids": 9, "max_ngram": 2, "num_buckets": 11, name: value}
    with pytest.raises(ValueError, match=f"`{name}` must be a positive integer, not {value!r}"):
        HashedNgrams(**arguments)


def test_more_buckets_than_int32_counts_are_refused():
    with pytest.raises(ValueError, match=r"`num_ids` and `num_buckets` must be at most 1073741824"):
        HashedNgrams(9, 2, 2**30)


def make_labelled(rng, rows=41, num_features=13, num_classes=3):
    """Distinct features of each row, the last three of all in no row, and its class."""
    present = rng.random((rows, num_features)) < 0.3
    present[:, [0, -3, -2, -1]] = False
    return np.where(present, np.arange(num_features), 0), rng.integers(0, num_classes, rows)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_the_ratios_follow_their_definition(alpha, rng, numpy):
    features, labels = make_labelled(rng)
    layer = LogCountRatios(13, 3, alpha=alpha)
    layer.adapt_to_labels((features[i : i + 7], labels[i : i + 7]) for i in range(0, 41, 7))
    expected = np.zeros((13, 3))
    seen = [g for g in range(1, 13) if (features == g).any()]
    for c in range(3):
        p = {g: alpha + (features[labels == c] == g).any(1).sum() for g in seen}
        q = {g: alpha + (features[labels != c] == g).any(1).sum() for g in seen}
        for g in seen:
            ratio = np.log(p[g] / sum(p.values()) / (q[g] / sum(q.values())))
            expected[g, c] = np.sqrt((features == g).any(1).mean()) * ratio
    np.testing.assert_allclose(numpy(layer.ratios), expected, atol=1e-5)
    assert len(seen) == 9


def test_the_logits_follow_their_definition(rng, numpy, randomize):
    features, _ = make_labelled(rng)
    layer = LogCountRatios(13, 3, gain=7.0)
    layer.build((None, None))
    randomize(layer)
    terms = 7.0 * numpy(layer.ratios) * numpy(layer.kernel)
    roots = np.sqrt(np.maximum((features > 0).sum(1), 1))[:, None]
    sums = [terms[row[row > 0]].sum(0) for row in features]
    expected = np.array(sums) / roots + numpy(layer.bias)
    np.testing.assert_allclose(numpy(layer(features)), expected, atol=1e-5)


def test_adapted_it_begins_as_naive_bayes_whatever_the_batches(rng, numpy):
    features, labels = make_labelled(rng)
    layers = [LogCountRatios(13, 3) for _ in range(2)]
    order = rng.permutation(41)
    layers[0].adapt_to_labels([(features, labels)])
    layers[1].adapt_to_labels((features[[i]], labels[[i]]) for i in order)
    for ours, theirs in zip(layers[0].get_weights(), layers[1].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    roots = np.sqrt(np.maximum((features > 0).sum(1), 1))[:, None]
    expected = numpy(layers[0].ratios)[features].sum(1) / roots
    np.testing.assert_allclose(numpy(layers[0](features)), expected, atol=1e-5)


def test_without_a_feature_the_ratios_are_none(numpy):
    for batches in ([], [(np.zeros((2, 5), "int32"), np.array([0, 2]))]):
        layer = LogCountRatios(13, 3)
        layer.adapt_to_labels(batches)
        assert not numpy(layer.ratios).any()


def test_ratios_are_no_weights_to_train():
    layer = LogCountRatios(13, 3)
    layer.build((None, None))
    assert [w.name for w in layer.trainable_weights] == ["kernel", "bias"]


@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropped_features_are_made_up_for(rate, numpy):
    features = np.broadcast_to(np.arange(1, 1001), (31, 1000))
    layer = LogCountRatios(1001, 2, dropout=rate, seed=1)
    sums = numpy(layer(features, training=True)) * np.sqrt(1000)
    np.testing.assert_allclose(sums[:, 0], sums[:, 1], rtol=1e-5)
    # Four standard deviations of a mean of 31 sums.
    assert abs(sums[:, 0].mean() - 1000) < 4 * np.sqrt(1000 * rate / (1 - rate) / 31)
    np.testing.assert_allclose(numpy(layer(features)), np.sqrt(1000), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_features": 0}, "`num_features` must be a positive integer, not 0"),
        ({"num_classes": 2.0}, "`num_classes` must be a positive integer, not 2.0"),
        ({"alpha": 0}, "`alpha` must be above 0, not 0"),
        ({"gain": float("inf")}, "`gain` must be above 0, not inf"),
        ({"dropout": 1.5}, "`dropout` must be between 0 and 1, not 1.5"),
    ],
)
def test_bad_arguments_of_ratios_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LogCountRatios(**{"num_features": 5, "num_classes": 2, **arguments})
