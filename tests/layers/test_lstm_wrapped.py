"""The LSTM inside Keras's wrappers, models and files, in the place of Keras's."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import LSTM, LSTMCell

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 7, 3, 2
MERGES = ("sum", "mul", "ave", "concat", None)


@pytest.mark.parametrize("kind", ["none", "right", "left"])
@pytest.mark.parametrize("merge", MERGES)
def test_in_bidirectional(merge, kind, rng, randomize, gradients, assert_near, make_mask):
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
def test_stacked_cells_in_rnn(kind, rng, randomize, gradients, assert_near, make_mask):
    ours, theirs = stack(LSTMCell), stack(stock.LSTMCell)
    for layer in (ours, theirs):
        layer.build((B, T, D))
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    x, mask = rng.normal(size=(B, T, D)).astype("float32"), make_mask(kind)
    mine = gradients(ours, lambda x: ours(x, mask=mask), [x])
    assert_near(mine, gradients(theirs, lambda x: theirs(x, mask=mask), [x]))


def test_the_layer_is_its_cell_in_rnn(rng, randomize, assert_near, make_mask):
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
def test_in_models_of_every_kind(make, rng, randomize, gradients, assert_near, make_mask):
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
