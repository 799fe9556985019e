"""Positions at their edges; their equations: `test_against_numpy.py`."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import LearnedPositions, SinusoidalPositions

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D = 5, 11, 7
BACKEND = keras.backend.backend()


def test_sinusoids_of_any_length_have_no_weights(numpy):
    layer = SinusoidalPositions()
    long = numpy(layer(np.zeros((1, 1_009, D), "float32")))
    short = numpy(layer(np.zeros((1, T, D), "float32")))
    np.testing.assert_array_equal(long[:, :T], short)
    assert layer.weights == []
    assert np.abs(long).max() <= 1.0


def test_a_shorter_wave_turns_sooner(numpy):
    zeros = np.zeros((1, T, 2 * 13), "float32")
    slow, fast = (numpy(SinusoidalPositions(w)(zeros)) for w in (10_000.0, 10.0))
    assert np.abs(fast[0, -1] - fast[0, 0]).max() > np.abs(slow[0, -1, -2:] - slow[0, 0, -2:]).max()
    np.testing.assert_allclose(fast[..., :2], slow[..., :2], atol=1e-6)


def _exact_waves(steps, size):
    angles = np.arange(steps)[:, None] / 10_000.0 ** (2 * (np.arange(size) // 2) / size)
    return np.where(np.arange(size) % 2, np.cos(angles), np.sin(angles))


def test_far_steps_are_as_exact_as_near_ones(numpy):
    steps = 16_411
    waves = numpy(SinusoidalPositions()(np.zeros((1, steps, D), "float32")))[0]
    np.testing.assert_allclose(waves, _exact_waves(steps, D), atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="lengths are always known elsewhere")
@pytest.mark.parametrize("jit", [False, True])
def test_far_steps_are_exact_where_the_graph_alone_knows_the_length(jit):
    import tensorflow as tf

    signature = [tf.TensorSpec((None, None, D))]
    graph = tf.function(SinusoidalPositions(), signature, jit_compile=jit)
    waves = graph(tf.zeros((1, 16_411, D)))[0]
    np.testing.assert_allclose(waves, _exact_waves(16_411, D), atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="lengths are always known elsewhere")
def test_one_learned_position_is_not_that_of_every_step():
    import tensorflow as tf

    layer = LearnedPositions(1)
    layer.build((None, None, D))
    graph = tf.function(layer, [tf.TensorSpec((None, None, D))])
    assert graph(tf.zeros((B, 1, D))).shape == (B, 1, D)
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph(tf.zeros((B, 4, D)))


def test_learned_positions_begin_at_a_place_that_they_have():
    layer, step = LearnedPositions(T), np.zeros((1, 2, D), "float32")
    assert layer(step, first=T - 2).shape == (1, 2, D)
    with pytest.raises(ValueError, match=f"{T + 1} steps is longer than max_length={T}"):
        layer(step, first=T - 1)
    with pytest.raises(ValueError, match="first=-1 is no place"):
        layer(step, first=-1)


@pytest.mark.parametrize("make", [SinusoidalPositions, lambda: LearnedPositions(T)])
def test_inputs_without_an_axis_of_steps_are_refused(make):
    with pytest.raises(ValueError, match="ndim=3"):
        make()(np.zeros((B, 3, T, D), "float32"))


def test_learned_positions_refuse_more_than_they_learnt():
    layer = LearnedPositions(T - 1)
    with pytest.raises(ValueError, match=f"{T} steps is longer than max_length={T - 1}"):
        layer(np.zeros((B, T, D), "float32"))
    with pytest.raises(ValueError, match="max_length"):
        layer(keras.Input((T, D)))
    # Where the graph alone knows the length, it fails when it runs.
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, layer(inputs))
    assert model(np.zeros((B, T - 1, D), "float32")).shape == (B, T - 1, D)
    with pytest.raises(ValueError, match="max_length"):
        model(np.zeros((B, T, D), "float32"))


def test_learned_positions_learn_only_where_there_were_steps(gradients, rng):
    layer = LearnedPositions(T)
    layer.build((B, T, D))
    _, _, (gradient,) = gradients(layer, layer, [rng.normal(size=(B, 3, D)).astype("float32")])
    assert (np.abs(gradient[:3]) > 0).all()
    assert (gradient[3:] == 0).all()


@pytest.mark.parametrize("layer", [SinusoidalPositions(), LearnedPositions(T)])
def test_positions_keep_the_mask(layer, numpy):
    ids = np.array([[3, 1, 0], [2, 0, 0]])
    placed = layer(stock.Embedding(5, D, mask_zero=True)(ids))
    means = numpy(stock.GlobalAveragePooling1D()(placed))
    np.testing.assert_allclose(means[1], numpy(placed)[1, 0], atol=1e-6)


@pytest.mark.parametrize("make", [SinusoidalPositions, lambda: LearnedPositions(T)])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_steps_may_begin_anywhere(make, as_tensor, rng, numpy, assert_near):
    layer, x = make(), rng.normal(size=(B, T, D)).astype("float32")
    whole, first = layer(x), 4
    first = keras.ops.convert_to_tensor(first, "int32") if as_tensor else first
    known = {"limit": T} if isinstance(layer, SinusoidalPositions) else {}
    assert_near(layer(x[:, 4:7], first=first, **known), numpy(whole)[:, 4:7])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="lengths are always known elsewhere")
@pytest.mark.parametrize("make", [SinusoidalPositions, lambda: LearnedPositions(T)])
def test_steps_may_begin_where_the_graph_alone_knows(make, rng, assert_near):
    import tensorflow as tf

    layer, x = make(), rng.normal(size=(B, T, D)).astype("float32")
    whole = layer(x)
    signature = [tf.TensorSpec((None, None, D)), tf.TensorSpec((), tf.int32)]
    graph = tf.function(lambda x, first: layer(x, first=first), signature)
    assert_near(graph(x[:, 4:7], 4), whole[:, 4:7])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SinusoidalPositions(1.0), "`max_wavelength` must be above 1, not 1.0"),
        (lambda: SinusoidalPositions(float("nan")), "`max_wavelength` must be above 1, not nan"),
        (lambda: SinusoidalPositions(float("inf")), "`max_wavelength` must be above 1, not inf"),
        (lambda: SinusoidalPositions("10"), "`max_wavelength` must be above 1, not '10'"),
        (lambda: SinusoidalPositions(input_scale=0), "`input_scale` must be above 0, not 0"),
        (lambda: LearnedPositions(0), "`max_length` must be a positive integer, not 0"),
        (lambda: LearnedPositions(2.5), "`max_length` must be a positive integer, not 2.5"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
