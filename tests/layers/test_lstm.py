"""The LSTM against its equations, against Keras's and against PyTorch's."""

import inspect

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as stock

from zoo.layers import LSTM, LSTMCell, LSTMState, lstm_fast, lstm_step

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 7, 3, 2
BACKEND = keras.backend.backend()
MERGES = ("sum", "mul", "ave", "concat", None)


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


def make_mask(kind, rows=B, steps=T):
    order = np.arange(steps)
    lengths = np.array([steps, 4, 2, 1, 3])[:rows, None]
    return {
        "none": None,
        "right": order < lengths,
        "left": order >= steps - lengths,
        "holes": np.random.default_rng(8).random((rows, steps)) < 0.5,
        "empty-row": (order < lengths) & (np.arange(rows)[:, None] != 2),
        "one-step": np.broadcast_to(order == 3, (rows, steps)),
    }[kind]


MASKS = ("none", "right", "left", "holes", "empty-row", "one-step")


def make_pair(randomize, **arguments):
    """Ours and Keras's layer, with the same weights."""
    ours, theirs = LSTM(U, **arguments), stock.LSTM(U, **arguments)
    for layer in (ours, theirs):
        layer.build((B, T, D))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


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
def test_the_layer_is_the_equations(kind, rng, randomize, assert_near):
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
def test_masks_do_what_they_do_in_keras(kind, name, rng, randomize, gradients, assert_near):
    ours, theirs = make_pair(randomize, **CONFIGURATIONS[name])
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask(kind)
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


@pytest.mark.parametrize("name", sorted(CONFIGURATIONS))
def test_every_configuration_does_what_it_does_in_keras(
    name, rng, randomize, gradients, assert_near
):
    ours, theirs = make_pair(randomize, **CONFIGURATIONS[name])
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask("right")
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


def test_an_initial_state_does_what_it_does_in_keras(rng, randomize, gradients, assert_near):
    ours, theirs = make_pair(randomize, return_sequences=True, return_state=True)
    arrays = [rng.normal(size=s).astype("float32") for s in ((B, T, D), (B, U), (B, U))]
    mine = gradients(ours, lambda x, h, c: ours(x, initial_state=[h, c]), arrays)
    assert_near(mine, gradients(theirs, lambda x, h, c: theirs(x, initial_state=[h, c]), arrays))


def test_a_symbolic_initial_state(rng, randomize, assert_near):
    ours, theirs = make_pair(randomize)
    x = rng.normal(size=(B, T, D)).astype("float32")
    states = [rng.normal(size=(B, U)).astype("float32") for _ in range(2)]
    models = []
    for layer in (ours, theirs):
        inputs = [keras.Input((None, D)), keras.Input((U,)), keras.Input((U,))]
        models.append(keras.Model(inputs, layer(inputs[0], initial_state=inputs[1:])))
    assert_near(models[0]([x, *states]), models[1]([x, *states]))


def test_a_stateful_layer_goes_on_until_it_is_reset(rng, randomize, assert_near):
    ours, theirs = make_pair(randomize, stateful=True, return_sequences=True)
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


# ---- Inside Keras's wrappers


@pytest.mark.parametrize("kind", ["none", "right", "left"])
@pytest.mark.parametrize("merge", MERGES)
def test_in_bidirectional(merge, kind, rng, randomize, gradients, assert_near):
    ours, theirs = (
        stock.Bidirectional(cls(U, return_sequences=True), merge_mode=merge)
        for cls in (LSTM, stock.LSTM)
    )
    for layer in (ours, theirs):
        layer.build((B, T, D))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask(kind)
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


def test_in_bidirectional_with_states(rng, randomize, assert_near):
    ours, theirs = (stock.Bidirectional(cls(U, return_state=True)) for cls in (LSTM, stock.LSTM))
    for layer in (ours, theirs):
        layer.build((B, T, D))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x = rng.normal(size=(B, T, D)).astype("float32")
    states = [rng.normal(size=(B, U)).astype("float32") for _ in range(4)]
    assert_near(ours(x, initial_state=states), theirs(x, initial_state=states))


