"""Multi-head attention to Keras's and back: files, clones, and what becomes of its projections."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers as stock

from zoo.layers import MultiHeadAttention

# Every dimension is its own prime, so that a swapped axis cannot pass.
B, T, S, D, E, F, H, K = 5, 11, 13, 7, 17, 29, 2, 19
BOTH = (MultiHeadAttention, stock.MultiHeadAttention)


def make_inputs(rng):
    return [rng.normal(size=s).astype("float32") for s in ((B, T, D), (B, S, E))]


def make_built():
    """Ours and Keras's layer, with the same weights."""
    layers = [cls(H, K) for cls in BOTH]
    for layer in layers:
        layer.build((B, T, D), (B, S, E))
    layers[0].set_weights(layers[1].get_weights())
    return layers


def test_weight_files_go_both_ways(rng, randomize, tmp_path, assert_near):
    models = []
    for cls in BOTH:
        query, value = keras.Input((None, D)), keras.Input((None, E))
        models.append(keras.Model([query, value], cls(H, K, use_gate=True)(query, value)))
    inputs = make_inputs(rng)
    for seed, (one, other) in enumerate((models, models[::-1])):
        randomize(one, seed=seed)
        one.save_weights(tmp_path / "some.weights.h5")
        other.load_weights(tmp_path / "some.weights.h5")
        assert_near(one(inputs), other(inputs))


def make_model(cls, **arguments):
    query, value = keras.Input((None, D)), keras.Input((None, E))
    return keras.Model([query, value], cls(H, K, **arguments)(query, value))


def save(model, path):
    with warnings.catch_warnings():
        # Keras says of the older format that the other is newer.
        warnings.simplefilter("ignore")
        model.save(path)
    return path


def test_keras_own_legacy_file_loads_as_ours(rng, tmp_path, assert_near):
    model = make_model(stock.MultiHeadAttention, output_shape=F, sliding_window=12)
    names = {"MultiHeadAttention": MultiHeadAttention}
    loaded = keras.models.load_model(save(model, tmp_path / "model.h5"), custom_objects=names)
    assert type(loaded.layers[-1]) is MultiHeadAttention
    inputs = make_inputs(rng)
    assert_near(loaded(inputs), model(inputs))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_our_file_loads_as_keras_own(name, rng, tmp_path, monkeypatch, assert_near):
    model = make_model(MultiHeadAttention, use_gate=True, flash_attention=False)
    # In a process without us; where we are registered, Keras asks no custom object.
    monkeypatch.delitem(keras.saving.get_custom_objects(), "zoo>MultiHeadAttention")
    names = {"zoo>MultiHeadAttention": stock.MultiHeadAttention}
    loaded = keras.models.load_model(save(model, tmp_path / name), custom_objects=names)
    assert type(loaded.layers[-1]) is stock.MultiHeadAttention
    inputs = make_inputs(rng)
    assert_near(loaded(inputs), model(inputs))


def test_keras_own_file_becomes_ours_by_cloning(rng, tmp_path, assert_near):
    """Keras 3.15 asks no custom object for a layer of its own when it reads a `.keras` file."""
    make_model(stock.MultiHeadAttention).save(tmp_path / "model.keras")
    names = {"MultiHeadAttention": MultiHeadAttention}
    theirs = keras.models.load_model(tmp_path / "model.keras", custom_objects=names)
    assert type(theirs.layers[-1]) is stock.MultiHeadAttention

    def swap(layer):
        cls = MultiHeadAttention if type(layer).__name__ in names else type(layer)
        return cls.from_config(layer.get_config())

    ours = keras.models.clone_model(theirs, clone_function=swap)
    assert type(ours.layers[-1]) is MultiHeadAttention
    ours.set_weights(theirs.get_weights())
    inputs = make_inputs(rng)
    assert_near(ours(inputs), theirs(inputs))


def test_it_is_quantized_as_keras_own_is(rng, assert_near):
    models = [make_model(c) for c in BOTH]
    models[0].set_weights(models[1].get_weights())
    inputs = make_inputs(rng)
    before = keras.ops.convert_to_numpy(models[0](inputs))
    for model in models:
        # What drops has nothing to quantize, nor have the inputs.
        model.quantize("int8", filters=lambda layer: isinstance(layer, stock.EinsumDense))
    for part in ("query_dense", "key_dense", "value_dense", "output_dense"):
        assert getattr(models[0].layers[-1], part)._kernel.dtype == "int8"
    assert_near(models[0](inputs), models[1](inputs))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(models[0](inputs)), before, atol=0.1)


def test_lora_is_keras_own(rng, assert_near):
    layers = make_built()
    for layer in layers:
        for part in (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense):
            part.enable_lora(2)
            # Of two factors the second begins as zeros, and would show nothing.
            part.lora_kernel_b.assign(np.full(part.lora_kernel_b.shape, 0.1))
            part.lora_kernel_a.assign(np.full(part.lora_kernel_a.shape, 0.2))
    names = [[w.path.split("/", 1)[1] for w in layer.trainable_weights] for layer in layers]
    assert names[0] == names[1]
    assert sum("lora" in name for name in names[0]) == 8
    inputs = make_inputs(rng)
    assert_near(layers[0](*inputs), layers[1](*inputs))


def test_a_map_of_dtype_policies_reaches_the_projections():
    found = []
    for cls in BOTH:
        policies = keras.dtype_policies.DTypePolicyMap()
        policies["mha/query"] = keras.dtype_policies.DTypePolicy("bfloat16")
        layer = cls(H, K, dtype=policies, name="mha", kernel_initializer="ones")
        layer.build((B, T, D), (B, S, E))
        parts = (layer.query_dense, layer.key_dense, layer.value_dense, layer.output_dense)
        found.append([part.compute_dtype for part in parts])
    assert found[0] == found[1] == ["bfloat16", "float32", "float32", "float32"]
