"""What our LSTM has and Keras's has not, held against the equations in NumPy."""

import keras
import numpy as np
import pytest

from zoo.layers import LSTM, LSTMCell

B, T, D, U, P = 5, 11, 7, 3, 2
KINDS = {
    "plain": {},
    "layer-norm": {"layer_norm": True},
    "projection": {"projection_units": P},
    "peephole": {"peephole": True},
    "all": {"layer_norm": True, "projection_units": P, "peephole": True, "use_bias": False},
}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def oracle(layer, x, mask=None, state=None):
    """Outputs, states and gates of every step, by the equations."""
    w = {v.path.split("/")[-1]: np.asarray(v, "float64") for v in layer.weights}
    hidden_size = layer.projection_units or U
    h, c = state or (np.zeros((len(x), hidden_size)), np.zeros((len(x), U)))
    outputs, gates, shown = [], [], np.zeros_like(h)
    for t in range(x.shape[1]):
        of_x, of_h = x[:, t] @ w["kernel"], h @ w["recurrent_kernel"]
        if layer.layer_norm:
            of_x, of_h = norm(of_x) * w["input_norm_gain"], norm(of_h) * w["recurrent_norm_gain"]
        i, f, g, o = np.split(of_x + of_h + w.get("bias", 0.0), 4, axis=-1)
        p = w.get("peephole_kernel", np.zeros((3, U)))
        i, f, g = sigmoid(i + p[0] * c), sigmoid(f + p[1] * c), np.tanh(g)
        c_new = f * c + i * g
        o = sigmoid(o + p[2] * c_new)
        seen = c_new
        if layer.layer_norm:
            seen = norm(c_new) * w["cell_norm_gain"] + w["cell_norm_offset"]
        h_new = o * np.tanh(seen)
        if layer.projection_units:
            h_new = h_new @ w["projection_kernel"]
        real = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        h, c = np.where(real, h_new, h), np.where(real, c_new, c)
        shown = np.where(real, h_new, shown)
        outputs.append(shown)
        gates.append(np.where(real[None], np.stack([i, f, g, o]), 0.0))
    return np.stack(outputs, 1), h, c, np.stack(gates, 2)


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_options_are_their_equations(kind, masked, rng, randomize, numpy, assert_near):
    x = rng.normal(size=(B, T, D)).astype("float32")
    mask = rng.random((B, T)) < 0.6 if masked else None
    layer = LSTM(U, return_sequences=True, return_state=True, return_gates=True, **KINDS[kind])
    layer.build(x.shape)
    randomize(layer)
    outputs, hidden, cell, gates = numpy(layer(x, mask=mask))
    expected = oracle(layer, x, mask)
    assert_near([outputs, hidden, cell], list(expected[:3]))
    assert_near([gates[name] for name in "ifco"], list(expected[3]))


