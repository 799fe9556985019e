"""What every layer must do, whatever it computes: one set of tests over the table of all."""

import inspect
import json
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as stock

import zoo.layers
from tests.layers.cases import (
    BACKEND,
    CASES,
    MASKED,
    TELLING,
    UNKNOWN,
    WEIGHTED,
    B,
    D,
    T,
    call,
    flat,
    make_arrays,
    make_masks,
    make_model,
    symbolic,
)
from zoo.layers import (
    MaskedPooling,
)


@pytest.fixture(params=sorted(CASES))
def case(request):
    return CASES[request.param]


def test_the_table_names_every_layer():
    exported = {
        name
        for name in zoo.layers.__all__
        if inspect.isclass(value := getattr(zoo.layers, name))
        and issubclass(value, keras.layers.Layer)
    }
    assert {type(case.make()).__name__ for case in CASES.values()} == exported


def test_every_constructor_argument_is_a_config_key(case):
    layer = case.make(name="named", trainable=False)
    config = layer.get_config()
    arguments = inspect.signature(type(layer)).parameters
    # But for what Keras's layer of the name has not: where it is off, Keras's shall take the rest.
    for name in set(arguments) - {"kwargs"} - set(config):
        assert hasattr(stock, type(layer).__name__), name
        theirs = inspect.signature(getattr(stock, type(layer).__name__)).parameters
        assert name not in theirs, name
        assert getattr(layer, name) == arguments[name].default, name
    json.dumps(config)
    again = type(layer).from_config(config)
    assert again.get_config() == config
    assert (again.name, again.trainable) == ("named", False)


def test_every_constructor_argument_is_an_attribute(case):
    layer = case.make()
    # Keras's models ask `output_shape` of a layer and mean what it returns, so Keras hides it too.
    for name in set(inspect.signature(type(layer)).parameters) - {"kwargs", "output_shape"}:
        assert hasattr(layer, name), name


def test_it_is_registered_under_our_package(case):
    cls = type(case.make())
    assert keras.saving.get_registered_name(cls) == f"zoo>{cls.__name__}"
    assert keras.saving.get_registered_object(f"zoo>{cls.__name__}") is cls


def test_a_clone_has_the_same_configuration_and_weights(case, assert_near):
    model = make_model(case, case.make())
    clone = keras.models.clone_model(model)
    layers = [[x.get_config() for x in m.layers[len(m.inputs) :]] for m in (clone, model)]
    assert layers[0] == layers[1]
    clone.set_weights(model.get_weights())
    arrays = make_arrays(case)
    assert_near(flat(clone(arrays)), flat(model(arrays)), 0.0)


def test_a_saved_model_loads_without_custom_objects(case, assert_near, randomize, tmp_path):
    model = make_model(case, case.make())
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(x) for x in loaded.layers] == [type(x) for x in model.layers]
    arrays = make_arrays(case)
    assert_near(flat(loaded(arrays)), flat(model(arrays)), 0.0)


def test_saved_weights_load_into_a_new_layer(case, assert_near, randomize, tmp_path):
    if not (weights := make_model(case, case.make()).weights):
        assert weights == []
        return
    first, second = (make_model(case, case.make()) for _ in range(2))
    randomize(first)
    first.save_weights(tmp_path / "some.weights.h5")
    second.load_weights(tmp_path / "some.weights.h5")
    assert_near(second.get_weights(), first.get_weights(), 0.0)


