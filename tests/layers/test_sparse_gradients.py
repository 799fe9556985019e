"""Gradients that come as slices, and those that go on as slices, are what Keras's layers make."""

import keras
import numpy as np
import pytest

from zoo.layers import LSTM, MultiHeadAttention

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow alone has gradients in slices"
)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", ["LSTM", "MultiHeadAttention"])
def test_between_an_embedding_and_a_gather(name, graph, rng, assert_near):
    """The embedding takes slices; of the outputs a few steps are read, one of them twice."""
    import tensorflow as tf

    table = tf.Variable(rng.normal(size=(13, 7)).astype("float32"))
    ids = tf.constant(rng.integers(0, 13, (5, 11)))
    ours, theirs = (
        (LSTM(3, return_sequences=True), keras.layers.LSTM(3, return_sequences=True))
        if name == "LSTM"
        else (MultiHeadAttention(2, 3), keras.layers.MultiHeadAttention(2, 3))
    )
    inputs = 1 if name == "LSTM" else 2
    found = []
    for layer in (ours, theirs):
        layer(*[tf.gather(table, ids)] * inputs)
        layer.set_weights(ours.get_weights())

        def gradients(layer=layer):
            with tf.GradientTape() as tape:
                x = tf.gather(table, ids)
                outputs = layer(*[x] * inputs, training=True)
                steps = tf.gather(tf.reshape(outputs, (55, -1)), [4, 9, 9, 53])
                loss = tf.reduce_sum(tf.sin(steps))
            return tape.gradient(loss, [table, *layer.trainable_variables])

        of_table, *of_weights = (tf.function(gradients) if graph else gradients)()
        assert isinstance(of_table, tf.IndexedSlices)
        found.append(
            [np.asarray(values) for values in (tf.convert_to_tensor(of_table), *of_weights)]
        )
    assert_near(*found)
