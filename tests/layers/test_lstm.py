"""The LSTM against its equations, against Keras's and against PyTorch's."""

import inspect

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as stock

from zoo.layers import LSTM, LSTMCell, LSTMState, lstm_step

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 7, 3, 2
BACKEND = keras.backend.backend()


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def oracle(x, weights, mask=None, state=None):
    """The equations, step by step and gate by gate, in float64.

    Returns the hidden state of each step `[B, T, U]`, and the last hidden and cell state.
    """
    kernel, recurrent, bias = (np.asarray(w, "float64") for w in weights)
    units = recurrent.shape[0]
    hidden, cell = state or (np.zeros((len(x), units)), np.zeros((len(x), units)))
    hiddens = []
    for t in range(x.shape[1]):
        joined = np.concatenate([hidden, x[:, t]], axis=1)  # [B, U + D]
        packed = np.concatenate([recurrent, kernel])  # [U + D, 4U]
        gate = {
            name: joined @ packed[:, n * units : (n + 1) * units]
            + bias[n * units : (n + 1) * units]
            for n, name in enumerate("ifco")
        }
        new_cell = sigmoid(gate["f"]) * cell + sigmoid(gate["i"]) * np.tanh(gate["c"])
        new_hidden = sigmoid(gate["o"]) * np.tanh(new_cell)
        real = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        hidden, cell = np.where(real, new_hidden, hidden), np.where(real, new_cell, cell)
        hiddens.append(hidden)
    return np.stack(hiddens, axis=1), hidden, cell


MASKS = ("none", "right", "left", "holes", "empty-row", "one-step")


def make_pair(same_weights, **arguments):
    """Ours and Keras's layer, with the same weights.

    Keras's without cuDNN, through which Keras 3.15 has other outputs under JAX.
    """
    theirs = stock.LSTM(U, **{**arguments, "use_cudnn": False})
    return same_weights(LSTM(U, **arguments), theirs, (B, T, D))


# ---- The equations


def test_the_step_is_the_equations(rng, numpy):
    gates, cell = rng.normal(size=(B, 4 * U)), rng.normal(size=(B, U))
    state = lstm_step(*(keras.ops.convert_to_tensor(a, "float32") for a in (gates, cell)))
    i, f, c, o = np.split(gates, 4, axis=1)
    expected = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
    assert isinstance(state, LSTMState)
    np.testing.assert_allclose(numpy(state.cell), expected, atol=1e-5)
    np.testing.assert_allclose(numpy(state.hidden), sigmoid(o) * np.tanh(expected), atol=1e-5)


@pytest.mark.parametrize("kind", MASKS)
def test_the_layer_is_the_equations(kind, rng, randomize, assert_near, make_mask):
    layer = LSTM(U, return_sequences=True, return_state=True)
    layer.build((B, T, D))
    randomize(layer)
    x, mask = rng.normal(size=(B, T, D)), make_mask(kind)
    outputs = layer(x.astype("float32"), mask=mask)
    expected = oracle(x, layer.get_weights(), mask)
    hidden = outputs[0]
    if mask is not None:
        # Where a row has not begun, Keras's loop has zeros and so has the oracle.
        hidden = np.asarray(keras.ops.convert_to_numpy(hidden))
    assert_near([hidden, *outputs[1:]], list(expected))


@settings(derandomize=True, max_examples=4 if BACKEND == "jax" else 12, deadline=None)
@given(
    rows=st.integers(1, 4),
    steps=st.integers(1, 6),
    features=st.integers(1, 4),
    units=st.integers(1, 4),
    data=st.data(),
)
def test_the_layer_is_the_equations_for_any_sizes(rows, steps, features, units, data):
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    layer = LSTM(units, return_sequences=True, return_state=True)
    layer.build((rows, steps, features))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    x, mask = rng.normal(size=(rows, steps, features)), rng.random((rows, steps)) < 0.7
    state = [rng.normal(size=(rows, units)) for _ in range(2)]
    given_state = [s.astype("float32") for s in state]
    outputs = layer(x.astype("float32"), initial_state=given_state, mask=mask)
    expected = list(oracle(x, layer.get_weights(), mask, state))
    found = [np.asarray(keras.ops.convert_to_numpy(output)) for output in outputs]
    # Where nothing real has come, Keras's loops differ: TensorFlow's puts out zeros, JAX's the
    # state given.
    begun = np.cumsum(mask, axis=1)[..., None] > 0
    found[0], expected[0] = found[0] * begun, expected[0] * begun
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


# ---- In the place of Keras's


