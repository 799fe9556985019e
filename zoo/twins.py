"""A model, its running average, and how one step moves both, whatever the loss."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from zoo.building import POLICIES, dtype_policy, not_decayed, refuse_longer_texts
from zoo.distribution import SummedAdamW, Team
from zoo.errors import UsageError
from zoo.models import FeatureInputs, TokenInputs
from zoo.step_size import ScaledSchedule, warmup_and_cosine


def input_signature(model: keras.Model) -> dict[str, tf.TensorSpec]:
    """What `model` takes, as `tf.function` wants it."""
    return {name: tf.TensorSpec(x.shape, x.dtype) for name, x in model.input.items()}


def build_optimizer(
    config: Any, model: keras.Model, total_steps: int, step_factor: tf.Variable
) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine decay to 0 and clipping, built for the model's weights.

    Args:
        config: the rates.
        model: whose weights it will move.
        total_steps: at which the learning rate has come down to 0.
        step_factor: `float32[]`, what the learning rate is multiplied by.

    Returns:
        The optimizer, which for float16 scales the loss.
    """
    schedule = warmup_and_cosine(config.learning_rate, config.warmup_rate, total_steps)
    optimizer = SummedAdamW(
        ScaledSchedule(schedule, step_factor),
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm or None,
    )
    optimizer.exclude_from_weight_decay(not_decayed(model))
    if config.mixed_precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(model.trainable_variables)
    return optimizer


class Twins:
    """Two twins of one architecture: one that is trained, and the running average of its weights.

    The average is what is validated, kept and exported: it is worth a lower learning rate at the
    end without its cost (Polyak & Juditsky 1992). Its decay rises as `(1 + t) / (10 + t)` with
    the steps `t`, so that the first random weights are soon forgotten.

    Who inherits says what is built, in `_build`, and what a batch's loss is, in `_loss`.

    Args:
        config: the model and how it is trained, with the fields of `zoo.config.Config` that an
            optimizer and an architecture need.
        inputs: what a batch holds.
        total_steps: the length of the learning rate's schedule.
        team: the replicas that share each step; `None` for this device alone.

    Raises:
        UsageError: if the model refuses its arguments.
    """

    def __init__(
        self,
        config: Any,
        inputs: TokenInputs | FeatureInputs,
        total_steps: int,
        team: Team | None = None,
    ) -> None:
        self._config = config
        self._team = team or Team()
        with self._team.scope():
            try:
                with dtype_policy(POLICIES[config.mixed_precision]):
                    self.model = self._build(inputs)
                with dtype_policy("float32"):
                    self.averaged = self._build(inputs)
            except ValueError as error:
                raise UsageError(f"--model={config.model} --size={config.size}: {error}") from error
            refuse_longer_texts(config, self.model)
            self.averaged.set_weights(self.model.get_weights())
            self._step_factor = tf.Variable(1.0, trainable=False)
            self.optimizer = build_optimizer(config, self.model, total_steps, self._step_factor)
            self._thawed_layers = tf.Variable(1, trainable=False)
        self._schedule = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        self._depths = _depths(self.model)
        signature = [input_signature(self.model), tf.TensorSpec([None], "int32")]
        self._step = self._team.compile(self._train_step, signature)

    def _build(self, inputs: TokenInputs | FeatureInputs) -> keras.Model:
        raise NotImplementedError

    def _loss(
        self, inputs: dict[str, tf.Tensor], labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """A batch's mean loss, `float32[]`, its right answers, and all of them, `int[]`."""
        raise NotImplementedError

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

    @property
    def learning_rate(self) -> float:
        """The step size that the next step will have."""
        return float(self._schedule.learning_rate)

    def scale_steps(self, factor: float) -> None:
        """Multiplies what the schedule says by a factor, from the next step on."""
        self._step_factor.assign(factor)

    def step(self, *batch: Any) -> tuple[float, int, int]:
        """One batch.

        Args:
            *batch: what `Team.batches` gives: inputs, and labels `int32[B]`.

        Returns:
            The batch's mean loss before the step, how many of the model's answers were right then,
            and how many there were, 1 for none; of all replicas together.

        Raises:
            PeerLost: if a worker of the cluster is gone.
        """
        loss, correct, answers = self._step(*batch)
        return float(loss), int(correct), max(1, int(answers))

    def _train_step(
        self, inputs: dict[str, tf.Tensor], labels: tf.Tensor, counts: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        weights = self.model.trainable_variables
        with tf.GradientTape() as tape:
            loss, correct, answers = self._loss(inputs, labels)
            loss = tf.add_n([loss, *(tf.cast(extra, loss.dtype) for extra in self.model.losses)])
            part, loss, correct, answers = self._team.pool(loss, correct, answers, counts)
            scaled = self.optimizer.scale_loss(part)
        gradients = tape.gradient(scaled, [weight.value for weight in weights])
        self._apply(self._team.sum(gradients), weights)
        self._average()
        return loss, correct, answers

    def begin_epoch(self, epoch: int) -> None:
        """Lets another layer be moved, from the last one down, where they thaw by and by."""
        every = self._config.unfreeze_epochs
        thawed = 1 + epoch // every if every else len(self._depths) + 1
        self._thawed_layers.assign(thawed)

    def _apply(self, gradients: list[tf.Tensor], weights: list[keras.Variable]) -> None:
        """One step of the optimizer, of which each layer takes its share alone.

        Adam is blind to the scale of a gradient, so that a layer that is to keep more of what it
        learnt before has to take less of the step itself.
        """
        config = self._config
        shares = []
        for weight in weights:
            depth = self._depths[id(weight)]
            share = config.layer_step_rate**depth
            if weight.name == "embeddings":
                share *= config.embedding_step_rate
            if config.unfreeze_epochs:
                share *= tf.cast(depth < self._thawed_layers, "float32")
            shares.append(share)
        held = [(w, s) for w, s in zip(weights, shares, strict=True) if tf.is_tensor(s) or s != 1]
        before = [tf.identity(weight.value) for weight, _ in held]
        self.optimizer.apply(gradients, weights)
        for (weight, share), old in zip(held, before, strict=True):
            weight.assign(old + share * (weight.value - old))

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


def _depths(model: keras.Model) -> dict[int, int]:
    """How many layers with weights stand above each trainable weight, by the weight's `id`."""
    layers = [layer for layer in model.layers if layer.trainable_variables]
    return {
        id(weight): depth
        for depth, layer in enumerate(reversed(layers))
        for weight in layer.trainable_variables
    }