def test_in_bidirectional_with_a_backward_layer_of_its_own(rng, randomize, assert_near):
    ours, theirs = (
        stock.Bidirectional(
            cls(U, return_sequences=True),
            backward_layer=cls(U + 9, return_sequences=True, go_backwards=True, activation="relu"),
        )
        for cls in (LSTM, stock.LSTM)
    )
    for layer in (ours, theirs):
        layer.build((B, T, D))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x = rng.normal(size=(B, T, D)).astype("float32")
    assert_near(ours(x), theirs(x))


def stack(cls):
    return stock.RNN([cls(U), cls(U + 9)], return_sequences=True, return_state=True)


@pytest.mark.parametrize("kind", ["none", "right"])
def test_stacked_cells_in_rnn(kind, rng, randomize, gradients, assert_near):
    ours, theirs = stack(LSTMCell), stack(stock.LSTMCell)
    for layer in (ours, theirs):
        layer.build((B, T, D))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask(kind)
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


def test_the_layer_is_its_cell_in_rnn(rng, randomize, assert_near):
    layer, looped = LSTM(U, return_sequences=True), stock.RNN(LSTMCell(U), return_sequences=True)
    for each in (layer, looped):
        each.build((B, T, D))
    randomize(layer)
    looped.set_weights(layer.get_weights())
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask("right")
    assert_near(layer(x, mask=mask), looped(x, mask=mask))


def test_in_time_distributed(rng, randomize, assert_near):
    ours, theirs = stock.TimeDistributed(LSTM(U)), stock.TimeDistributed(stock.LSTM(U))
    x = rng.normal(size=(B, 4, T, D)).astype("float32")
    ours(x), theirs(x)
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    assert_near(ours(x), theirs(x))


class Subclassed(keras.Model):
    def __init__(self, cls):
        super().__init__()
        self.embed = stock.Embedding(29, D, mask_zero=True)
        self.read = cls(U, return_sequences=True)
        self.sum_up = cls(U)

    def call(self, ids):
        return self.sum_up(self.read(self.embed(ids)))


def sequential(cls):
    embed = stock.Embedding(29, D, mask_zero=True)
    return keras.Sequential([embed, cls(U, return_sequences=True), cls(U)])


def functional(cls):
    ids = keras.Input((None,), dtype="int32")
    x = stock.Embedding(29, D, mask_zero=True)(ids)
    return keras.Model(ids, cls(U)(cls(U, return_sequences=True)(x)))


@pytest.mark.parametrize("make", [Subclassed, sequential, functional])
def test_in_models_of_every_kind(make, rng, randomize, gradients, assert_near):
    ids = np.where(make_mask("right"), rng.integers(1, 29, (B, T)), 0).astype("int32")
    ours, theirs = make(LSTM), make(stock.LSTM)
    ours(ids), theirs(ids)
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    # Embeddings give sparse gradients upstream.
    mine = gradients(ours, lambda: ours(ids), [])
    assert_near(mine, gradients(theirs, lambda: theirs(ids), []))


@pytest.mark.parametrize("swapped", [False, True], ids=["keras-to-ours", "ours-to-keras"])
def test_a_configuration_makes_the_other_layer(swapped, rng, randomize, assert_near):
    first, second = (LSTM, stock.LSTM) if swapped else (stock.LSTM, LSTM)
    layer = first(U, return_sequences=True, go_backwards=True, activation="softsign")
    other = second.from_config(layer.get_config())
    for each in (layer, other):
        each.build((B, T, D))
    randomize(layer)
    other.set_weights(layer.get_weights())
    x = rng.normal(size=(B, T, D)).astype("float32")
    assert_near(other(x), layer(x))


def test_weight_files_go_both_ways(rng, randomize, tmp_path, assert_near):
    models = [keras.Sequential([keras.Input((None, D)), c(U)]) for c in (LSTM, stock.LSTM)]
    x = rng.normal(size=(B, T, D)).astype("float32")
    for one, other in (models, models[::-1]):
        randomize(one, seed=len(tmp_path.name))
        one.save_weights(tmp_path / "some.weights.h5")
        other.load_weights(tmp_path / "some.weights.h5")
        assert_near(one(x), other(x))


# ---- Regularisers, constraints, dropout


