"""The examples in the layers' docstrings run, under every backend."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import zoo.layers

MODULES = sorted(m.name for m in pkgutil.iter_modules(zoo.layers.__path__, "zoo.layers."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_every_class_and_function_has_an_example():
    for name in zoo.layers.__all__:
        doc = getattr(zoo.layers, name).__doc__
        assert ">>>" in doc or name == "LSTMState", name


def test_numpys_whole_numbers_are_whole_numbers():
    for cls in (zoo.layers.LSTM, zoo.layers.LSTMCell):
        layer = cls(np.int64(3))
        assert type(layer).from_config(layer.get_config()).units == 3
    config = keras.saving.serialize_keras_object(zoo.layers.LSTM(np.int64(3)))
    assert keras.saving.deserialize_keras_object(config).units == 3
