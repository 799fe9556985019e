"""What the LSTM does in training: regularisers, constraints and dropout, as Keras's does."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import LSTM, LSTMCell

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 7, 3, 2


def make_pair(same_weights, **arguments):
    """Ours and Keras's layer, with the same weights."""
    return same_weights(LSTM(U, **arguments), stock.LSTM(U, **arguments), (B, T, D))


def test_regularizers_and_constraints_are_applied(rng, numpy, assert_near, same_weights):
    arguments = {
        f"{name}_regularizer": keras.regularizers.L2(0.1 * n)
        for n, name in enumerate(("kernel", "recurrent", "bias", "activity"), 1)
    }
    ours, theirs = make_pair(same_weights, **arguments, recurrent_constraint="non_neg")
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
def test_a_seed_drops_what_it_drops_in_keras(name, rng, assert_near, same_weights):
    ours, theirs = make_pair(same_weights, **RATES[name], seed=11, return_sequences=True)
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