def test_regularizers_and_constraints_are_applied(rng, randomize, numpy, assert_near):
    arguments = {
        f"{name}_regularizer": keras.regularizers.L2(0.1 * n)
        for n, name in enumerate(("kernel", "recurrent", "bias", "activity"), 1)
    }
    ours, theirs = make_pair(randomize, **arguments, recurrent_constraint="non_neg")
    x = rng.normal(size=(B, T, D)).astype("float32")
    ours(x), theirs(x)
    assert_near(sorted(numpy(ours.losses)), sorted(numpy(theirs.losses)))
    assert len(ours.losses) == 4
    assert type(ours.cell.recurrent_kernel.constraint) is keras.constraints.NonNeg


RATES = {
    "inputs": {"dropout": 0.5},
    "inputs-gate-by-gate": {"dropout": 0.5, "implementation": 1, "use_cudnn": False},
    "states": {"recurrent_dropout": 0.5},
    "both": {"dropout": 0.5, "recurrent_dropout": 0.3},
}


@pytest.mark.parametrize("name", sorted(RATES))
def test_a_seed_drops_what_it_drops_in_keras(name, rng, randomize, assert_near):
    ours, theirs = make_pair(randomize, **RATES[name], seed=11, return_sequences=True)
    x = rng.normal(size=(B, T, D)).astype("float32")
    batches = [ours(x, training=True) for _ in range(3)]
    assert_near(batches, [theirs(x, training=True) for _ in range(3)])
    batches = [keras.ops.convert_to_numpy(b) for b in batches]
    assert np.abs(batches[0] - batches[1]).max() > 1e-3
    assert np.abs(batches[1] - batches[2]).max() > 1e-3
    assert_near(ours(x), theirs(x))


def test_dropout_gate_by_gate_works_with_cudnn_on_auto(rng):
    # Keras 3.15's layer hands a list of masks to cuDNN's route and fails.
    layer = LSTM(U, dropout=0.5, implementation=1)
    output = layer(rng.normal(size=(B, T, D)).astype("float32"), training=True)
    assert np.isfinite(keras.ops.convert_to_numpy(output)).all()


@pytest.mark.parametrize("cls", [stock.LSTMCell, LSTMCell], ids=["keras", "ours"])
@pytest.mark.parametrize("stacked", [False, True])
def test_every_batch_has_fresh_masks_in_stock_rnn(cls, stacked, rng):
    cells = [cls(13, dropout=0.5, recurrent_dropout=0.2, seed=n) for n in range(1 + stacked)]
    layer = stock.RNN(cells if stacked else cells[0])
    x = rng.normal(size=(B, T, D)).astype("float32")
    first, second = (keras.ops.convert_to_numpy(layer(x, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


def test_one_mask_lasts_the_whole_sequence(rng):
    # A cell that only passes its inputs on shows which of them were dropped.
    layer = LSTM(
        D,
        dropout=0.5,
        seed=3,
        return_sequences=True,
        activation=None,
        recurrent_activation=None,
        use_cudnn=False,
    )
    layer.build((B, T, D))
    kernel = np.zeros((D, 4 * D), "float32")
    kernel[:, 2 * D : 3 * D] = np.eye(D)
    bias = np.repeat(np.array([1.0, 0.0, 0.0, 1.0], "float32"), D)
    layer.set_weights([kernel, np.zeros((D, 4 * D), "float32"), bias])
    x = rng.normal(size=(B, T, D)).astype("float32")
    ratio = keras.ops.convert_to_numpy(layer(x, training=True))
    # h = o * activation(c) = x, or twice x, or nothing.
    ratio = ratio / x
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :1], ratio.shape), atol=1e-4)
    assert set(np.round(ratio.ravel(), 3)) == {0.0, 2.0}


def test_dropout_of_everything_leaves_the_biases(rng, randomize, numpy):
    # Keras 3.15 drops nothing at all at a rate of one.
    layer = LSTM(U, dropout=1.0)
    layer.build((B, T, D))
    randomize(layer)
    x = rng.normal(size=(B, T, D)).astype("float32")
    expected = numpy(layer(np.zeros_like(x)))
    np.testing.assert_allclose(numpy(layer(x, training=True)), expected, atol=1e-6)


# ---- What Keras loses


