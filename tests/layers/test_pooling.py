"""Pooling at its edges; its equations: `test_against_numpy.py`."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import MaskedPooling

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D = 5, 11, 7
MODES = ("last", "mean", "max", "attention")
LENGTHS = np.array([4, T, 1, 7, 0])[:, None]
MASK = np.arange(T) < LENGTHS


@pytest.mark.parametrize("mode", MODES)
def test_nothing_masked_flows_back(mode, rng, randomize, gradients):
    layer = MaskedPooling(mode)
    layer.build((B, T, D))
    randomize(layer)
    x = rng.normal(size=(B, T, D)).astype("float32")
    outputs, (of_inputs,), of_weights = gradients(layer, lambda x: layer(x, mask=MASK), [x])
    assert (outputs[0][4] == 0).all()
    assert (of_inputs[~MASK] == 0).all()
    assert all(np.isfinite(g).all() for g in (of_inputs, *of_weights))
    assert (np.abs(of_inputs[2, 0]) > 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_what_padding_holds_does_not_matter(mode, rng, numpy):
    layer, x = MaskedPooling(mode), rng.normal(size=(B, T, D)).astype("float32")
    spoilt = np.where(MASK[..., None], x, np.float32("nan"))
    np.testing.assert_array_equal(numpy(layer(x, mask=MASK)), numpy(layer(spoilt, mask=MASK)))


@pytest.mark.parametrize("mode", MODES)
def test_a_vector_carries_no_mask(mode, rng):
    ids = np.where(MASK, 3, 0)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            stock.Embedding(5, D, mask_zero=True),
            MaskedPooling(mode),
            stock.Dense(2),
        ]
    )
    assert model(ids).shape == (B, 2)
    assert MaskedPooling(mode).compute_mask(None, MASK) is None


def test_the_mean_is_keras_own(rng, assert_near):
    x, some = rng.normal(size=(B, T, D)).astype("float32"), MASK | (np.arange(T) == 0)
    assert_near(MaskedPooling("mean")(x, mask=some), stock.GlobalAveragePooling1D()(x, mask=some))
    assert_near(MaskedPooling("max")(x), stock.GlobalMaxPooling1D()(x))


@pytest.mark.parametrize("mode", ["mean", "attention"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_long_sequences_in_half_precision(dtype, mode, numpy):
    steps = 70_001  # more than float16's largest number
    pooled = MaskedPooling(mode, dtype=dtype)(np.ones((1, steps, 2), "float32"))
    pooled = numpy(keras.ops.cast(pooled, "float32"))
    np.testing.assert_allclose(pooled, np.ones((1, 2)), atol=1e-2)


@pytest.mark.parametrize("mode", MODES)
def test_what_padding_holds_spoils_no_gradient(mode, rng, randomize, gradients):
    layer = MaskedPooling(mode)
    layer.build((B, T, D))
    randomize(layer)
    x = np.where(MASK[..., None], rng.normal(size=(B, T, D)), np.nan).astype("float32")
    _, of_inputs, of_weights = gradients(layer, lambda x: layer(x, mask=MASK), [x])
    assert all(np.isfinite(g).all() for g in (*of_inputs, *of_weights))


def test_the_largest_may_be_as_low_as_numbers_go(numpy):
    x = np.array([[[-np.inf, -3.4e38], [9.0, 9.0]]], "float32")
    pooled = numpy(MaskedPooling("max")(x, mask=np.array([[True, False]])))
    np.testing.assert_array_equal(pooled, x[:, 0])


def test_a_bad_mode_is_refused():
    with pytest.raises(ValueError, match=r"`mode` must be one of .*'attention', not 'median'"):
        MaskedPooling("median")
