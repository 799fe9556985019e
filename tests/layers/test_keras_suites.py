"""Keras's own tests of its layers, run on ours in their place."""

import importlib.util
import inspect
import types
import unittest

import keras
import pytest

import zoo.layers

# What Keras's tests warn of is Keras's.
pytestmark = pytest.mark.filterwarnings("default")

OURS = ("LSTM", "LSTMCell", "MultiHeadAttention")

# Cases that Keras's class passes and ours need not, by name, each with its reason.
EXCEPTIONS = {
    "test_fused_lstm_eligibility": "asks a private method of Bidirectional's whether it would take "
    "the layers to cuDNN itself, which it does with instances of Keras's own class alone",
}


class KerasLayers(types.ModuleType):
    """`keras.src.layers`, with our layers under the names of Keras's."""

    def __getattr__(self, name):
        return getattr(zoo.layers if name in OURS else keras.src.layers, name)


def load(name):
    """A fresh copy of a module of Keras's tests, in which `layers.LSTM` and the like are ours."""
    spec = importlib.util.find_spec(f"keras.src.layers.{name}")
    if spec is None:
        pytest.skip("Keras was installed without its tests", allow_module_level=True)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.layers = KerasLayers("layers")
    for value in list(vars(module).values()):
        if inspect.isclass(value) and issubclass(value, unittest.TestCase):
            keep_what_is_ours(value)
    return module


def keep_what_is_ours(suite):
    """Leaves out the cases that name no layer of ours, and skips the exceptions."""
    for name in [name for name in dir(suite) if name.startswith("test")]:
        case = getattr(suite, name)
        if not any(f"layers.{ours}" in inspect.getsource(case) for ours in OURS):
            setattr(suite, name, None)
        elif name in EXCEPTIONS:
            setattr(suite, name, unittest.skip(EXCEPTIONS[name])(case))


attention = load("attention.multi_head_attention_test")
lstm = load("rnn.lstm_test")
bidirectional = load("rnn.bidirectional_test")
stacked = load("rnn.stacked_rnn_cells_test")


@pytest.fixture(autouse=True)
def _as_it_was():
    filtered = keras.config.is_traceback_filtering_enabled()
    yield
    if filtered:
        keras.config.enable_traceback_filtering()


class TestMultiHeadAttention(attention.MultiHeadAttentionTest):
    pass


class TestLSTM(lstm.LSTMTest):
    pass


class TestBidirectional(bidirectional.SimpleRNNTest):
    pass


class TestStackedRNNCells(stacked.StackedRNNTest):
    pass


@pytest.mark.parametrize("suite", [attention, lstm, bidirectional, stacked])
def test_the_suites_see_our_layers(suite):
    for name in OURS:
        assert getattr(suite.layers, name) is getattr(zoo.layers, name)
        assert getattr(suite.layers, name) is not getattr(keras.layers, name)
    assert suite.layers.Dense is keras.layers.Dense


def test_every_exception_is_a_case():
    suites = (TestMultiHeadAttention, TestLSTM, TestBidirectional, TestStackedRNNCells)
    for case in EXCEPTIONS:
        assert any(hasattr(suite, case) for suite in suites), case