@pytest.mark.parametrize("implementation", [0, 1, 2])
@pytest.mark.parametrize("use_cudnn", ["auto", False])
def test_no_copy_loses_use_cudnn_or_implementation(use_cudnn, implementation):
    layer = LSTM(U, use_cudnn=use_cudnn, implementation=implementation)
    again = LSTM.from_config(layer.get_config())
    assert (again.use_cudnn, again.cell.implementation) == (use_cudnn, implementation)
    wrapped = stock.Bidirectional(layer)
    for half in (wrapped.forward_layer, wrapped.backward_layer):
        assert (half.use_cudnn, half.cell.implementation) == (use_cudnn, implementation)
    model = keras.Sequential([keras.Input((T, D)), LSTM.from_config(layer.get_config())])
    clone = keras.models.clone_model(model).layers[0]
    assert (clone.use_cudnn, clone.cell.implementation) == (use_cudnn, implementation)
    # Keras 3.15 has neither in its configuration.
    theirs = stock.LSTM(U, use_cudnn=False, implementation=1)
    assert not {"use_cudnn", "implementation"} & set(theirs.get_config())


@pytest.fixture
def as_if_on_a_gpu(monkeypatch):
    """Lets Keras believe in a GPU; returns the list of the calls that cuDNN would have got."""
    import zoo.layers.lstm as module

    calls = []

    def cudnn(*args, **kwargs):
        calls.append(args)
        raise NotImplementedError

    monkeypatch.setattr(module, "cudnn_ok", lambda *_: True)
    monkeypatch.setattr(module, "backend_lstm", cudnn)
    monkeypatch.setattr(lstm_fast, "_on_gpu", lambda: True)
    return calls


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA is no choice of the layer's elsewhere")
@pytest.mark.parametrize(("use_cudnn", "jit"), [("auto", False), (True, False), (False, True)])
def test_xla_is_not_asked_to_compile_cudnn(as_if_on_a_gpu, use_cudnn, jit):
    wrapped = stock.Bidirectional(LSTM(U, use_cudnn=use_cudnn))
    halves = (wrapped.forward_layer, wrapped.backward_layer)
    assert [half.supports_jit for half in halves] == [jit, jit]


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the other backends' routes take any mask")
def test_cudnn_gets_no_mask_unless_it_is_insisted_on(as_if_on_a_gpu, rng, assert_near):
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask("holes")
    layer, looped = LSTM(U), LSTM(U, use_cudnn=False)
    layer(x), looped(x)
    assert len(as_if_on_a_gpu) == 1
    looped.set_weights(layer.get_weights())
    assert_near(layer(x, mask=mask), looped(x, mask=mask))
    assert len(as_if_on_a_gpu) == 1
    with pytest.raises(ValueError, match="use_cudnn=True"):
        LSTM(U, use_cudnn=True)(x, mask=make_mask("right"))
    assert len(as_if_on_a_gpu) == 2


@pytest.mark.skipif(BACKEND == "torch", reason="its route needs no GPU")
def test_use_cudnn_true_is_refused_without_a_gpu():
    with pytest.raises(ValueError, match="use_cudnn=True"):
        LSTM(U, use_cudnn=True)(np.ones((B, T, D), "float32"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be a positive integer, not 0"),
        ({"units": 1.5}, "`units` must be a positive integer, not 1.5"),
        ({"units": True}, "`units` must be a positive integer, not True"),
        ({"units": 2, "dropout": -0.1}, "`dropout` must be between 0 and 1, not -0.1"),
        ({"units": 2, "dropout": "0.1"}, "`dropout` must be between 0 and 1, not '0.1'"),
        ({"units": 2, "recurrent_dropout": 2}, "`recurrent_dropout` must be between 0 and 1"),
        ({"units": 2, "recurrent_dropout": float("nan")}, "`recurrent_dropout` must be between"),
        ({"units": 2, "implementation": 3}, "`implementation` must be 0, 1 or 2, not 3"),
    ],
)
@pytest.mark.parametrize("cls", [LSTM, LSTMCell])
def test_bad_arguments_are_refused(cls, arguments, message):
    with pytest.raises(ValueError, match=message):
        cls(**arguments)


def test_a_bad_use_cudnn_is_refused():
    with pytest.raises(ValueError, match="`use_cudnn` must be 'auto', True or False, not 'yes'"):
        LSTM(U, use_cudnn="yes")


def test_an_unknown_argument_is_refused():
    with pytest.raises(ValueError, match="size"):
        LSTM(U, size=3)


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
