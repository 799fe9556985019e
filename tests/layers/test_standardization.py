"""Standardization measures real steps, and nothing else."""

import keras
import numpy as np
import pytest

from zoo.layers import Standardization

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D = 5, 11, 7
LENGTHS = np.array([11, 4, 1, 0, 7], "int32")


def tracks(rng, offset=0.0):
    features = rng.normal(size=(B, T, D)) * np.arange(1, D + 1) + offset
    features[np.arange(T) >= LENGTHS[:, None]] = np.nan  # padding may be no number
    return features.astype("float32")


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_real_steps_get_mean_0_and_deviation_1(rng, numpy, offset):
    features = tracks(rng, offset)
    layer = Standardization()
    layer.adapt_to_tracks([(features[:2], LENGTHS[:2]), (features[2:], LENGTHS[2:])])
    real = features[np.arange(T) < LENGTHS[:, None]].astype("float64")
    np.testing.assert_allclose(numpy(layer.mean), real.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(numpy(layer.deviation), real.std(0), rtol=1e-5)
    output = numpy(layer(features))[np.arange(T) < LENGTHS[:, None]]
    np.testing.assert_allclose(output.mean(0), np.zeros(D), atol=1e-3)
    np.testing.assert_allclose(output.std(0), np.ones(D), atol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(("offset", "scale"), [(1e4, 1.0), (0.0, 1e6), (0.0, 1e-8)])
def test_half_precision_comes_last(rng, numpy, policy, offset, scale):
    features = (rng.normal(size=(B, T, D)) * scale + offset).astype("float32")
    layer = Standardization(dtype=policy)
    layer.adapt_to_tracks([(features, np.full(B, T))])
    real = features.reshape(-1, D).astype("float64")
    expected = (features - real.mean(0)) / real.std(0)
    found = layer(features)
    assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
    found = numpy(keras.ops.cast(found, "float32"))
    np.testing.assert_allclose(found, expected, atol=3e-2)


def test_a_feature_that_never_changes_is_0(numpy):
    features = np.full((2, 3, 2), 0.1, "float32")
    layer = Standardization()
    layer.adapt_to_tracks([(features, np.array([3, 2], "int32"))])
    np.testing.assert_allclose(numpy(layer(features)), np.zeros((2, 3, 2)), atol=1e-6)


def test_until_then_it_changes_nothing(rng, numpy):
    features = rng.normal(size=(B, T, D)).astype("float32")
    layer = Standardization()
    layer.adapt_to_tracks([(features, np.zeros(B, "int32"))])  # no step at all
    np.testing.assert_array_equal(numpy(layer(features)), features)
