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


# The methods of TensorFlow Serving that signatures are for, those of its Predict left out.
METHODS = {"classify": tf.saved_model.CLASSIFY_METHOD_NAME}

# What a server is warmed up for: callers who come alone and together, with little and with much.
_WARM_ROWS = (1, 8, 32)
# Steps of a track, of which no model says how many there may be.
_USUAL_STEPS = 128


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
        use_no_cudnn(model)
        self._encoder = encoder
        # The variables, not the model: Keras's own objects would be saved with it, and asked for
        # when it is loaded.
        self._variables = [variable.value for variable in model.variables]
        inputs_of: Callable[..., dict[str, tf.Tensor]]
        if encoder is not None:
            self.signature = [tf.TensorSpec([None], tf.string, name="text")]
            self.feature: Any = tf.io.FixedLenFeature([], tf.string)
            self.most_steps = encoder.settings.max_length

            def inputs_of(text: tf.Tensor) -> dict[str, tf.Tensor]:
                return {"ids": encoder.encode_dense(text)}
        else:
            size = model.input["features"].shape[-1]
            self.signature = [
                tf.TensorSpec([None, None, size], tf.float32, name="features"),
                tf.TensorSpec([None], tf.int32, name="lengths"),
            ]
            rows = tf.io.RaggedFeature.UniformRowLength(size)
            self.feature = tf.io.RaggedFeature(tf.float32, partitions=[rows])
            self.most_steps = _USUAL_STEPS

            inputs_of = _at_least_one_step

        def logits_of(*inputs: tf.Tensor) -> tf.Tensor:
            with no_gradients():
                return model(inputs_of(*inputs), training=False)

        self._logits_of = logits_of

    def __call__(self, *inputs: tf.Tensor) -> tf.Tensor:
        """The logits, `float32[B, C]`, of inputs as `signature` says."""
        return self._logits_of(*inputs)

    def parse(self, examples: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Inputs as `signature` says, of `string[B]`, serialized `tf.train.Example`.

        Their feature is named for the first input: one string, `text`, or the `T * D` numbers of a
        track, `features`, step by step.
        """
        key = self.signature[0].name
        found = tf.io.parse_example(examples, {key: self.feature})[key]
        if isinstance(found, tf.RaggedTensor):
            shape = self.signature[0].shape
            return found.to_tensor(shape=shape), tf.cast(found.row_lengths(), tf.int32)
        return (found,)

    def sample(self, rows: int, steps: int) -> dict[str, tf.Tensor]:
        """Inputs as `signature` says, by name, that mean nothing: `rows` of `steps` each."""
        if len(self.signature) == 1:
            return {"text": tf.fill([rows], " ".join(["a"] * steps))}
        size = self.signature[0].shape[-1]
        return {"features": tf.zeros([rows, steps, size]), "lengths": tf.fill([rows], steps)}


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

        def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            scores = self.serve(*models[0].parse(inputs))["probabilities"]  # float32[B, C]
            classes = tf.repeat(tf.constant([names]), tf.shape(scores)[0], axis=0)  # string[B, C]
            return {"classes": classes, "scores": scores}

        self.logits = tf.function(logits, input_signature=signature)
        self.serve = tf.function(answer, input_signature=signature)
        examples = [tf.TensorSpec([None], tf.string, name="inputs")]
        self.classify = tf.function(classify, input_signature=examples)
        self.class_names = tf.function(lambda: tf.constant(names), input_signature=[])
        self.explain: Any = None

    @property
    def signatures(self) -> dict[str, Any]:
        """What is asked, by name; `METHODS` has the method of each that is not predict."""
        found = {"serving_default": self.serve, "logits": self.logits, "classify": self.classify}
        return found | ({"explain": self.explain} if self.explain is not None else {})

    def warmup(self) -> Iterator[tuple[str, dict[str, tf.Tensor]]]:
        """Requests that a server may ask itself before others ask it: signatures and inputs."""
        model = self._models[0]
        for rows in _WARM_ROWS:
            for steps in sorted({1, min(16, model.most_steps), model.most_steps}):
                yield "serving_default", model.sample(rows, steps)
        if self.explain is not None:
            yield "explain", model.sample(1, min(16, model.most_steps))


class Servable(Answering):
    """One model with all that it takes to answer raw inputs.

    Args:
        model: from ids, or features and lengths, to `float32[B, C]` logits; as `RawModel` says, it
            is no more to be trained.
        encoder: strings to ids; `None` for a model on features.
        classes: C names.
        explain: whether it is to explain its answers too, as `zoo.explain_signature` does; a model
            on features, or one whose tokens have no vectors, never does.
    """

    def __init__(
        self,
        model: "keras.Model",
        encoder: "TextEncoder | WordPieceEncoder | None",
        classes: tuple[str, ...],
        explain: bool = False,
    ) -> None:
        from zoo.attribution import has_embedding
        from zoo.explain_signature import explain_function

        raw = RawModel(model, encoder)
        super().__init__([raw], raw, classes)
        if explain and encoder is not None and has_embedding(model):
            function = explain_function(model, encoder, self.logits, classes)
            self.explain = tf.function(function, input_signature=raw.signature)


def use_no_cudnn(model: "keras.Model") -> None:
    """Has a model's recurrent layers make graphs that run on any machine, from then on.

    Example:
        >>> from zoo.models import MODELS, TokenInputs
        >>> model = MODELS["lstm"](TokenInputs(num_ids=9), num_classes=2)
        >>> use_no_cudnn(model)
        >>> model.get_layer("lstm_0").use_cudnn
        False
    """
    for layer in _all_layers(model):
        if hasattr(layer, "use_cudnn"):
            layer.use_cudnn = False


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
