"""A classifier in training: its loss, and what it begins with."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from zoo.config import Config
from zoo.distribution import Team
from zoo.errors import UsageError
from zoo.models import MODELS, WITHOUT_EMBEDDING, FeatureInputs, TokenInputs
from zoo.twins import Twins, input_signature


class Learner(Twins):
    """Twins that learn to classify.

    Args:
        config: the model and how it is trained.
        inputs: what a batch holds.
        num_classes: C.
        total_steps: the length of the learning rate's schedule.
        team: the replicas that share each step; `None` for this device alone.

    Raises:
        UsageError: if the model refuses its arguments.
    """

    def __init__(
        self,
        config: Config,
        inputs: TokenInputs | FeatureInputs,
        num_classes: int,
        total_steps: int,
        team: Team | None = None,
    ) -> None:
        self._num_classes = num_classes
        self._entropy = keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=config.label_smoothing_rate,
            # Keras would divide a mean by the number of replicas.
            reduction="sum",
        )
        super().__init__(config, inputs, total_steps, team)
        self.logits = logits_function(self.averaged)

    def _build(self, inputs: TokenInputs | FeatureInputs) -> keras.Model:
        return MODELS[self._config.model](
            inputs,
            self._num_classes,
            size=self._config.size,
            dropout_rate=self._config.dropout_rate,
            word_dropout_rate=self._config.word_dropout_rate,
            recurrent_dropout_rate=self._config.recurrent_dropout_rate,
        )

    def _loss(
        self, inputs: dict[str, tf.Tensor], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        logits = self.model(inputs, training=True)  # float32[B, C]
        total = self._entropy(tf.one_hot(labels, logits.shape[-1]), logits)  # float32[]
        loss = total / tf.cast(tf.shape(labels)[0], total.dtype)
        predicted = tf.argmax(logits, axis=-1, output_type=labels.dtype)  # int32[B]
        return loss, tf.math.count_nonzero(predicted == labels), tf.shape(labels)[0]

    def adapt(self, batches: Iterable[tuple[dict[str, tf.Tensor], tf.Tensor]]) -> None:
        """Lets layers that measure the data before training do so, in both twins alike.

        Args:
            batches: the training split, once.
        """
        for layer, twin in zip(self.model.layers, self.averaged.layers, strict=True):
            if hasattr(layer, "adapt_to_labels"):
                seen = keras.Model(self.model.input, layer.input)
                layer.adapt_to_labels((seen(inputs), labels) for inputs, labels in batches)
                twin.set_weights(layer.get_weights())
            elif hasattr(layer, "adapt_to_tracks"):
                layer.adapt_to_tracks((one["features"], one["lengths"]) for one, _ in batches)
                twin.set_weights(layer.get_weights())

    def begin_with(self, model: keras.Model, same_classes: bool) -> None:
        """Gives both twins the weights of a model of the same family and size.

        Args:
            model: whose vocabulary ours begins with; a word that it lacks begins as its unknown
                one. Its random states are left to it, and so are layers of it that ours lacks.
            same_classes: whether its last layer means what ours does; else that one stays random.

        Raises:
            UsageError: if a layer is missing in it, a weight of it has another shape, or it counts
                n-grams for other classes.
        """
        for twin in (self.model, self.averaged):
            if self._config.model in WITHOUT_EMBEDDING:
                self._add_ngrams(twin, model, same_classes)
            else:
                self._copy_weights(twin, model, same_classes)

    def _copy_weights(self, twin: keras.Model, model: keras.Model, same_classes: bool) -> None:
        flag = "pretrained" if self._config.pretrained else "warm_start"
        begin = f"--{flag}={getattr(self._config, flag)} cannot work"
        known = {layer.name: layer for layer in model.layers}
        for layer in twin.layers:
            if not layer.weights or (layer.name == "logits" and not same_classes):
                continue
            if layer.name not in known:
                raise UsageError(
                    f"{begin}: another version of this code made its {self._config.model}, of "
                    "other layers; train it anew"
                )
            for ours, theirs in zip(layer.weights, known[layer.name].weights, strict=True):
                if not keras.backend.is_float_dtype(ours.dtype):
                    continue
                value = keras.ops.convert_to_numpy(theirs)
                if ours.name == "embeddings":
                    new = np.repeat(value[1:2], ours.shape[0] - len(value), axis=0)
                    value = np.concatenate([value, new])
                if ours.shape != value.shape:
                    raise UsageError(
                        f"{begin}: its {ours.path} is of shape {value.shape}, not {ours.shape}"
                    )
                ours.assign(value)

    def _add_ngrams(self, twin: keras.Model, model: keras.Model, same_classes: bool) -> None:
        if not same_classes:
            raise UsageError(
                f"--warm_start={self._config.warm_start} cannot work: its classes are others, and "
                "n-grams tell nothing but classes"
            )
        ours, theirs = (one.get_layer("ngrams") for one in (twin, model))
        # Words first, with the same ids in both vocabularies, then the buckets.
        words, buckets = np.arange(theirs.num_ids), np.arange(theirs.num_buckets)
        places = np.concatenate([words, ours.num_ids + buckets])
        twin.get_layer("logits").add_weights_of(model.get_layer("logits"), places)


def divide_logits(model: keras.Model, temperature: float) -> None:
    """Divides a model's answers, by way of the weights that they are linear in.

    Args:
        model: of `zoo.models`, all of which end in a layer `"logits"`.
        temperature: above 0.
    """
    for weight in model.get_layer("logits").trainable_weights:
        weight.assign(weight / temperature)


def logits_function(model: keras.Model) -> Callable[[dict[str, tf.Tensor]], tf.Tensor]:
    """The model as one graph for batches of any shape, traced here and not in the first call."""
    graph = tf.function(
        lambda inputs: model(inputs, training=False), [input_signature(model)], autograph=False
    )
    graph.get_concrete_function()
    return graph