@pytest.mark.parametrize(("ours", "theirs"), [(LSTM, stock.LSTM), (LSTMCell, stock.LSTMCell)])
@pytest.mark.parametrize("method", ["__init__", "call", "build", "get_initial_state"])
def test_signatures_are_keras_own(ours, theirs, method):
    mine, other = (inspect.signature(getattr(c, method)).parameters for c in (ours, theirs))
    known = [(n, p.default, p.kind) for n, p in other.items()]
    # Options of ours are by name alone.
    ours_alone = [n for n, p in mine.items() if p.kind is p.KEYWORD_ONLY]
    assert [(n, p.default, p.kind) for n, p in mine.items() if n not in ours_alone] == known


@pytest.mark.parametrize("name", ["LSTM", "LSTMCell"])
def test_attributes_are_keras_own(name):
    ours = {"LSTM": LSTM, "LSTMCell": LSTMCell}[name](U)
    theirs = getattr(stock, name)(U)
    missing = [n for n in vars(type(theirs)) if not n.startswith("_") and not hasattr(ours, n)]
    assert missing == []
    mine, other = ours.get_config(), theirs.get_config()
    assert set(other) <= set(mine)
    assert {k: v for k, v in mine.items() if k in other and k != "name"} == {
        k: v for k, v in other.items() if k != "name"
    }


@pytest.mark.parametrize("use_bias", [True, False])
def test_weights_are_keras_own(use_bias):
    ours, theirs = LSTM(U, use_bias=use_bias), stock.LSTM(U, use_bias=use_bias)
    for layer in (ours, theirs):
        layer.build((B, T, D))
    describe = [
        [(w.path.split("/", 1)[1], w.shape, w.dtype, w.trainable) for w in layer.weights]
        for layer in (ours, theirs)
    ]
    assert describe[0] == describe[1]


def test_a_seed_gives_the_weights_that_it_gives_keras(assert_near):
    initializers = {
        "kernel_initializer": keras.initializers.GlorotUniform(seed=3),
        "recurrent_initializer": keras.initializers.Orthogonal(seed=4),
        "bias_initializer": keras.initializers.RandomNormal(seed=5),
    }
    ours, theirs = LSTM(U, **initializers), stock.LSTM(U, **initializers)
    for layer in (ours, theirs):
        layer.build((B, T, D))
    assert_near(ours.get_weights(), theirs.get_weights(), 0.0)