@pytest.mark.parametrize("kind", KINDS)
def test_options_survive_saving(kind, rng, randomize, assert_near, tmp_path):
    inputs = keras.Input((None, D))
    model = keras.Model(inputs, LSTM(U, return_gates=True, **KINDS[kind])(inputs))
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[1].get_config() == model.layers[1].get_config()
    x = rng.normal(size=(B, T, D)).astype("float32")
    assert_near(loaded(x), model(x), 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_symbolic_results_have_the_shapes_of_the_eager_ones(kind, rng):
    layer = LSTM(U, return_sequences=True, return_state=True, return_gates=True, **KINDS[kind])
    symbolic = layer(keras.Input((T, D), batch_size=B))
    eager = layer(rng.normal(size=(B, T, D)).astype("float32"))
    shapes = [[tuple(t.shape) for t in keras.tree.flatten(r)] for r in (symbolic, eager)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_cell_in_keras_rnn_is_the_layer(kind, rng, randomize, assert_near):
    x = rng.normal(size=(B, T, D)).astype("float32")
    ours = LSTM(U, return_sequences=True, **KINDS[kind])
    theirs = keras.layers.RNN(LSTMCell(U, **KINDS[kind]), return_sequences=True)
    for layer in (ours, theirs):
        layer.build(x.shape)
        randomize(layer)
    assert_near(ours(x), theirs(x))


def test_gates_show_what_a_gate_does(rng, numpy):
    layer = LSTM(U, return_gates=True)
    layer.build((B, T, D))
    bias = np.zeros(4 * U, "float32")
    bias[U : 2 * U] = -50.0
    layer.set_weights([*layer.get_weights()[:2], bias])
    _, gates = numpy(layer(rng.normal(size=(B, T, D)).astype("float32")))
    assert gates["f"].max() < 1e-6
    assert gates["i"].min() > 0.01
    assert gates["i"].max() < 0.99


def test_gates_of_a_stateful_layer_begin_where_it_stood(rng, randomize, numpy, assert_near):
    x = rng.normal(size=(B, 2 * T, D)).astype("float32")
    layer = LSTM(U, return_gates=True, stateful=True)
    layer.build((B, T, D))
    randomize(layer)
    parts = [numpy(layer(half))[1]["f"] for half in np.split(x, 2, axis=1)]
    assert_near([np.concatenate(parts, 1)], [oracle(layer, x)[3][1]])


def test_dropped_weights_are_the_same_for_all_steps_and_others_in_the_next_call(rng, numpy):
    layer = LSTM(U, recurrent_weight_dropout=0.5, seed=1, return_sequences=True)
    x = np.repeat(rng.normal(size=(1, T, D)).astype("float32"), B, 0)
    first, second = (numpy(layer(x, training=True)) for _ in range(2))
    assert np.ptp(first, axis=0).max() < 1e-6  # rows alike stay alike
    assert np.abs(first - second).max() > 1e-3
    whole = numpy(layer(x, training=False))
    none = LSTM(U, return_sequences=True)
    none.build(x.shape)
    none.set_weights(layer.get_weights()[:3])
    np.testing.assert_allclose(whole, numpy(none(x)), atol=1e-6)
    assert np.abs(first - whole).max() > 1e-3


def test_with_all_weights_dropped_no_step_knows_the_hidden_state_before(
    rng, randomize, numpy, assert_near
):
    x = rng.normal(size=(B, T, D)).astype("float32")
    dropped = LSTM(U, recurrent_weight_dropout=1.0, return_sequences=True)
    without = LSTM(U, return_sequences=True)
    for layer in (dropped, without):
        layer.build(x.shape)
        randomize(layer)
    kernel, recurrent, bias = without.get_weights()
    without.set_weights([kernel, np.zeros_like(recurrent), bias])
    assert_near(dropped(x, training=True), without(x))
    assert np.abs(numpy(dropped(x)) - numpy(without(x))).max() > 1e-3


@pytest.mark.parametrize("order", ["xh", "hx"])
def test_gates_of_the_weights_go_back_into_them(order, randomize):
    from zoo.convert import lstm_from_gates

    layer = LSTM(U)
    layer.build((None, None, D))
    randomize(layer)
    for packed, weight in zip(
        lstm_from_gates(*layer.gates(order), order=order), layer.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(packed, weight)


def test_gates_of_a_layer_that_is_not_built_are_refused():
    with pytest.raises(ValueError, match="needs a layer that is built"):
        LSTM(U).gates()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"projection_units": 0}, "`projection_units` must be a positive integer, not 0"),
        ({"recurrent_weight_dropout": 2.0}, "`recurrent_weight_dropout` must be between 0 and 1"),
    ],
)
def test_bad_options_are_refused_by_name(arguments, words):
    with pytest.raises(ValueError, match=words):
        LSTM(U, **arguments)


def test_without_options_keras_own_class_takes_the_configuration():
    keras.layers.LSTM.from_config(LSTM(U).get_config())
    keras.layers.LSTMCell.from_config(LSTMCell(U).get_config())
