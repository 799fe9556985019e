"""The LSTM's arguments: what no copy may lose, cuDNN's part, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import LSTM, LSTMCell, lstm_fast

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, D, U = 5, 7, 3, 2
BACKEND = keras.backend.backend()


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
def test_cudnn_gets_no_mask_unless_it_is_insisted_on(as_if_on_a_gpu, rng, assert_near, make_mask):
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
    if "cpu" not in keras.distribution.list_devices()[0].lower():
        pytest.skip("there is a GPU")
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
