"""GELU while training is GELU: in values, in gradients, for any shape, and in training alone."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from zoo.layers import TransformerBlock, gelu_fast
from zoo.layers.gelu_fast import gelu

if keras.backend.backend() != "tensorflow":
    pytest.skip("the compiled way is TensorFlow's", allow_module_level=True)

import tensorflow as tf


def reference(x):
    """Values and slopes in float64."""
    below = 0.5 * (1.0 + np.vectorize(math.erf, otypes=["float64"])(x / np.sqrt(2.0)))
    return x * below, below + x * np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)


@pytest.mark.parametrize(
    ("dtype", "error"), [("float32", 1e-6), ("float16", 1e-3), ("bfloat16", 8e-3)]
)
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (5, 11, 7)])
def test_values_and_slopes_are_those_of_the_equation(dtype, error, shape, rng):
    x = tf.cast(rng.normal(size=shape) * 3, dtype)
    upstream = tf.cast(rng.normal(size=shape), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = gelu(x, True)
    slope = tape.gradient(y, x, output_gradients=upstream)
    assert y.dtype == slope.dtype == x.dtype
    value, expected = reference(tf.cast(x, tf.float64).numpy())
    for found, wanted in ((y, value), (slope, expected * tf.cast(upstream, tf.float64).numpy())):
        np.testing.assert_allclose(tf.cast(found, tf.float64), wanted, rtol=error, atol=error)


def test_a_graph_that_knows_no_size_gives_the_same(rng):
    @tf.function(input_signature=[tf.TensorSpec([None, None, 7])])
    def run(x):
        y = gelu(x, True)
        assert y.shape.as_list() == [None, None, 7]
        return y, tf.gradients(y, x)[0]

    for rows in (0, 1, 600):
        x = tf.constant(rng.normal(size=(rows, 3, 7)), tf.float32)
        for found, wanted in zip(run(x), reference(x.numpy().astype("float64")), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_few_sizes_are_compiled():
    """Batches of other lengths would else be compiled without end."""
    counts = np.arange(2**19, dtype="int32")
    sizes = counts + gelu_fast._missing(tf.constant(counts)).numpy()
    assert len(set(sizes.tolist())) <= 28
    assert (sizes >= counts).all()
    assert (sizes <= 1.25 * counts + 2**gelu_fast.LEAST).all()


def test_its_far_ends_are_zero_and_itself():
    x = tf.constant([-1e30, -40.0, 40.0, 1e30])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = gelu(x, True)
    size = np.abs(x)
    np.testing.assert_allclose(y / size, [0.0, 0.0, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(tape.gradient(y, x), [0.0, 0.0, 1.0, 1.0], atol=1e-6)


def test_it_has_a_second_derivative():
    x = tf.constant([0.5])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = gelu(x, True)
        slope = inner.gradient(y, x)
    density = np.exp(-0.125) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(outer.gradient(slope, x), [density * (2 - 0.25)], rtol=1e-5)


def test_a_block_compiles_it_in_training_alone(rng):
    block = TransformerBlock(2, 3, 11, activation="gelu")
    x = ops.convert_to_tensor(rng.normal(size=(2, 5, 7)).astype("float32"))
    block.build(x.shape)

    def compiled(training):
        function = tf.function(lambda x: block(x, training=training))
        graph = function.get_concrete_function(x).graph.as_graph_def()
        return sum(f.attr["_XlaMustCompile"].b for f in graph.library.function)

    assert compiled(True)
    assert not compiled(False)
    assert not compiled(None)


def test_one_trace_serves_any_length(rng):
    forward, _ = gelu_fast._compiled()
    before = forward.experimental_get_tracing_count()
    for length in range(30, 40):
        gelu(tf.zeros((2, length, 3)), True)
    assert forward.experimental_get_tracing_count() - before <= 2
