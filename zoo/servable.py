"""What answers raw inputs with stock TensorFlow ops, ready to be saved: one model, or several."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

TYPE_CHECKING = False
if TYPE_CHECKING:
    # For the types alone: who predicts needs none of what training imports.
    import keras

    from zoo.text import TextEncoder
    from zoo.wordpiece import WordPieceEncoder


class RawModel(tf.Module):
    """A model and what stands before it: raw inputs to `float32[B, C]` logits.

    Args:
        model: from ids, or features and lengths, to `float32[B, C]` logits.
        encoder: strings to ids; `None` for a model on features.

    The model's recurrent layers take no cuDNN from then on: its ops run on a GPU alone. Asking for
    a gradient is an error.
    """

    def __init__(
        self, model: "keras.Model", encoder: "TextEncoder | WordPieceEncoder | None"
    ) -> None:
        from zoo.layers.own_gradient_fast import no_gradients

        super().__init__()
        for layer in _all_layers(model):
            if hasattr(layer, "use_cudnn"):
                layer.use_cudnn = False
        self._encoder = encoder
        # The variables, not the model: Keras's own objects would be saved with it, and asked for
        # when it is loaded.
        self._variables = [variable.value for variable in model.variables]
        inputs_of: Callable[..., dict[str, tf.Tensor]]
        if encoder is not None:
            self.signature = [tf.TensorSpec([None], tf.string, name="text")]

            def inputs_of(text: tf.Tensor) -> dict[str, tf.Tensor]:
                return {"ids": encoder.encode_dense(text)}
        else:
            size = model.input["features"].shape[-1]
            self.signature = [
                tf.TensorSpec([None, None, size], tf.float32, name="features"),
                tf.TensorSpec([None], tf.int32, name="lengths"),
            ]

            inputs_of = _at_least_one_step

        def logits_of(*inputs: tf.Tensor) -> tf.Tensor:
            with no_gradients():
                return model(inputs_of(*inputs), training=False)

        self._logits_of = logits_of

    def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
        """The logits, `float32[B, C]`, of inputs as `signature` says."""
        return self._logits_of(*inputs)


class Answering(tf.Module):
    """What `tf.saved_model.save` is given: functions that answer raw inputs.

    Args:
        models: what is saved; all take the same raw inputs.
        logits_of: from these inputs to `float32[B, C]`, by way of the models.
        classes: C names.
    """

    def __init__(
        self,
        models: Sequence[RawModel],
        logits_of: Callable[..., tf.Tensor],
        classes: tuple[str, ...],
    ) -> None:
        super().__init__()
        self._models = list(models)
        names, signature = list(classes), models[0].signature

        def logits(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"logits": logits_of(*inputs)}  # float32[B, C]

        def answer(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities = tf.nn.softmax(self.logits(*inputs)["logits"])  # float32[B, C]
            label = tf.gather(tf.constant(names), tf.argmax(probabilities, axis=-1))  # string[B]
            return {"probabilities": probabilities, "label": label}

        self.logits = tf.function(logits, input_signature=signature)
        self.serve = tf.function(answer, input_signature=signature)
        self.class_names = tf.function(lambda: tf.constant(names), input_signature=[])


class Servable(Answering):
    """One model with all that it takes to answer raw inputs.

    Args:
        model: from ids, or features and lengths, to `float32[B, C]` logits; as `RawModel` says, it
            is no more to be trained.
        encoder: strings to ids; `None` for a model on features.
        classes: C names.
    """

    def __init__(
        self,
        model: "keras.Model",
        encoder: "TextEncoder | WordPieceEncoder | None",
        classes: tuple[str, ...],
    ) -> None:
        raw = RawModel(model, encoder)
        super().__init__([raw], raw, classes)


def _all_layers(layer: Any) -> Iterator[Any]:
    """A layer or model, and all layers inside it, those that a wrapper holds among them."""
    yield layer
    wrapped = (getattr(layer, f"{which}layer", None) for which in ("", "forward_", "backward_"))
    for inner in (*getattr(layer, "layers", ()), *wrapped):
        if inner is not None:
            yield from _all_layers(inner)


def _at_least_one_step(features: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
    """A model's inputs; recurrent layers fail in the graph at length 0."""
    missing = tf.maximum(0, 1 - tf.shape(features)[1])
    return {"features": tf.pad(features, [[0, 0], [0, missing], [0, 0]]), "lengths": lengths}
