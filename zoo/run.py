"""A run under way: the loop over epochs and steps, and all that may happen in it."""

import os
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from zoo import metrics, pipeline, plots
from zoo.checkpoint import Checkpoints, Progress
from zoo.distribution import Team
from zoo.divergence import Divergence
from zoo.errors import Diverged, RunError, UsageError
from zoo.evaluation import EVALUATION_TOKENS, evaluate_split
from zoo.event_log import EventLog
from zoo.interrupts import Signals
from zoo.learner import Learner, divide_logits, logits_function
from zoo.machine import machine, versions
from zoo.models import FeatureInputs, TokenInputs
from zoo.whole_files import replacing
from zoo.wordpiece import make_encoder
from zoo.workdir import Workdir


def say(text: str) -> None:
    """Prints a line; a run outlives the reader of its output."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def require_tensorflow() -> None:
    """Refuses Keras's other backends, on which nothing here trains or writes.

    Raises:
        UsageError: naming the backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"this runs on TensorFlow, not on KERAS_BACKEND={keras.backend.backend()}")


class Run:
    """A run under way.

    Args:
        config: a `zoo.config.Config`: what is trained, and how.
        folder: where it leaves its files.
        data: a `zoo.pipeline.EncodedTask`: on what.
        signals: what may interrupt it.
        known: the model that training begins with, its vocabulary being the beginning of the
            data's, and the names of its classes, an encoder having none; `None` for a random one.
        team: the replicas that share its steps, and that this process leads; `None` for this
            device alone.
    """

    def __init__(
        self,
        config: Any,
        folder: Workdir,
        data: Any,
        signals: Signals,
        known: tuple[keras.Model, tuple[str, ...]] | None = None,
        team: Team | None = None,
    ) -> None:
        self._config = config
        self._team = team or Team(signals=signals)
        self._folder = folder
        self._signals = signals
        # Ended while all make their variables, it would leave the others waiting for these.
        signals.patient = self._team.num_workers > 1
        self._team.require_same(config, data)
        self._text = data.splits["train"]
        self._train = training_split(config, data)
        self._validation = data.splits["validation"]
        self._total_steps = pipeline.count_steps(config, self._train)
        inputs = model_inputs(data)
        try:
            self._learner = self._make_learner(inputs, data)
        except tf.errors.ResourceExhaustedError as error:
            raise RunError(
                f"out of memory: --size={config.size} with --vocabulary_size="
                f"{config.vocabulary_size} is too large for this machine"
            ) from error
        signals.patient = False
        signals.stop()
        self._progress = Progress()
        self._checkpoints = Checkpoints(
            folder.checkpoints,
            self._learner.variables,
            self._progress,
            config.keep_checkpoints,
            self._require_finite,
        )
        self._divergence = Divergence(config, folder, self._learner, self._progress)
        self._restore_or_begin(inputs, data, known)
        share = pipeline.padding_share(self._train.lengths, self._plan(0))
        say(
            f"{config.task}: {len(self._train):,} training examples, {self._total_steps} steps in "
            f"{config.epochs} epochs, {share:.1%} padding; {config.model} {config.size}: "
            f"{self._learner.model.count_params():,} parameters"
        )

    def _make_learner(self, inputs: TokenInputs | FeatureInputs, data: Any) -> Any:
        classes = len(data.task.classes)
        return Learner(self._config, inputs, classes, self._total_steps, self._team)

    def _plan(self, epoch: int) -> list[np.ndarray]:
        return pipeline.epoch_plan(self._config, self._train, epoch)

    def _restore_or_begin(
        self,
        inputs: TokenInputs | FeatureInputs,
        data: Any,
        known: tuple[keras.Model, tuple[str, ...]] | None,
    ) -> None:
        progress = self._progress
        if self._checkpoints.numbers():  # other data may have other words, which fit no state
            self._folder.resume(self._config, data.fingerprint)
        damaged = self._checkpoints.restore()
        # A run that has gone back to its beginning has one of step 0.
        restored = bool(self._checkpoints.numbers())
        if damaged:
            before = "the one before it" if restored else "the beginning: there is no other"
            say(f"checkpoint {', '.join(damaged)} damaged and set aside: going on from {before}")
        if restored:
            say(f"going on after step {progress.step} of {self._total_steps}")
            return
        if self._config.word_vectors == "ppmi" and isinstance(inputs, TokenInputs):
            self._learner.set_word_vectors(self._ppmi_vectors(inputs))
        self._prepare_learner(data, known)
        self._folder.begin(self._config, data.fingerprint, data.vocabulary)

    def _prepare_learner(
        self, data: Any, known: tuple[keras.Model, tuple[str, ...]] | None
    ) -> None:
        plan = pipeline.in_order_plan(self._train.lengths, batch_tokens=EVALUATION_TOKENS)
        self._learner.adapt(pipeline.batches(self._train, plan))
        if known is not None:
            model, classes = known
            self._learner.begin_with(model, same_classes=classes == data.task.classes)

    def _ppmi_vectors(self, inputs: TokenInputs) -> np.ndarray:
        # Late: no other run pays for the import.
        from zoo.vectors import ppmi_vectors

        try:
            return ppmi_vectors(
                self._text.values,
                self._text.offsets,
                inputs.num_ids,
                self._learner.word_vector_dim,
                seed=self._config.seed,
                progress=sys.stderr.isatty(),
            )
        except ValueError as error:
            raise UsageError(f"--word_vectors=ppmi cannot work: {error}") from error

    def train(self) -> None:
        """Runs to the last epoch, or to the end of patience."""
        progress, patience = self._progress, self._config.patience_epochs
        self._folder.write_log(progress.history)
        events = EventLog(self._folder.path / "tensorboard", progress.history)
        self._signals.patient = True
        while progress.epoch < self._config.epochs:
            if patience and progress.best and progress.epoch - progress.best["epoch"] >= patience:
                say(f"no better for {patience} epochs: stopping after {progress.epoch}")
                break
            self._divergence.mark()
            self._tell_team()
            try:
                self._train_epoch()
                row = self._end_epoch()
            except Diverged as error:
                self._team.break_off()
                say(self._divergence.go_back(error))
                self._checkpoints.save()
                continue
            events.write(row)
            self._stop_if_asked()
        if not self._checkpoints.is_current():
            self._checkpoints.save()
        self._signals.patient = False
        events.close()
        share = progress.saving_seconds / max(progress.seconds, 1e-9)
        say(f"checkpoints took {progress.saving_seconds:.1f} s, {share:.2%} of the training time")

    def _tell_team(self) -> None:
        progress = self._progress
        word = {
            "epoch": progress.epoch,
            "step_in_epoch": progress.step_in_epoch,
            "step_factor": progress.step_factor,
        }
        self._team.tell(word, self._learner.variables)

    def _train_epoch(self) -> None:
        progress = self._progress
        plan = self._plan(progress.epoch)
        self._learner.begin_epoch(progress.epoch)
        self._learner.scale_steps(progress.step_factor)
        if not progress.step_in_epoch:
            progress.sums = {"loss": 0.0, "correct": 0, "examples": 0, "seconds": 0.0}
        sums = progress.sums
        before = time.monotonic()
        with tqdm(
            self._team.batches(self._train, plan, start=progress.step_in_epoch),
            f"epoch {progress.epoch + 1}/{self._config.epochs}",
            total=len(plan),
            initial=progress.step_in_epoch,
            unit="step",
            leave=False,
            disable=None,
        ) as bar:
            for batch in bar:
                loss, correct, answers = self._step(*batch)
                progress.step += 1
                progress.step_in_epoch += 1
                now = time.monotonic()
                sums["loss"] += loss * answers
                sums["correct"] += correct
                sums["examples"] += answers
                sums["seconds"] += max(0.0, now - before)
                before = now
                bar.set_postfix(
                    loss=f"{sums['loss'] / sums['examples']:.4f}",
                    accuracy=f"{sums['correct'] / sums['examples']:.4f}",
                    refresh=False,
                )
                self._stop_if_asked()
                self._save_if_due()

    def _step(self, *batch: Any) -> tuple[float, int, int]:
        step = self._progress.step + 1
        try:
            loss, correct, answers = self._learner.step(*batch)
        except tf.errors.ResourceExhaustedError as error:
            shape = tf.nest.flatten(batch)[0].shape
            raise RunError(
                f"out of memory at step {step}, on a batch of shape {tuple(shape)}: "
                "give a smaller --batch_tokens (or --batch_size)"
            ) from error
        if not np.isfinite(loss):
            raise Diverged(f"the loss of step {step} is {loss}")
        return loss, correct, answers

    def _require_finite(self) -> None:
        if not self._learner.is_finite():
            raise Diverged(f"after step {self._progress.step} the weights are not finite")

    def _save_if_due(self) -> None:
        if not self._checkpoints.is_due(self._config.checkpoint_seconds):
            return
        # Of weights that are not finite, the next loss tells all workers at once.
        amid_others = self._team.num_workers > 1 and self._progress.step_in_epoch
        if not amid_others or self._learner.is_finite():
            self._checkpoints.save()

    def _stop_if_asked(self) -> None:
        if not self._team.asked_to_stop:
            return
        self._checkpoints.save()
        tqdm.write(
            f"interrupted: saved after step {self._progress.step} of {self._total_steps}; "
            "the same command goes on from there",
            file=sys.stderr,
        )
        self._signals.stop()

    def _end_epoch(self) -> dict[str, Any]:
        """Validates, keeps the weights if they are the best, and writes everything down."""
        progress, learner, sums = self._progress, self._learner, self._progress.sums
        self._require_finite()
        figures = self._validate()
        row = {
            "epoch": progress.epoch + 1,
            "step": progress.step,
            "learning_rate": learner.learning_rate,
            "loss": sums["loss"] / sums["examples"],
            "accuracy": sums["correct"] / sums["examples"],
            "validation_accuracy": figures["accuracy"],
            "validation_log_loss": figures["log_loss"],
            "seconds": sums["seconds"],
        }
        better = progress.best is None or self._merit(row) > self._merit(progress.best)
        if better:
            progress.best = row
            with replacing(self._folder.model) as beside:
                learner.averaged.save(beside)
        progress.history.append(row)
        progress.epoch += 1
        progress.step_in_epoch = 0
        progress.rollbacks = 0
        progress.seconds += sums["seconds"]
        self._folder.write_log(progress.history)
        self._save_if_due()
        say(
            f"epoch {row['epoch']}/{self._config.epochs}: loss {row['loss']:.4f}, validation "
            f"accuracy {row['validation_accuracy']:.4f}, log-loss "
            f"{row['validation_log_loss']:.4f}, {row['seconds']:.0f} s"
            f"{', the best so far' if better else ''}"
        )
        return row

    def _validate(self) -> dict[str, Any]:
        split = self._validation
        return evaluate_split(self._learner.logits, split, "validation", self._stop_if_asked)[0]

    def _merit(self, row: dict[str, Any]) -> tuple[float, float]:
        return metrics.merit(row, self._config.select_by)

    def summary(self) -> dict[str, Any]:
        """What the run itself adds to the figures of its splits."""
        progress = self._progress
        assert progress.best is not None
        return {
            "train_seconds": progress.seconds,
            "saving_seconds": progress.saving_seconds,
            "steps": progress.step,
            "epochs": progress.epoch,
            "best_epoch": progress.best["epoch"],
            "padding_share": pipeline.padding_share(self._train.lengths, self._plan(0)),
            "seed": self._config.seed,
            "config": self._config.to_json(),
            "machine": machine(),
        }

    def finish(self, data: pipeline.EncodedTask, score_test: bool = True) -> dict[str, Any]:
        """Scores the best epoch on validation and, for the first and last time, test."""
        model = self._folder.load_model()
        temperature = 1.0
        if self._config.calibrate:
            _, logits = evaluate_split(logits_function(model), self._validation, "validation")
            temperature = metrics.temperature(logits, np.asarray(self._validation.labels))
            divide_logits(model, temperature)
        logits_of = logits_function(model)
        figures: dict[str, Any] = {}
        for name in ("validation", "test") if score_test else ("validation",):
            if name in data.splits:
                figures[name], logits = evaluate_split(logits_of, data.splits[name], name)
        # The last split scored: test where there is one.
        name = list(figures)[-1]
        plots.draw(
            self._folder.path,
            title=f"{self._config.task}, {self._config.model} {self._config.size}",
            split=name,
            classes=data.task.classes,
            history=self._progress.history,
            logits=logits,
            labels=np.asarray(data.splits[name].labels),
        )
        about = {"parameters": model.count_params(), "versions": versions()}
        figures = {name: scores | about for name, scores in figures.items()} | self.summary()
        figures["temperature"] = temperature
        self._folder.finish(figures)
        say_figures(figures)
        return figures


def say_figures(figures: dict[str, Any]) -> None:
    """Prints a line for each split in the contents of a `metrics.json`."""
    for name in ("validation", "test"):
        if name in figures:
            say(f"{name}: {metrics.describe(figures[name])}")


def training_split(config: Any, data: Any) -> pipeline.Split:
    """What a run learns from: the training split of its data, or some examples of it.

    Raises:
        UsageError: if there are not so many.
    """
    whole = data.splits["train"]
    if not config.labelled_examples:
        return whole
    try:
        return whole.sample(config.labelled_examples, config.seed)
    except ValueError as error:
        raise UsageError(
            f"--labelled_examples={config.labelled_examples} cannot work: {config.task} has "
            f"{len(whole):,} for training"
        ) from error


def model_inputs(data: Any) -> TokenInputs | FeatureInputs:
    """What a batch of `data` holds, as a model is told of it."""
    if data.num_features is not None:
        return FeatureInputs(data.num_features)
    assert data.settings is not None
    encoder = make_encoder(data.vocabulary, data.settings)
    return TokenInputs(encoder.num_ids, encoder.unknown_id)
