"""What the tests of the layers share: seeds, random arrays, gradients under any backend."""

import keras
import numpy as np
import pytest


def pytest_configure(config):
    # Of Keras's own tests, which `test_keras_suites.py` runs.
    config.addinivalue_line("markers", "requires_trainable_backend: needs gradients")


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(2)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def numpy():
    """Returns a function that makes NumPy arrays of any structure of tensors."""
    return _to_numpy


@pytest.fixture
def gradients():
    """Returns a function: outputs, and the gradients of a fixed weighted sum of them."""
    return _gradients


@pytest.fixture
def assert_near():
    """Returns a function that holds two structures of arrays to within 1e-5 of one another.

    Of an array with numbers above one, 1e-5 of its largest: float32 can do no better.
    """
    return _assert_near


@pytest.fixture
def randomize():
    """Returns a function that gives a layer weights of which none is zero or one."""
    return _randomize


@pytest.fixture
def no_flash_attention():
    """Keras asks for flash attention nowhere while the test runs."""
    keras.config.disable_flash_attention()
    yield
    keras.config.enable_flash_attention()


@pytest.fixture
def make_mask():
    """Returns a function: a mask of a kind, `bool[rows, steps]`, or `None` for the kind "none"."""
    return _make_mask


@pytest.fixture
def same_weights():
    """Returns a function that builds two layers and gives them the same random weights."""
    return _same_weights


def _make_mask(kind, rows=5, steps=7):
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


def _same_weights(ours, theirs, *shapes):
    for layer in (ours, theirs):
        layer.build(*shapes)
    _randomize(theirs)
    ours.set_weights(theirs.get_weights())
    return ours, theirs


def _to_numpy(structure):
    return keras.tree.map_structure(
        lambda t: None if t is None else keras.ops.convert_to_numpy(t), structure
    )


def _assert_near(actual, expected, tolerance=1e-5):
    actual, expected = keras.tree.flatten(actual), keras.tree.flatten(expected)
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        ours, theirs = _to_numpy(ours), _to_numpy(theirs)
        assert ours.shape == theirs.shape
        peak = max(1.0, np.abs(theirs).max(initial=0.0))
        np.testing.assert_allclose(ours, theirs, atol=tolerance * peak, rtol=tolerance)


def _randomize(layer, seed=5, scale=0.4):
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.normal(size=w.shape, scale=scale) for w in layer.get_weights()])


def _loss(outputs):
    """A sum that weighs every element otherwise, so that no two errors cancel."""
    total = 0.0
    for output in keras.tree.flatten(outputs):
        count = int(np.prod(output.shape))
        weights = np.cos(np.arange(count, dtype="float32")).reshape(output.shape)
        weights = keras.ops.convert_to_tensor(weights)
        total = total + keras.ops.sum(keras.ops.cast(output, "float32") * weights)
    return total


def _gradients(layer, function, inputs):
    """Outputs of `function(*inputs)`, and the gradients for the inputs and `layer`'s weights.

    Args:
        layer: what holds the weights; built.
        function: calls the layer.
        inputs: NumPy arrays of floats.

    Returns:
        Three lists of NumPy arrays.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        outputs, of_inputs, of_weights = _tensorflow(layer, function, inputs)
    elif backend == "jax":
        outputs, of_inputs, of_weights = _jax(layer, function, inputs)
    else:
        outputs, of_inputs, of_weights = _torch(layer, function, inputs)
    return (
        [_to_numpy(o) for o in keras.tree.flatten(outputs)],
        [_to_numpy(g) for g in of_inputs],
        [_to_numpy(g) for g in of_weights],
    )


def _tensorflow(layer, function, inputs):
    import tensorflow as tf

    inputs = [tf.constant(x) for x in inputs]
    weights = [w.value for w in layer.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        loss = _loss(outputs)
    zero = tf.UnconnectedGradients.ZERO
    of_inputs, of_weights = tape.gradient(loss, (inputs, weights), unconnected_gradients=zero)
    return outputs, of_inputs, of_weights


def _jax(layer, function, inputs):
    import jax

    variables = layer.trainable_weights

    def run(inputs, weights):
        mapping = zip(variables, weights, strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)):
            outputs = function(*inputs)
            return _loss(outputs), outputs

    inputs = [jax.numpy.asarray(x) for x in inputs]
    weights = [w.value for w in variables]
    (_, outputs), grads = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)(inputs, weights)
    return outputs, *grads


def _torch(layer, function, inputs):
    import torch

    device = keras.ops.zeros(1).device
    inputs = [torch.tensor(x, requires_grad=True, device=device) for x in inputs]
    weights = [w.value for w in layer.trainable_weights]
    outputs = function(*inputs)
    grads = torch.autograd.grad(_loss(outputs), [*inputs, *weights], allow_unused=True)
    sides = zip(grads, [*inputs, *weights], strict=True)
    grads = [torch.zeros_like(w) if g is None else g for g, w in sides]
    return outputs, grads[: len(inputs)], grads[len(inputs) :]