@pytest.mark.parametrize("fixed", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_symbolic_shapes_and_types_are_the_eager_ones(case, fixed, policy):
    if BACKEND == "torch" and case.takes == "step" and policy != "float32":
        pytest.skip("Keras traces no cell's types under PyTorch, its own neither")
    layer = case.make(dtype=policy)
    outputs = keras.tree.flatten(call(case, layer, symbolic(case, fixed)))
    eager = keras.tree.flatten(call(case, layer, make_arrays(case)))
    for guess, fact in zip(outputs, eager, strict=True):
        assert keras.backend.standardize_dtype(fact.dtype) == guess.dtype
        expected = list(fact.shape) if fixed else [None if n in UNKNOWN else n for n in fact.shape]
        assert list(guess.shape) == expected


@pytest.mark.parametrize("name", TELLING)
def test_the_layer_tells_its_output_shape(name):
    case = CASES[name]
    layer = case.make()
    arrays = make_arrays(case)
    eager = call(case, layer, arrays)
    shapes = [a.shape for a in arrays]
    told = (
        layer.compute_output_shape(shapes)
        if case.takes == "track"
        else layer.compute_output_shape(*shapes)
    )
    if isinstance(eager, list | tuple):
        assert [tuple(s) for s in told] == [tuple(o.shape) for o in eager]
    else:
        assert tuple(told) == tuple(eager.shape)


@pytest.mark.parametrize("name", MASKED)
def test_an_explicit_mask_does_what_a_keras_mask_does(name, assert_near):
    case = CASES[name]
    layer, arrays, masks = case.make(), make_arrays(case), make_masks(case)
    explicit = call(case, layer, arrays, masks)
    # Masking passes on zeros where the mask is false, and so the layer must not look there.
    inputs = symbolic(case)
    carried = [stock.Masking(mask_value=0.0)(x) for x in inputs]
    model = keras.Model(inputs, call(case, layer, carried))
    zeroed = [a * m[..., None] for a, m in zip(arrays, masks, strict=True)]
    implicit = model(zeroed)
    real = masks[0] if case.keeps_steps else None
    for ours, theirs in zip(flat(explicit), flat(implicit), strict=True):
        if real is None:
            assert_near(ours, theirs)
        else:
            assert_near(ours[real], theirs[real])


@pytest.mark.parametrize("name", MASKED)
def test_a_mask_changes_the_result(name):
    case = CASES[name]
    layer, arrays, masks = case.make(), make_arrays(case), make_masks(case)
    with_mask = flat(call(case, layer, arrays, masks))
    without = flat(call(case, layer, arrays))
    # Row 3 is whole, on both sides; row 0 is not.
    assert any(np.abs(a[0] - b[0]).max() > 1e-3 for a, b in zip(with_mask, without, strict=True))
    for a, b in zip(with_mask, without, strict=True):
        np.testing.assert_allclose(a[3], b[3], atol=1e-6)


@pytest.mark.parametrize("where", ["behind", "before"])
@pytest.mark.parametrize("name", MASKED)
def test_masked_steps_change_no_result(name, where, assert_near):
    case = CASES[name]
    layer, arrays, masks = case.make(), make_arrays(case), make_masks(case)
    short = flat(call(case, layer, arrays, masks))
    width = (0, 29) if where == "behind" else (29, 0)
    # What is appended must not matter, so it is not zero.
    longer = [np.pad(a, ((0, 0), width, (0, 0)), constant_values=9.0) for a in arrays]
    masks = [np.pad(m, ((0, 0), width)) for m in masks]
    long = flat(call(case, layer, longer, masks))
    real = make_masks(case)[0]
    for ours, theirs in zip(long, short, strict=True):
        if case.keeps_steps and ours.ndim == 3:
            kept = ours[:, :T] if where == "behind" else ours[:, 29:]
            if "backwards" in name:
                kept = ours[:, 29:] if where == "behind" else ours[:, :T]
            assert_near(kept[real], theirs[real])
        else:
            assert_near(ours, theirs)


@pytest.mark.parametrize("name", MASKED)
def test_a_wholly_masked_row_gives_numbers(name):
    case = CASES[name]
    layer, arrays = case.make(), make_arrays(case)
    masks = [np.zeros(a.shape[:2], bool) for a in arrays]
    assert all(np.isfinite(o).all() for o in flat(call(case, layer, arrays, masks)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_near_and_keeps_float32_weights(case, policy):
    arrays = make_arrays(case)
    layer, exact = case.make(dtype=policy), case.make(dtype="float32")
    mixed, full = call(case, layer, arrays), call(case, exact, arrays)
    exact.set_weights(layer.get_weights())
    full = flat(call(case, exact, arrays))
    assert all(w.dtype == "float32" for w in layer.weights if w.name != "seed_generator_state")
    for tensor, number in zip(keras.tree.flatten(mixed), full, strict=True):
        if case.takes != "ids":
            assert keras.backend.standardize_dtype(tensor.dtype) == policy.removeprefix("mixed_")
        tensor = keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))
        np.testing.assert_allclose(tensor, number, atol=0.1, rtol=0.05)


def test_float64_is_float64(case):
    if BACKEND == "jax":
        pytest.skip("jax has no float64 unless told so for the whole process")
    layer, exact = case.make(dtype="float64"), case.make(dtype="float32")
    arrays = [a.astype("float64") if a.dtype == "float32" else a for a in make_arrays(case)]
    outputs = keras.tree.flatten(call(case, layer, arrays))
    call(case, exact, make_arrays(case))
    exact.set_weights(layer.get_weights())
    expected = flat(call(case, exact, make_arrays(case)))
    for ours, theirs in zip(outputs, expected, strict=True):
        if case.takes != "ids":
            assert keras.backend.standardize_dtype(ours.dtype) == "float64"
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), theirs, atol=1e-5, rtol=1e-5)


