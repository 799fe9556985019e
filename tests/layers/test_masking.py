"""A mask made from lengths."""

import keras
import numpy as np
from keras import layers as stock

from zoo.layers import LengthMask

B, T, D = 5, 11, 7
LENGTHS = np.array([4, T, 1, 0, 97], "int32")


def test_a_step_is_real_within_its_length(rng, numpy):
    x = rng.normal(size=(B, T, D)).astype("float32")
    layer = LengthMask()
    mask = numpy(layer.compute_mask([x, LENGTHS]))
    np.testing.assert_array_equal(mask, np.arange(T) < LENGTHS[:, None])
    np.testing.assert_array_equal(numpy(layer([x, LENGTHS])), x)


def test_the_mask_reaches_the_next_layer(rng, numpy):
    x = rng.normal(size=(B, T, D)).astype("float32")
    features, lengths = keras.Input((None, D)), keras.Input((), dtype="int32")
    pooled = stock.GlobalAveragePooling1D()(LengthMask()([features, lengths]))
    means = numpy(keras.Model([features, lengths], pooled)([x, LENGTHS]))
    for row, length in enumerate(LENGTHS):
        if length:
            np.testing.assert_allclose(means[row], x[row, :length].mean(0), atol=1e-5)
