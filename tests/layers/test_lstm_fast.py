"""The LSTM's fast ways are the portable one: in values, in gradients, for whatever comes."""

import itertools

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.layers import LSTM, lstm_fast

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 11, 7, 3

tensorflow_alone = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the loop of our own is TensorFlow's"
)


def test_the_fast_way_is_taken_where_there_is_one(monkeypatch, rng):
    """Else a comparison of the fast way with the portable one would compare nothing."""
    taken = []
    run = lstm_fast.run
    monkeypatch.setattr(lstm_fast, "run", lambda *a, **kw: taken.append(1) or run(*a, **kw))
    x = rng.normal(size=(B, T, D)).astype("float32")
    plain = [LSTM(U), LSTM(U, use_cudnn=False), LSTM(U, dropout=0.5)]
    others = [
        LSTM(U, peephole=True, layer_norm=True),
        LSTM(U, activation="relu"),
        LSTM(U, unroll=True),
    ]
    for layer in (*plain, *others):
        layer(x, training=True)
    on_gpu = "cpu" not in str(getattr(layer.cell.kernel.value, "device", "cpu")).lower()
    expected = {"tensorflow": 0 if on_gpu else 3, "torch": 2 if on_gpu else 3}
    assert len(taken) == expected.get(keras.backend.backend(), 2 if on_gpu else 0)


@settings(max_examples=14, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_fast_way_is_the_portable_one(data, gradients, assert_near, randomize):
    """Values and gradients, for any shape, mask and state; a step more or less than a turn.

    75 steps are a spell of the gradient, a turn more, and three steps more.
    """
    rows = data.draw(st.sampled_from([1, 2, 5, 18]), "rows")
    steps = data.draw(st.sampled_from([1, 7, 8, 9, 17, 75]), "steps")
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    kind = data.draw(st.sampled_from(["none", "right", "holes", "empty"]), "mask")
    masks = {
        "none": None,
        "right": np.arange(steps) < rng.integers(0, steps + 1, (rows, 1)),
        "holes": rng.random((rows, steps)) < 0.5,
        "empty": np.zeros((rows, steps), bool),
    }
    mask = masks[kind]
    training = data.draw(st.booleans(), "training")
    arguments = {
        name: data.draw(st.booleans(), name)
        for name in ("return_sequences", "return_state", "go_backwards", "zero_output_for_mask")
    }
    x = rng.normal(size=(rows, steps, D)).astype("float32")
    states = rng.normal(size=(2, rows, U)).astype("float32")
    fast = LSTM(U, **arguments)
    slow = keras.layers.LSTM(U, use_cudnn=False, **arguments)
    if arguments["zero_output_for_mask"]:  # Keras's own loop zeroes other steps
        slow = LSTM(U, unroll=True, use_cudnn=False, **arguments)
    for layer in (fast, slow):
        layer.build(x.shape)
        randomize(layer)

    def call(layer):
        return lambda x, h, c: layer(x, initial_state=[h, c], mask=mask, training=training)

    inputs = [x, *states]
    assert_near(gradients(fast, call(fast), inputs), gradients(slow, call(slow), inputs))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="JAX's way to cuDNN")
@pytest.mark.parametrize("kind", ["none", "right", "left", "holes", "empty-row"])
def test_jax_gives_cudnn_the_real_steps(kind, monkeypatch, gradients, assert_near, make_mask, rng):
    """JAX's reference stands in for cuDNN, which no CPU has."""
    import jax
    from jax.experimental import rnn

    def cudnn(x, h, c, packed, lengths, *, num_layers, **options):
        sizes = options["input_size"], options["hidden_size"], num_layers, False
        weights = rnn.unpack_lstm_weights(packed, *sizes)
        return rnn.lstm_ref(x, h, c, *weights, lengths, num_layers=num_layers, **options)

    layer = LSTM(U, return_sequences=True, return_state=True)
    layer.build((None, None, D))
    inputs = [rng.normal(size=(B, T, D)), *rng.normal(size=(2, B, U))]
    inputs = [x.astype("float32") for x in inputs]
    mask = make_mask(kind, B, T)

    def call(x, h, c):
        return layer(x, initial_state=[h, c], mask=mask)

    expected = gradients(layer, call, inputs)
    monkeypatch.setattr(rnn, "lstm", cudnn)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_near(gradients(layer, call, inputs), expected)


