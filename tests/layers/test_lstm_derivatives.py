"""Derivatives of the fast LSTM beyond the first: of any order, and in either mode."""

import keras
import numpy as np
import pytest

from zoo.layers import LSTM

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 11, 7, 3

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the loop of our own is TensorFlow's"
)


def pair(same_weights, **arguments):
    """Our layer, and one of Keras's with its weights."""
    layers = (cls(U, use_cudnn=False, **arguments) for cls in (LSTM, keras.layers.LSTM))
    return same_weights(*layers, (B, T, D))


@pytest.fixture
def x_and_tangent(rng):
    import tensorflow as tf

    return [tf.constant(rng.normal(size=(B, T, D)).astype("float32")) for _ in range(2)]


@pytest.mark.parametrize(
    ("sequences", "masked", "graph", "within", "training"),
    [
        (False, True, False, False, True),
        (True, True, False, True, True),
        (True, False, True, False, False),
    ],
    ids=["last-masked", "masked-graph-within", "whole-graph"],
)
def test_the_gradient_has_a_gradient(
    sequences, masked, graph, within, training, same_weights, rng, assert_near
):
    """That of a penalty on the slopes, as some train with."""
    import tensorflow as tf

    mask = tf.constant(np.arange(T) < np.array([[T], [3], [0], [T - 2], [1]])) if masked else None
    inputs = [rng.normal(size=size).astype("float32") for size in ((B, T, D), (B, U), (B, U))]
    inputs = [tf.constant(array) for array in inputs]
    found = []
    for layer in pair(same_weights, return_sequences=sequences):

        def run(*inputs, layer=layer):
            return layer(inputs[0], initial_state=inputs[1:], mask=mask, training=training)

        made = tf.function(run) if within else run

        def penalty(*inputs, layer=layer, run=made):
            with tf.GradientTape() as outer:
                outer.watch(inputs)
                with tf.GradientTape() as inner:
                    inner.watch(inputs)
                    loss = tf.reduce_sum(tf.sin(run(*inputs)))
                slopes = inner.gradient(loss, inputs)
                square = sum(tf.reduce_sum(slope**2) for slope in slopes)
            return [*slopes, *outer.gradient(square, [*inputs, *layer.trainable_variables])]

        found.append((tf.function(penalty) if graph else penalty)(*inputs))
    assert_near(*found)


def test_a_penalty_on_slopes_within_a_loop_of_a_graph(same_weights, x_and_tangent, assert_near):
    import tensorflow as tf

    found = []
    for layer in pair(same_weights):

        @tf.function
        def penalty(x, layer=layer):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(x)
                    loss = tf.constant(0.0)
                    for i in tf.range(2):
                        output = layer(x * tf.cast(i + 1, "float32"), training=True)
                        loss += tf.reduce_sum(tf.sin(output))
                square = tf.reduce_sum(inner.gradient(loss, x) ** 2)
            return outer.gradient(square, x)

        found.append(penalty(x_and_tangent[0]))
    assert_near(*found)


def test_a_third_derivative(same_weights, x_and_tangent, assert_near):
    import tensorflow as tf

    x, _ = x_and_tangent

    def slope(function):
        def derivative(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                value = tf.reduce_sum(function(x) ** 2)
            return tape.gradient(value, x)

        return derivative

    found = [slope(slope(slope(layer)))(x) for layer in pair(same_weights)]
    assert_near(*found)


@pytest.mark.parametrize("within", [False, True], ids=["eager", "graph-within"])
@pytest.mark.parametrize("training", [False, True])
def test_forward_mode(training, within, same_weights, x_and_tangent, assert_near):
    import tensorflow as tf

    x, tangent = x_and_tangent
    found = []
    for layer in pair(same_weights):

        def run(x, layer=layer):
            return layer(x, training=training)

        # Keras's has no forward mode in a graph.
        made = tf.function(run) if within and isinstance(layer, LSTM) else run
        with tf.autodiff.ForwardAccumulator(x, tangent) as forward:
            with tf.GradientTape() as tape:
                tape.watch(x)
                output = made(x)
                loss = tf.reduce_sum(tf.sin(output))
            slopes = tape.gradient(loss, x)
        found.append([forward.jvp(output), forward.jvp(slopes)])
    assert_near(*found)


def test_forward_mode_in_a_graph_is_refused(x_and_tangent):
    """TensorFlow would take the derivative to be zero."""
    import tensorflow as tf

    layer = LSTM(U)

    @tf.function(autograph=False)
    def run(x, tangent):
        with tf.autodiff.ForwardAccumulator(x, tangent) as forward:
            output = layer(x)
        return forward.jvp(output)

    with pytest.raises(LookupError, match=r"put a tf\.function around the LSTM's call"):
        run(*x_and_tangent)
