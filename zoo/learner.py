"""A model, its running average, and the one step that moves both."""

import contextlib
from collections.abc import Callable, Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from zoo.config import Config
from zoo.errors import UsageError
from zoo.models import MODELS, WITHOUT_EMBEDDING, FeatureInputs, TokenInputs

# Weights that decay would only hurt, by the names that Keras gives them.
_NOT_DECAYED = ("bias", "gamma", "beta", "embeddings")
_POLICIES = {"none": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@contextlib.contextmanager
def _dtype_policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def input_signature(model: keras.Model) -> dict[str, tf.TensorSpec]:
    """What `model` takes, as `tf.function` wants it."""
    return {name: tf.TensorSpec(x.shape, x.dtype) for name, x in model.input.items()}


def build_optimizer(
    config: Config, model: keras.Model, total_steps: int
) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine decay to 0 and clipping, built for the model's weights.

    Args:
        config: the rates.
        model: whose weights it will move.
        total_steps: at which the learning rate has come down to 0.

    Returns:
        The optimizer, which for float16 scales the loss.
    """
    warmup_steps = int(config.warmup_rate * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        # Not from 0: the first batch would be wasted.
        config.learning_rate / (warmup_steps + 1) if warmup_steps else config.learning_rate,
        decay_steps=total_steps - warmup_steps,
        warmup_target=config.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=config.weight_decay, global_clipnorm=config.clip_norm or None
    )
    optimizer.exclude_from_weight_decay(
        [v for v in model.trainable_variables if v.name in _NOT_DECAYED]
    )
    if config.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


class Learner:
    """Two twins of one architecture: one that is trained, and the running average of its weights.

    The average is what is validated, kept and exported: it is worth a lower learning rate at the
    end without its cost (Polyak & Juditsky 1992). Its decay rises as `(1 + t) / (10 + t)` with
    the steps `t`, so that the first random weights are soon forgotten.

    Args:
        config: the model and how it is trained.
        inputs: what a batch holds.
        num_classes: C.
        total_steps: the length of the learning rate's schedule.

    Raises:
        UsageError: if the model refuses its arguments.
    """

    def __init__(
        self,
        config: Config,
        inputs: TokenInputs | FeatureInputs,
        num_classes: int,
        total_steps: int,
    ) -> None:
        self._config = config
        self._loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=config.label_smoothing_rate
        )
        try:
            with _dtype_policy(_POLICIES[config.mixed_precision]):
                self.model = self._build(inputs, num_classes)
            with _dtype_policy("float32"):
                self.averaged = self._build(inputs, num_classes)
        except ValueError as error:
            raise UsageError(f"--model={config.model} --size={config.size}: {error}") from error
        self.averaged.set_weights(self.model.get_weights())
        self.optimizer = build_optimizer(config, self.model, total_steps)
        self._schedule = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        signature = [input_signature(self.model), tf.TensorSpec([None], "int32")]
        # Without AutoGraph: nothing here depends on the values of tensors.
        self._step = tf.function(self._train_step, signature, autograph=False)
        self.logits = logits_function(self.averaged)

    def _build(self, inputs: TokenInputs | FeatureInputs, num_classes: int) -> keras.Model:
        return MODELS[self._config.model](
            inputs,
            num_classes,
            size=self._config.size,
            dropout_rate=self._config.dropout_rate,
            word_dropout_rate=self._config.word_dropout_rate,
            recurrent_dropout_rate=self._config.recurrent_dropout_rate,
        )

    @property
    def variables(self) -> dict[str, list[tf.Variable]]:
        """All that a step reads and changes, random states included."""
        owners = {"model": self.model, "averaged": self.averaged, "optimizer": self.optimizer}
        return {name: [v.value for v in owner.variables] for name, owner in owners.items()}

    @property
    def word_vector_dim(self) -> int:
        """Size of a word's vector."""
        return self.model.get_layer("embedding").embeddings.shape[1]

    def set_word_vectors(self, vectors: np.ndarray) -> None:
        """Gives both twins' embeddings their first values, `float32[num_ids, dim]`."""
        for twin in (self.model, self.averaged):
            twin.get_layer("embedding").embeddings.assign(vectors)

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
                one. Its random states are left to it.
            same_classes: whether its last layer means what ours does; else that one stays random.

        Raises:
            UsageError: if a weight of it has another shape, or it counts n-grams for other classes.
        """
        for twin in (self.model, self.averaged):
            if self._config.model in WITHOUT_EMBEDDING:
                self._add_ngrams(twin, model, same_classes)
            else:
                self._copy_weights(twin, model, same_classes)

    def _copy_weights(self, twin: keras.Model, model: keras.Model, same_classes: bool) -> None:
        if [layer.name for layer in twin.layers] != [layer.name for layer in model.layers]:
            raise UsageError(
                f"--warm_start={self._config.warm_start} cannot work: another version of this code "
                f"made its {self._config.model}, of other layers; train it anew"
            )
        for layer, known in zip(twin.layers, model.layers, strict=True):
            if layer.name == "logits" and not same_classes:
                continue
            for ours, theirs in zip(layer.weights, known.weights, strict=True):
                if not keras.backend.is_float_dtype(ours.dtype):
                    continue
                value = keras.ops.convert_to_numpy(theirs)
                if ours.name == "embeddings":
                    new = np.repeat(value[1:2], ours.shape[0] - len(value), axis=0)
                    value = np.concatenate([value, new])
                if ours.shape != value.shape:
                    raise UsageError(
                        f"--warm_start={self._config.warm_start} cannot work: its {ours.path} "
                        f"is of shape {value.shape}, not {ours.shape}"
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

    @property
    def learning_rate(self) -> float:
        """The step size that the next step will have."""
        return float(self._schedule.learning_rate)

    def step(self, inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> tuple[float, int]:
        """One batch.

        Args:
            inputs: as `zoo.pipeline.batches` gives them.
            labels: `int32[B]`.

        Returns:
            The batch's mean loss, and how many of its rows were classified correctly, both before
            the step.
        """
        loss, correct = self._step(inputs, labels)
        return float(loss), int(correct)

    def _train_step(
        self, inputs: dict[str, tf.Tensor], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        weights = self.model.trainable_variables
        with tf.GradientTape() as tape:
            logits = self.model(inputs, training=True)  # float32[B, C]
            loss = self._loss(tf.one_hot(labels, logits.shape[-1]), logits)  # float32[]
            loss = tf.add_n([loss, *(tf.cast(extra, loss.dtype) for extra in self.model.losses)])
            scaled = self.optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [weight.value for weight in weights])
        self._apply(gradients, weights)
        self._average()
        predicted = tf.argmax(logits, axis=-1, output_type=labels.dtype)  # int32[B]
        return loss, tf.math.count_nonzero(predicted == labels)

    def _apply(self, gradients: list[tf.Tensor], weights: list[keras.Variable]) -> None:
        """One step of the optimizer, of which the embedding takes its share alone.

        Adam is blind to the scale of a gradient, so that a slower embedding, which keeps what
        word vectors learnt without labels, has to take less of the step itself.
        """
        share = self._config.embedding_step_rate
        tables = [weight for weight in weights if weight.name == "embeddings" and share < 1]
        before = [tf.identity(table.value) for table in tables]
        self.optimizer.apply(gradients, weights)
        for table, old in zip(tables, before, strict=True):
            table.assign(old + share * (table.value - old))

    def _average(self) -> None:
        done = tf.cast(self._schedule.iterations, "float32")
        decay = tf.minimum(self._config.average_decay, (1 + done) / (10 + done))
        for average, weight in zip(self.averaged.weights, self.model.weights, strict=True):
            if weight.trainable and self._config.average_decay:
                average.assign_add((1 - decay) * (weight.value - average.value))
            else:
                average.assign(weight)

    def is_finite(self) -> bool:
        """Whether no weight of either twin is infinite or not a number."""
        weights = [*self.model.weights, *self.averaged.weights]
        return all(
            bool(tf.reduce_all(tf.math.is_finite(weight.value)))
            for weight in weights
            if weight.value.dtype.is_floating
        )


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