@pytest.fixture
def pair(randomize):
    """Our layer, and one of Keras's with its weights."""

    def make(**arguments):
        layers = [cls(U, use_cudnn=False, **arguments) for cls in (LSTM, keras.layers.LSTM)]
        for layer in layers:
            layer.build((None, None, D))
            randomize(layer)
        return layers

    return make


@tensorflow_alone
@pytest.mark.parametrize("masked", [False, True])
def test_one_graph_takes_any_batch_and_length(masked, pair, rng, numpy):
    import tensorflow as tf

    ours, theirs = pair(return_sequences=True, return_state=True)
    signature = [tf.TensorSpec([None, None, D]), tf.TensorSpec([None, None], tf.bool)]
    graph = tf.function(lambda x, mask: ours(x, mask=mask if masked else None), signature)
    few = lstm_fast.BLOCK_ROWS
    for rows, steps in itertools.product((0, 1, 2, few, few + 1), (0, 1, 8, 9)):
        x = rng.normal(size=(rows, steps, D)).astype("float32")
        mask = np.arange(steps) < rng.integers(0, steps + 1, (rows, 1))
        found = [numpy(value) for value in graph(x, mask)]
        assert found[0].shape == (rows, steps, U)
        if rows and steps:
            expected = theirs(x, mask=mask if masked else None)
            for value, its_own in zip(found, expected, strict=True):
                np.testing.assert_allclose(value, numpy(its_own), atol=1e-6)


@tensorflow_alone
@pytest.mark.parametrize("rows", [2, lstm_fast.BLOCK_ROWS + 1])
def test_a_graph_made_to_answer_has_the_gradient_too(rows, pair, rng, assert_near):
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(rows, 9, D)).astype("float32"))
    found = []
    for layer in pair(return_sequences=True):
        signature = [tf.TensorSpec([None, None, D])]
        graph = tf.function(lambda x, layer=layer: layer(x, training=False), signature)
        graph(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(graph(x) ** 2)
        found.append(tape.gradient(loss, x))
    assert_near(*found)


@tensorflow_alone
@pytest.mark.parametrize("masked", [False, True])
def test_bfloat16_is_near_float32(masked, gradients, randomize, rng):
    rows, steps = 18, 17
    x = rng.normal(size=(rows, steps, D)).astype("float32")
    mask = np.arange(steps) < rng.integers(0, steps + 1, (rows, 1)) if masked else None
    results = []
    for policy in ("float32", "mixed_bfloat16"):
        layer = LSTM(U, return_sequences=True, dtype=policy)
        layer.build(x.shape)
        randomize(layer)
        results.append(gradients(layer, lambda x, layer=layer: layer(x, mask=mask), [x]))
    for exact, near in zip(*map(keras.tree.flatten, results), strict=True):
        exact, near = (np.asarray(keras.ops.cast(v, "float32")) for v in (exact, near))
        np.testing.assert_allclose(near, exact, atol=0.02 * np.abs(exact).max() + 1e-6)


@tensorflow_alone
@pytest.mark.parametrize("training", [False, True])
def test_lengths_that_keep_changing_make_one_graph(training, rng):
    units = 13 if training else 17  # of no other test: graphs are kept by their sizes
    layer = LSTM(units, return_sequences=True)
    made = lstm_fast._eager_loop.cache_info().currsize
    for rows in range(1, 6):
        for steps in range(1, 9):
            layer(rng.normal(size=(rows, steps, D)).astype("float32"), training=training)
    assert lstm_fast._eager_loop.cache_info().currsize == made + 1


@tensorflow_alone
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("steps", [7, 16])
def test_what_is_no_number_behind_a_rows_end_reaches_nothing(steps, training, rng, randomize):
    """As Keras's own layer lets it: there, one such step spoils the gradient of every weight."""
    import tensorflow as tf

    mask = np.arange(steps) < np.array([[steps], [3], [0], [steps - 2]])
    x = rng.normal(size=(4, steps, D)).astype("float32")
    layer = LSTM(U, return_sequences=True)
    layer.build(x.shape)
    randomize(layer)
    found = []
    for padding in (0.0, np.nan):
        padded = tf.constant(np.where(mask[:, :, None], x, np.float32(padding)))
        with tf.GradientTape() as tape:
            tape.watch(padded)
            output = layer(padded, mask=mask, training=training)
            loss = tf.reduce_sum(output**2)
        weights = [weight.value for weight in layer.trainable_weights]
        found.append([output, *tape.gradient(loss, [padded, *weights])])
    for clean, spoilt in zip(*found, strict=True):
        np.testing.assert_array_equal(clean, spoilt)
