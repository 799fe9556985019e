"""A mask made from lengths."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import LengthMask

B, T, D = 5, 11, 7
LENGTHS = np.array([4, T, 1, 0, 97], "int32")


def test_a_step_is_real_within_its_length(rng, numpy):
    x = rng.normal(size=(B, T, D)).astype("float32")
    layer = LengthMask()
    mask = numpy(layer.compute_mask([x, LENGTHS]))
    np.testing.assert_array_equal(mask, np.arange(T) < LENGTHS[:, None])
    np.testing.assert_array_equal(numpy(layer([x, LENGTHS])), x * mask[..., None])


def test_the_mask_reaches_the_next_layer(rng, numpy):
    x = rng.normal(size=(B, T, D)).astype("float32")
    features, lengths = keras.Input((None, D)), keras.Input((), dtype="int32")
    pooled = stock.GlobalAveragePooling1D()(LengthMask()([features, lengths]))
    means = numpy(keras.Model([features, lengths], pooled)([x, LENGTHS]))
    for row, length in enumerate(LENGTHS):
        if length:
            np.testing.assert_allclose(means[row], x[row, :length].mean(0), atol=1e-5)


def pooled_by_hand(x, lengths):
    return np.stack([row[:n].mean(0) for row, n in zip(x, lengths, strict=True)])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.mask = LengthMask()
        self.pool = stock.GlobalAveragePooling1D()
        self.score = stock.Dense(1, kernel_initializer="ones")

    def call(self, inputs):
        return self.score(self.pool(self.mask([inputs["features"], inputs["lengths"]])))


def test_in_a_subclassed_model_that_is_called_and_fitted(rng, assert_near):
    x = rng.normal(size=(B, T, D)).astype("float32")
    lengths = np.array([4, T, 1, 2, 3], "int32")
    inputs = {"features": keras.ops.convert_to_tensor(x), "lengths": lengths}
    model = Subclassed()
    expected = pooled_by_hand(x, lengths).sum(-1, keepdims=True)
    assert_near(model(inputs), expected)
    model.compile("sgd", loss="mse")
    fitted = model.fit({"features": x, "lengths": lengths}, np.zeros((B, 1)), verbose=0)
    np.testing.assert_allclose(fitted.history["loss"][0], np.square(expected).mean(), rtol=1e-5)


def test_other_lengths_of_the_same_track_are_other_lengths(rng, assert_near):
    array = rng.normal(size=(B, T, D)).astype("float32")
    x, pool = keras.ops.convert_to_tensor(array), stock.GlobalAveragePooling1D()
    for lengths in (np.array([1] * B, "int32"), np.array([5] * B, "int32")):
        assert_near(pool(LengthMask()([x, lengths])), pooled_by_hand(array, lengths))
    assert_near(pool(x), array.mean(1))  # the caller's own tensor has no mask


def test_who_reads_the_features_beside_it_sees_them_all(rng, assert_near):
    x, lengths = rng.normal(size=(B, T, D)).astype("float32"), np.array([3] * B, "int32")
    inputs = [keras.Input((None, D)), keras.Input((), dtype="int32")]
    pool = stock.GlobalAveragePooling1D()
    model = keras.Model(inputs, [pool(LengthMask()(inputs)), pool(inputs[0])])
    assert_near(model([x, lengths]), [pooled_by_hand(x, lengths), x.mean(1)])


def test_a_mask_that_was_there_is_heeded_besides(rng, assert_near):
    x, lengths = rng.normal(size=(B, T, D)).astype("float32"), np.array([4] * B, "int32")
    x[:, :2] = 0.0
    inputs = [keras.Input((None, D)), keras.Input((), dtype="int32")]
    masked = LengthMask()([stock.Masking()(inputs[0]), inputs[1]])
    model = keras.Model(inputs, stock.GlobalAveragePooling1D()(masked))
    assert_near(model([x, lengths]), x[:, 2:4].mean(1))


def test_what_stands_behind_the_end_may_be_no_number(rng, numpy):
    x = np.full((B, T, D), np.nan, "float32")
    x[:, 0] = 1.0
    passed = numpy(LengthMask()([x, np.array([1] * B, "int32")]))
    np.testing.assert_array_equal(passed, np.where(np.isnan(x), 0.0, x))


@pytest.mark.parametrize("shapes", [((B, T, D), (B, 1)), ((B, T), (B,))])
def test_other_shapes_are_refused(shapes):
    features, lengths = shapes
    with pytest.raises(ValueError, match="LengthMask takes features"):
        LengthMask()([np.ones(features, "float32"), np.ones(lengths, "int32")])