CONFIGURATIONS = {
    "last": {},
    "sequences": {"return_sequences": True},
    "state": {"return_state": True},
    "all": {"return_sequences": True, "return_state": True},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "unrolled": {"return_sequences": True, "unroll": True},
    "no-bias": {"return_sequences": True, "use_bias": False},
    "no-forget-bias": {"return_sequences": True, "unit_forget_bias": False},
    "activations": {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    "linear": {"activation": None, "recurrent_activation": "softsign"},
    "zeros": {"return_sequences": True, "zero_output_for_mask": True},
    "no-cudnn": {"return_sequences": True, "use_cudnn": False},
    "gate-by-gate": {"return_sequences": True, "implementation": 1},
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("name", ["all", "backwards", "zeros"])
def test_masks_do_what_they_do_in_keras(
    kind, name, rng, gradients, assert_near, make_mask, same_weights
):
    ours, theirs = make_pair(same_weights, **CONFIGURATIONS[name])
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask(kind)
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


@pytest.mark.parametrize("name", ["all", "backwards", "unrolled"])
def test_a_mask_may_have_an_axis_more_or_one_row_for_all(name, rng, assert_near, same_weights):
    """Keras's loop takes both under TensorFlow."""
    ours, theirs = make_pair(same_weights, **CONFIGURATIONS[name])
    x, row = rng.normal(size=(B, T, D)).astype("float32"), np.arange(T) < 4
    mask = np.broadcast_to(row, (B, T))
    expected = theirs(x, mask=mask)
    for other in (mask[:, :, None], row[None]):
        assert_near(ours(x, mask=other), expected)
        if BACKEND == "tensorflow":
            assert_near(theirs(x, mask=other), expected)
    gates = LSTM(U, return_gates=True)
    assert_near(*(gates(x, mask=m)[1] for m in (mask[:, :, None], mask)))


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_every_configuration_does_what_it_does_in_keras(
    name, rng, gradients, assert_near, make_mask, same_weights
):
    ours, theirs = make_pair(same_weights, **CONFIGURATIONS[name])
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask("right")
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


def test_an_initial_state_does_what_it_does_in_keras(rng, gradients, assert_near, same_weights):
    ours, theirs = make_pair(same_weights, return_sequences=True, return_state=True)
    arrays = [rng.normal(size=s).astype("float32") for s in ((B, T, D), (B, U), (B, U))]
    mine = gradients(ours, lambda x, h, c: ours(x, initial_state=[h, c]), arrays)
    assert_near(mine, gradients(theirs, lambda x, h, c: theirs(x, initial_state=[h, c]), arrays))


def test_beside_an_initial_state_a_mask_counts_that_is_passed(rng, assert_near, same_weights):
    """One that Keras would hand on by itself does not, as in Keras."""
    ours, theirs = make_pair(same_weights)
    x = rng.normal(size=(B, T, D)).astype("float32")
    x[:, 3:] = 0
    state = [rng.normal(size=(B, U)).astype("float32") for _ in range(2)]
    masked = keras.layers.Masking()(x)
    for options in ({}, {"mask": np.arange(T) < np.full((B, 1), 3)}):
        mine, other = (f(masked, initial_state=state, **options) for f in (ours, theirs))
        assert_near(mine, other)
    assert_near(ours(masked), theirs(masked))


def test_a_cell_of_ones_own_is_asked_for_its_steps(rng, assert_near):
    class Twice(LSTMCell):
        def call(self, inputs, states, training=False):
            output, states = super().call(inputs, states, training)
            return output * 2, states

    x = rng.normal(size=(B, T, D)).astype("float32")
    layer, cell = LSTM(U), Twice(U)
    layer.cell = cell
    assert_near(layer(x), keras.layers.RNN(cell)(x))


def test_a_symbolic_initial_state(rng, assert_near, same_weights):
    ours, theirs = make_pair(same_weights)
    x = rng.normal(size=(B, T, D)).astype("float32")
    states = [rng.normal(size=(B, U)).astype("float32") for _ in range(2)]
    models = []
    for layer in (ours, theirs):
        inputs = [keras.Input((None, D)), keras.Input((U,)), keras.Input((U,))]
        models.append(keras.Model(inputs, layer(inputs[0], initial_state=inputs[1:])))
    assert_near(models[0]([x, *states]), models[1]([x, *states]))


def test_a_stateful_layer_goes_on_until_it_is_reset(rng, assert_near, same_weights):
    ours, theirs = make_pair(same_weights, stateful=True, return_sequences=True)
    x = rng.normal(size=(B, T, D)).astype("float32")
    first, second = ours(x), ours(x)
    assert_near([first, second], [theirs(x), theirs(x)])
    assert np.abs(keras.ops.convert_to_numpy(first - second)).max() > 1e-3
    # Half and half is as good as whole.
    ours.reset_state()
    halves = keras.ops.concatenate([ours(x[:, :3]), ours(x[:, 3:])], axis=1)
    assert_near(halves, first)
    ours.reset_states()
    assert_near(ours(x), first)
    with pytest.raises(ValueError, match="batch size"):
        ours(x[:2])
    with pytest.raises(ValueError, match="batch size"):
        LSTM(U, stateful=True)(keras.Input((None, D)))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="lengths are always known elsewhere")
def test_unroll_needs_a_known_length():
    import tensorflow as tf

    layer = LSTM(U, unroll=True)
    layer.build((B, T, D))
    with pytest.raises(ValueError, match="unroll"):
        tf.function(layer).get_concrete_function(tf.TensorSpec((None, None, D)))


def test_length_zero_is_refused_or_answered_as_in_keras(rng):
    x = np.zeros((B, 0, D), "float32")

    def outcome(layer):
        try:
            return keras.ops.convert_to_numpy(layer(x))
        except Exception as error:
            return type(error)

    ours, theirs = outcome(LSTM(U)), outcome(stock.LSTM(U))
    assert np.array_equal(ours, theirs) if isinstance(theirs, np.ndarray) else ours is theirs


# ---- PyTorch


@pytest.mark.parametrize("directions", [1, 2])
def test_pytorch_agrees(directions, rng, assert_near):
    torch = pytest.importorskip("torch")
    peer = torch.nn.LSTM(D, U, batch_first=True, bidirectional=directions == 2)
    layer = LSTM(U, return_sequences=True)
    layer = stock.Bidirectional(layer) if directions == 2 else layer
    layer.build((B, T, D))
    weights = []
    for end in ("", "_reverse")[:directions]:
        kernel, recurrent, first, second = (
            getattr(peer, f"{name}_l0{end}").detach().cpu().numpy()
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        # PyTorch has the same order of gates, transposed matrices and two biases.
        weights += [kernel.T, recurrent.T, first + second]
    layer.set_weights(weights)
    x = rng.normal(size=(B, T, D)).astype("float32")
    with torch.no_grad():
        expected = peer(torch.tensor(x))[0].numpy()
    assert_near(layer(x), expected)
