"""Within `plain_loops`, the backend's own tools can read an LSTM."""

import keras
import numpy as np
import pytest

from zoo.layers import LSTM, plain_loops

BACKEND = keras.backend.backend()
tensorflow_alone = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="TensorFlow's tools read its graphs alone"
)


@tensorflow_alone
def test_a_call_in_training_is_saved_and_differentiated(rng, assert_near, tmp_path):
    import tensorflow as tf

    x = tf.constant(rng.normal(size=(5, 7, 3)).astype("float32"))
    module = tf.Module()
    module.layer = LSTM(2)
    module.layer.build(x.shape)
    with plain_loops():
        module.call = tf.function(lambda x: module.layer(x, training=True), autograph=False)
        module.call.get_concrete_function(tf.TensorSpec((None, None, 3)))
        tf.saved_model.save(module, tmp_path)
    slopes, loaded = [], tf.saved_model.load(tmp_path)
    for function in (loaded.call, module.layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(function(x)))
        slopes.append(tape.gradient(loss, x))
    assert_near(*slopes)


@tensorflow_alone
def test_tensorflow_lite_converts_a_model(rng):
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    inputs = keras.Input((6, 4), batch_size=1)
    model = keras.Model(inputs, LSTM(5)(inputs))
    with plain_loops():
        flat = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    x = rng.normal(size=(1, 6, 4)).astype("float32")
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model(x), atol=1e-5)


# PyTorch's own, where it first differentiates forwards.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch's tools read its functions alone")
def test_pytorch_maps_and_differentiates_forwards(rng, assert_near):
    import torch

    x = torch.tensor(rng.normal(size=(2, 5, 7, 3)).astype("float32"))
    layer = LSTM(2)
    layer(x[0])
    with torch.no_grad():
        with plain_loops():
            mapped = torch.func.vmap(layer)(x)
            _, slope = torch.func.jvp(layer, (x[0],), (x[1],))
        assert_near(mapped, torch.stack([layer(rows) for rows in x]))
        ahead, behind = (layer(x[0] + step * x[1]) for step in (1e-2, -1e-2))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-2, atol=1e-3)
