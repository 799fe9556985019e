"""A saved model loads with the other layers: Keras's with ours, ours with Keras's."""

import keras
import numpy as np
import pytest

from zoo.exchange import load_model
from zoo.layers import LSTM, LSTMCell, MultiHeadAttention

LAYERS = {
    "zoo": (LSTM, LSTMCell, MultiHeadAttention),
    "keras": (keras.layers.LSTM, keras.layers.LSTMCell, keras.layers.MultiHeadAttention),
}


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def make(kind):
    """One of each, alone, wrapped, within another model, and called twice."""
    lstm, cell, attention = LAYERS[kind]
    x = keras.Input((None, 6), name="steps")
    shared = attention(2, 3, use_bias=False, name="shared")
    y = keras.layers.Bidirectional(lstm(3, return_sequences=True, implementation=1))(x)
    y = shared(y, y)
    y = shared(y, x)
    inner = keras.Sequential([keras.Input((None, 6)), lstm(4, return_sequences=True)])
    y = keras.layers.RNN([cell(5), cell(2)])(inner(y))
    model = keras.Model(x, keras.layers.Dense(1)(y))
    model.compile("adam", "mse", jit_compile=False)  # compiling takes ten times as long as all else
    return model


def kinds_of(model):
    """The modules of the three kinds of layers, wherever they are."""
    names = {cls.__name__ for cls in LAYERS["zoo"]}
    layers = [*model._flatten_layers()]
    return {
        type(layer).__module__.split(".")[0] for layer in layers if type(layer).__name__ in names
    }


@pytest.mark.parametrize(("saved", "loaded"), [("keras", "zoo"), ("zoo", "keras"), ("zoo", "zoo")])
def test_the_other_layers_give_the_same_and_train_on(saved, loaded, tmp_path, rng):
    keras.utils.set_random_seed(1)
    model = make(saved)
    x, y = rng.normal(size=(8, 5, 6)).astype("float32"), rng.normal(size=(8, 1)).astype("float32")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    before = (tmp_path / "model.keras").read_bytes()
    other = load_model(tmp_path / "model.keras", to=loaded)
    assert kinds_of(model) == {saved}
    assert kinds_of(other) == {loaded}
    assert (tmp_path / "model.keras").read_bytes() == before
    np.testing.assert_allclose(other.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)
    assert int(other.optimizer.iterations) == int(model.optimizer.iterations) == 1
    for each in (model, other):
        each.fit(x, y, verbose=0)
    np.testing.assert_allclose(other.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-5)


def test_an_option_that_keras_lacks_is_named(tmp_path):
    model = keras.Sequential([keras.Input((None, 5)), LSTM(3, peephole=True, name="first")])
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"layer 'first' is nothing .*LSTM can be: .*peephole"):
        load_model(tmp_path / "model.keras", to="keras")
    assert load_model(tmp_path / "model.keras").layers[0].peephole


def test_bad_arguments_are_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="`to` must be 'zoo' or 'keras', not 'torch'"):
        load_model(tmp_path / "model.keras", to="torch")
    (tmp_path / "model.keras").write_text("no archive")
    with pytest.raises(ValueError, match=r"model.keras is no .keras file"):
        load_model(tmp_path / "model.keras")


def test_a_custom_layer_of_ones_own_is_found(tmp_path):
    class Twice(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    model = keras.Sequential([keras.Input((None, 5)), keras.layers.LSTM(3), Twice()])
    model.save(tmp_path / "model.keras")
    other = load_model(tmp_path / "model.keras", custom_objects={"Twice": Twice})
    assert isinstance(other.layers[0], LSTM)
    assert isinstance(other.layers[1], Twice)
