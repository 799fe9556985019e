"""Weights of PyTorch's LSTM and of LSTMs kept gate by gate, held to the numbers that they give."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import convert
from zoo.layers import LSTM

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U, P = 5, 7, 3, 13, 2


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    module.manual_seed(3)
    return module


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def numbers(rng, *shape):
    return rng.normal(size=shape).astype("float32")


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def run_lstm(x, weights, backwards=False):
    """An LSTM with or without bias and projection, in float64: `[B, T, U]`."""
    kernel, recurrent, *rest = (np.asarray(w, "float64") for w in weights)
    bias = next((w for w in rest if w.ndim == 1), 0.0)
    projection = next((w for w in rest if w.ndim == 2), np.eye(kernel.shape[1] // 4))
    hidden, cell = np.zeros((len(x), len(recurrent))), np.zeros((len(x), len(projection)))
    outputs = np.zeros((*x.shape[:2], len(recurrent)))
    for t in reversed(range(x.shape[1])) if backwards else range(x.shape[1]):
        i, f, c, o = np.split(x[:, t] @ kernel + hidden @ recurrent + bias, 4, axis=1)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        hidden = outputs[:, t] = sigmoid(o) * np.tanh(cell) @ projection
    return outputs


def run_layers(x, layers):
    for directions in layers:
        ends = [run_lstm(x, weights, backwards=bool(n)) for n, weights in enumerate(directions)]
        x = np.concatenate(ends, axis=-1)
    return x


def make_layers(depth, two, use_bias, projection=None):
    """Built Keras layers with random weights, as many as a whole `nn.LSTM` has."""
    arguments = {"return_sequences": True, "use_bias": use_bias}
    if projection:
        arguments["projection_units"] = projection
    layers = [LSTM(U, **arguments) for _ in range(depth)]
    layers = [keras.layers.Bidirectional(layer) for layer in layers] if two else layers
    model = keras.Sequential([keras.Input((None, D)), *layers])
    rng = np.random.default_rng(5)
    model.set_weights([0.4 * numbers(rng, *w.shape) for w in model.get_weights()])
    return model, layers


# ---- Gate by gate


@pytest.mark.parametrize("order", ["xh", "hx"])
@pytest.mark.parametrize("second", [True, False], ids=["W-and-U", "W"])
def test_weights_by_gate_are_the_same_cell(order, second, rng):
    W = {gate: numbers(rng, D + U, U) for gate in "fioc"}
    R = {gate: numbers(rng, U, U) for gate in "fioc"} if second else None
    b = {gate: numbers(rng, U) for gate in "fioc"}
    layer = LSTM(U, return_sequences=True)
    layer.build((B, T, D))
    layer.set_weights(convert.lstm_from_gates(W, R, b, order=order))
    x = numbers(rng, B, T, D)
    hidden, cell, expected = np.zeros((B, U)), np.zeros((B, U)), []
    for t in range(T):
        joined = np.concatenate([x[:, t], hidden] if order == "xh" else [hidden, x[:, t]], axis=1)
        gate = {g: joined @ W[g] + (hidden @ R[g] if R else 0) + b[g] for g in "fioc"}
        cell = sigmoid(gate["f"]) * cell + sigmoid(gate["i"]) * np.tanh(gate["c"])
        hidden = sigmoid(gate["o"]) * np.tanh(cell)
        expected.append(hidden)
    outputs = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(outputs, np.stack(expected, axis=1), atol=1e-5)


sizes = st.integers(1, 5)


@settings(derandomize=True, max_examples=20, deadline=None, database=None)
@given(
    features=sizes,
    units=sizes,
    rows=sizes,
    order=st.sampled_from(["xh", "hx"]),
    biased=st.booleans(),
)
def test_gates_are_the_inverse(features, units, rows, order, biased):
    rng = np.random.default_rng(features + units)
    kernel, recurrent = numbers(rng, features, 4 * units), numbers(rng, rows, 4 * units)
    bias = numbers(rng, 4 * units) if biased else None
    gates = convert.gates_from_lstm(kernel, recurrent, bias, order)
    assert (gates.U is None) == (rows == units)
    assert gates.W["f"].shape == (features + rows, units)
    assert (gates.b is None) != biased
    again = convert.lstm_from_gates(gates.W, gates.U, gates.b, order=order)
    expected = (kernel, recurrent, bias if biased else np.zeros(4 * units))
    for ours, theirs in zip(again, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == "float32"


def test_a_layers_gates_are_the_inverse():
    _, (layer,) = make_layers(1, False, True)
    for order in ("xh", "hx"):
        W, second, b = layer.gates(order=order)
        again = convert.lstm_from_gates(W, second, b, order=order)
        for ours, theirs in zip(again, layer.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def _gates(rows=D + U, columns=U, names="fioc"):
    return {gate: np.ones((rows, columns)) for gate in names}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"W": _gates(names="fio")}, r"`W` must be a dict of the gates.*\['f', 'i', 'o'\]"),
        ({"W": _gates(names="fiocg")}, r"`W` must be a dict of the gates.*'g'"),
        ({"W": np.ones((3, 3))}, "`W` must be a dict"),
        ({"W": _gates() | {"o": np.ones((4, U))}}, r'`W\["o"\]` must be of shape \(16, 13\)'),
        ({"W": _gates() | {"c": np.ones(U)}}, r'`W\["c"\]` must have 2 axes'),
        ({"W": _gates(rows=U)}, "must have more than the 13 rows"),
        ({"W": _gates(), "U": _gates(names="f")}, "`U` must be a dict of the gates"),
        ({"W": _gates(), "U": _gates(U, 4)}, r'`U\["i"\]` must be of shape \(13, 13\)'),
        ({"W": _gates(), "b": {g: np.ones(4) for g in "fioc"}}, r'`b\["i"\]` must be of shape'),
        ({"W": _gates(), "order": "hc"}, "`order` must be one of 'xh', 'hx', not 'hc'"),
    ],
)
def test_gates_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        convert.lstm_from_gates(**arguments)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.ones((3, 9)), np.ones((2, 8))), "`kernel` must be of shape"),
        ((np.ones((3, 8)), np.ones((2, 4))), r"`recurrent_kernel` must be of shape \[U, 8\]"),
        ((np.ones((3, 8)), np.ones((2, 8)), np.ones(2)), r"`bias` must be of shape \(8,\)"),
    ],
)
def test_packed_weights_that_do_not_fit_are_refused(arrays, message):
    with pytest.raises(ValueError, match=message):
        convert.gates_from_lstm(*arrays)


# ---- PyTorch's LSTM

# PyTorch says so of its own speed.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


@pytest.mark.parametrize("projection", [None, P], ids=["plain", "projected"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("two", [False, True], ids=["one-way", "two-ways"])
@pytest.mark.parametrize("depth", [1, 3])
def test_an_lstm_of_pytorch_is_the_equations_both_ways(depth, two, bias, projection, torch, rng):
    options = {"num_layers": depth, "bidirectional": two, "bias": bias, "batch_first": True}
    peer = torch.nn.LSTM(D, U, proj_size=projection or 0, **options)
    x, layers = numbers(rng, B, T, D), convert.lstm_from_torch(peer)
    assert [len(directions) for directions in layers] == [1 + two] * depth
    with torch.no_grad():
        np.testing.assert_allclose(run_layers(x, layers), peer(torch.tensor(x))[0], atol=1e-5)
        other = torch.nn.LSTM(D, U, proj_size=projection or 0, **options)
        other.load_state_dict(convert.lstm_to_torch(layers))
        np.testing.assert_allclose(other(torch.tensor(x))[0], peer(torch.tensor(x))[0], atol=1e-6)


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("two", [False, True], ids=["one-way", "two-ways"])
@pytest.mark.parametrize("projection", [None, P])
def test_layers_and_pytorch_agree_both_ways(two, bias, projection, torch, rng):
    options = {"num_layers": 2, "bidirectional": two, "bias": bias, "batch_first": True}
    peer = torch.nn.LSTM(D, U, proj_size=projection or 0, **options)
    model, layers = make_layers(2, two, bias, projection)
    x = numbers(rng, B, T, D)

    with torch.no_grad():
        peer.load_state_dict(convert.lstm_to_torch([layer.get_weights() for layer in layers]))
        ours = keras.ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(ours, peer(torch.tensor(x))[0], atol=1e-5)

        for weight in peer.parameters():
            weight.uniform_(-0.5, 0.5)
        for layer, directions in zip(layers, convert.lstm_from_torch(peer), strict=True):
            layer.set_weights([w for weights in directions for w in weights])
        ours = keras.ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(ours, peer(torch.tensor(x))[0], atol=1e-5)


def test_a_mask_is_what_a_packed_sequence_is(torch, rng):
    peer = torch.nn.LSTM(D, U, bidirectional=True, batch_first=True)
    _, (layer,) = make_layers(1, True, True)
    (directions,) = convert.lstm_from_torch(peer)
    layer.set_weights([w for weights in directions for w in weights])
    x, lengths = numbers(rng, B, T, D), np.array([7, 4, 1, 6, 2])
    mask = np.arange(T) < lengths[:, None]
    pack, pad = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence
    with torch.no_grad():
        packed = pack(torch.tensor(x), lengths, batch_first=True, enforce_sorted=False)
        expected = pad(peer(packed)[0], batch_first=True)[0].numpy()
    ours = keras.ops.convert_to_numpy(layer(x, mask=mask))
    np.testing.assert_allclose(ours[mask], expected[mask], atol=1e-5)


def test_a_prefix_finds_the_lstm_in_a_larger_model(torch):
    model = torch.nn.ModuleDict({"embed": torch.nn.Linear(2, 3), "lstm": torch.nn.LSTM(D, U)})
    ((ours,),) = convert.lstm_from_torch(model.state_dict(), prefix="lstm.")
    ((alone,),) = convert.lstm_from_torch(model["lstm"])
    assert all(np.array_equal(a, b) for a, b in zip(ours, alone, strict=True))
    state = convert.lstm_to_torch([ours], prefix="lstm.")
    assert model.load_state_dict(state, strict=False).unexpected_keys == []


def test_what_is_converted_is_a_copy(torch):
    peer = torch.nn.LSTM(1, 1)
    ((weights,),) = convert.lstm_from_torch(peer)
    before = [w.copy() for w in weights]
    with torch.no_grad():
        for weight in peer.parameters():
            weight.add_(1.0)
    assert all(np.array_equal(a, b) for a, b in zip(weights, before, strict=True))


def test_half_precision_tensors_become_float32(torch):
    ((weights,),) = convert.lstm_from_torch(torch.nn.LSTM(D, U, dtype=torch.bfloat16))
    assert {w.dtype.name for w in weights} == {"float32"}


def _state(**changes):
    state = convert.lstm_to_torch(
        [[np.ones((D, 4 * U)), np.ones((U, 4 * U)), np.ones(4 * U)]], "", False
    )
    state |= changes
    return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (_state(weight_hh_l0=None), "lacks the weight 'weight_hh_l0'"),
        (_state(bias_hh_l0=None), "lacks the weight 'bias_hh_l0'"),
        (_state(weight_ih_l2=np.ones((4 * U, U))), "lacks the weight 'weight_ih_l1'"),
        (_state(weight_ih_l0_reverse=np.ones((4 * U, D))), "lacks the weight 'weight_hh_l0_rev"),
        (_state(other=np.ones(2)), "has the weight 'other', which no nn.LSTM has"),
        (_state(weight_hh_l0=np.ones((4 * U, 4))), r"'weight_hh_l0' of shape \(52, 4\)"),
        ({}, "has no weights of an nn.LSTM"),
        ([1], "must be a module of PyTorch or a state dict"),
    ],
)
def test_what_is_no_lstm_is_refused(state, message):
    with pytest.raises(ValueError, match=message):
        convert.lstm_from_torch(state)


def test_a_gru_is_refused(torch):
    with pytest.raises(ValueError, match="'weight_hh_l0' of shape"):
        convert.lstm_from_torch(torch.nn.GRU(D, 4))


def _packed(features=D, units=U, bias=True):
    return [np.ones((features, 4 * units)), np.ones((units, 4 * units))] + [
        np.ones(4 * units)
    ] * bias


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "at least one layer"),
        ([_packed(), _packed()], "a layer 1 for inputs of 3 features, but that below puts out 13"),
        ([_packed(), _packed(U, 5)], "differ in directions, bias or sizes"),
        ([_packed(), _packed(U, bias=False)], "differ in directions, bias or sizes"),
        ([_packed()[:1]], "at '_l0' arrays of shapes"),
        ([[np.ones((D, 8)), np.ones((3, 8))]], "not those of an LSTM's weights"),
        ([[_packed()] * 3], "a layer of 3 directions"),
    ],
)
def test_layers_that_no_lstm_of_pytorch_has_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        convert.lstm_to_torch(layers)


def test_pytorch_is_not_imported_before_it_is_needed():
    code = "import sys, zoo.convert; assert 'torch' not in sys.modules"
    env = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=env)