def compiled(function, jit):
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=jit)
    import jax

    return jax.jit(function)


@pytest.mark.skipif(BACKEND == "torch", reason="torch runs eagerly")
@pytest.mark.parametrize("jit", [False, True] if BACKEND == "tensorflow" else [True])
def test_a_graph_gives_the_eager_numbers(case, jit, assert_near):
    layer, arrays, masks = case.make(), make_arrays(case), make_masks(case) if case.masks else ()
    eager = call(case, layer, arrays, masks)
    arrays = [keras.ops.convert_to_tensor(a) for a in arrays]
    graph = compiled(lambda *inputs: call(case, layer, inputs, masks), jit)(*arrays)
    assert_near(flat(graph), flat(eager))


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (1, T), (B, 1)])
def test_one_row_and_one_step(case, rows, steps, assert_near):
    layer, arrays = case.make(), make_arrays(case, rows, steps)
    alone = flat(call(case, layer, arrays))
    assert all(np.isfinite(o).all() for o in alone)
    twice = flat(call(case, layer, [np.concatenate([a, a]) for a in arrays]))
    for one, two in zip(alone, twice, strict=True):
        assert_near(two[:rows], one)
        assert_near(two[rows:], one)


def test_no_rows_at_all(case):
    outputs = flat(call(case, layer := case.make(), make_arrays(case)))
    empty = flat(call(case, layer, make_arrays(case, rows=0)))
    assert [o.shape[1:] for o in empty] == [o.shape[1:] for o in outputs]
    assert all(len(o) == 0 for o in empty)


def test_half_precision_throughout(case):
    if BACKEND == "torch" and case.takes == "step":
        pytest.skip("Keras's initial states are float32 there, its own cell's too")
    for dtype in ("bfloat16", "float16"):
        outputs = keras.tree.flatten(call(case, case.make(dtype=dtype), make_arrays(case)))
        for output in outputs:
            if case.takes != "ids":
                assert keras.backend.standardize_dtype(output.dtype) == dtype
            assert np.isfinite(flat(keras.ops.cast(output, "float32"))[0]).all()


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", WEIGHTED)
def test_one_training_step_moves_every_weight(name, policy):
    if name.endswith("regularized") and policy != "float32" and BACKEND == "tensorflow":
        pytest.skip("Keras adds up losses of one type alone")
    case = CASES[name]
    layer = case.make(dtype=policy)
    model = make_model(case, layer)
    before = [w.numpy() if BACKEND == "tensorflow" else flat(w)[0] for w in layer.trainable_weights]
    # By XLA, as far as the backend has it; but a cell by itself keeps its dropout mask, which no
    # other graph may see, until an RNN bids it draw another.
    xla = BACKEND != "torch" and not (name == "cell-dropout" and BACKEND == "tensorflow")
    model.compile(keras.optimizers.SGD(0.5), loss="mse", jit_compile=xla, run_eagerly=not xla)
    arrays = make_arrays(case)
    shapes = [o.shape for o in flat(call(case, layer, arrays))]
    targets = [np.random.default_rng(6).normal(size=s).astype("float32") for s in shapes]
    loss = model.train_on_batch(arrays, targets if len(targets) > 1 else targets[0])
    assert np.isfinite(loss).all()
    assert layer.trainable_weights
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        if not weight.path.endswith(case.still or ("none",)):
            assert np.abs(flat(weight)[0] - old).max() > 0, weight.path


def test_attention_pooling_learns():
    layer = MaskedPooling("attention")
    x = np.random.default_rng(1).normal(size=(B, T, D)).astype("float32")
    model = keras.Sequential([layer])
    model.build((B, T, D))
    before = layer.get_weights()
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="mse", run_eagerly=BACKEND != "jax")
    model.train_on_batch(x, np.ones((B, D), "float32"))
    assert len(before) == 3
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, layer.get_weights(), strict=True))


def test_the_same_seed_gives_the_same_dropout(case):
    arrays = make_arrays(case)
    first, second = case.make(), case.make()
    call(case, first, arrays), call(case, second, arrays)
    second.set_weights(first.get_weights())
    ours = flat(call(case, first, arrays, training=True)) if _drops(first) else None
    if ours is None:
        return
    theirs = flat(call(case, second, arrays, training=True))
    still = flat(call(case, first, arrays))
    for a, b, c in zip(ours, theirs, still, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def _drops(layer) -> Any:
    return getattr(layer, "dropout", 0) or getattr(layer, "rate", 0)
