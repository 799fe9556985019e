"""A run under way: the loop over epochs and steps, and all that may happen in it."""

import functools
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from zoo import metrics, pipeline, plots
from zoo.checkpoint import Checkpoints, Progress, replacing
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.learner import Learner, logits_function
from zoo.models import FeatureInputs, TokenInputs
from zoo.text import TextEncoder
from zoo.workdir import EventLog, Workdir, machine, versions

_EVALUATION_TOKENS = 16_384
say = functools.partial(print, flush=True)


class Signals:
    """Notes Ctrl-C and SIGTERM, so that a step can end and its state be saved.

    The second of a kind does what it did before, for who cannot wait.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        # Python lets the main thread alone set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        signal.signal(number, self._before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class Run:
    """A run under way."""

    def __init__(self, config: Config, folder: Workdir, data: pipeline.EncodedTask) -> None:
        self._config = config
        self._folder = folder
        self._train = data.splits["train"]
        self._validation = data.splits["validation"]
        self._total_steps = sum(len(self._plan(epoch)) for epoch in range(config.epochs))
        inputs = _model_inputs(data)
        self._learner = Learner(config, inputs, len(data.task.classes), self._total_steps)
        self._progress = Progress()
        self._checkpoints = Checkpoints(folder.checkpoints, self._learner.variables, self._progress)
        self._restore_or_begin(inputs, data)
        share = pipeline.padding_share(self._train.lengths, self._plan(0))
        say(
            f"{config.task}: {len(self._train):,} training examples, {self._total_steps} steps in "
            f"{config.epochs} epochs, {share:.1%} padding; {config.model} {config.size}: "
            f"{self._learner.model.count_params():,} parameters"
        )

    def _plan(self, epoch: int) -> list[np.ndarray]:
        config = self._config
        return pipeline.batch_plan(
            self._train.lengths,
            batch_tokens=config.batch_tokens,
            batch_size=config.batch_size,
            seed=config.seed,
            epoch=epoch,
        )

    def _restore_or_begin(
        self, inputs: TokenInputs | FeatureInputs, data: pipeline.EncodedTask
    ) -> None:
        progress = self._progress
        damaged = self._checkpoints.restore()
        if damaged:
            before = "the one before it" if progress.step else "the beginning: there is no other"
            say(f"checkpoint {', '.join(damaged)} damaged and set aside: going on from {before}")
        if progress.step:
            self._folder.resume(self._config, data.fingerprint)
            say(f"going on after step {progress.step} of {self._total_steps}")
            return
        self._folder.begin(self._config, data.fingerprint, data.vocabulary)
        if self._config.word_vectors == "ppmi" and isinstance(inputs, TokenInputs):
            self._learner.set_word_vectors(self._ppmi_vectors(inputs))

    def _ppmi_vectors(self, inputs: TokenInputs) -> np.ndarray:
        # Late: no other run pays for the import.
        from zoo.vectors import ppmi_vectors

        try:
            return ppmi_vectors(
                self._train.values,
                self._train.offsets,
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
        self._saved = time.monotonic()
        with Signals() as self._signals:
            while progress.epoch < self._config.epochs:
                if (
                    patience
                    and progress.best
                    and progress.epoch - progress.best["epoch"] >= patience
                ):
                    say(f"no better for {patience} epochs: stopping after {progress.epoch}")
                    break
                self._train_epoch()
                row = self._end_epoch()
                events.write(row)
        events.close()

    def _train_epoch(self) -> None:
        progress = self._progress
        plan = self._plan(progress.epoch)
        if not progress.step_in_epoch:
            progress.sums = {"loss": 0.0, "correct": 0, "examples": 0, "seconds": 0.0}
        sums = progress.sums
        before = time.monotonic()
        with tqdm(
            pipeline.batches(self._train, plan, start=progress.step_in_epoch),
            f"epoch {progress.epoch + 1}/{self._config.epochs}",
            total=len(plan),
            initial=progress.step_in_epoch,
            unit="step",
            leave=False,
            disable=None,
        ) as bar:
            for inputs, labels in bar:
                loss, correct = self._step(inputs, labels)
                rows = int(labels.shape[0])
                progress.step += 1
                progress.step_in_epoch += 1
                now = time.monotonic()
                sums["loss"] += loss * rows
                sums["correct"] += correct
                sums["examples"] += rows
                sums["seconds"] += now - before
                before = now
                bar.set_postfix(
                    loss=f"{sums['loss'] / sums['examples']:.4f}",
                    accuracy=f"{sums['correct'] / sums['examples']:.4f}",
                    refresh=False,
                )
                self._stop_if_asked()
                if now - self._saved >= self._config.checkpoint_seconds:
                    self._save()

    def _step(self, inputs: dict[str, tf.Tensor], labels: tf.Tensor) -> tuple[float, int]:
        step = self._progress.step + 1
        try:
            loss, correct = self._learner.step(inputs, labels)
        except tf.errors.ResourceExhaustedError as error:
            shape = next(iter(inputs.values())).shape
            raise RunError(
                f"out of memory at step {step}, on a batch of shape {tuple(shape)}: "
                "give a smaller --batch_tokens (or --batch_size)"
            ) from error
        if not np.isfinite(loss):
            raise self._diverged(f"the loss of step {step} is {loss}")
        return loss, correct

    def _diverged(self, what: str) -> RunError:
        return RunError(
            f"{what}: stopped; the last good checkpoint and the best epoch so far are kept in "
            f"{self._folder.path}; begin again in another --workdir with a smaller "
            "--learning_rate, or with a smaller --clip_norm above 0"
        )

    def _save(self) -> None:
        if not self._learner.is_finite():
            raise self._diverged(f"after step {self._progress.step} the weights are not finite")
        self._checkpoints.save()
        self._saved = time.monotonic()

    def _stop_if_asked(self) -> None:
        number = self._signals.caught
        if number is None:
            return
        self._save()
        tqdm.write(
            f"interrupted: saved after step {self._progress.step} of {self._total_steps}; "
            "the same command goes on from there",
            file=sys.stderr,
        )
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    def _end_epoch(self) -> dict[str, Any]:
        """Validates, keeps the weights if they are the best, and writes everything down."""
        progress, learner, sums = self._progress, self._learner, self._progress.sums
        if not learner.is_finite():
            raise self._diverged(f"after step {progress.step} the weights are not finite")
        figures, _ = evaluate_split(
            learner.logits, self._validation, "validation", self._stop_if_asked
        )
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
        progress.seconds += sums["seconds"]
        self._folder.write_log(progress.history)
        self._save()
        say(
            f"epoch {row['epoch']}/{self._config.epochs}: loss {row['loss']:.4f}, validation "
            f"accuracy {row['validation_accuracy']:.4f}, log-loss "
            f"{row['validation_log_loss']:.4f}, {row['seconds']:.0f} s"
            f"{', the best so far' if better else ''}"
        )
        return row

    def _merit(self, row: dict[str, Any]) -> tuple[float, float]:
        accuracy, log_loss = row["validation_accuracy"], row["validation_log_loss"]
        by_accuracy = self._config.select_by == "accuracy"
        return (accuracy, -log_loss) if by_accuracy else (-log_loss, accuracy)

    def summary(self) -> dict[str, Any]:
        """What the run itself adds to the figures of its splits."""
        progress = self._progress
        assert progress.best is not None
        return {
            "parameters": self._learner.model.count_params(),
            "train_seconds": progress.seconds,
            "steps": progress.step,
            "epochs": progress.epoch,
            "best_epoch": progress.best["epoch"],
            "padding_share": pipeline.padding_share(self._train.lengths, self._plan(0)),
            "seed": self._config.seed,
            "config": self._config.to_json(),
            "versions": versions(),
            "machine": machine(),
        }

    def finish(self, data: pipeline.EncodedTask) -> dict[str, Any]:
        """Scores the best epoch on validation and, for the first and last time, test."""
        logits_of = logits_function(self._folder.load_model())
        figures: dict[str, Any] = {}
        for name in ("validation", "test"):
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
        figures |= self.summary()
        self._folder.finish(figures)
        say_figures(figures)
        return figures


def say_figures(figures: dict[str, Any]) -> None:
    """Prints a line for each split in the contents of a `metrics.json`."""
    for name in ("validation", "test"):
        if name in figures:
            say(f"{name}: {metrics.describe(figures[name])}")


def evaluate_split(
    logits_of: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    split: pipeline.Split,
    name: str,
    after_batch: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of a split, and its logits, `float32[R, C]`."""
    plan = pipeline.in_order_plan(split.lengths, batch_tokens=_EVALUATION_TOKENS)
    started = time.monotonic()
    parts = []
    batches = pipeline.batches(split, plan)
    with tqdm(batches, name, total=len(plan), unit="batch", leave=False, disable=None) as bar:
        for inputs, _ in bar:
            parts.append(logits_of(inputs).numpy())
            after_batch()
    seconds = time.monotonic() - started
    logits = np.concatenate(parts)[np.argsort(np.concatenate(plan))]
    figures = metrics.score(logits, np.asarray(split.labels))
    return figures | {"seconds": seconds, "examples_per_second": len(split) / seconds}, logits


def _model_inputs(data: pipeline.EncodedTask) -> TokenInputs | FeatureInputs:
    if data.num_features is not None:
        return FeatureInputs(data.num_features)
    assert data.settings is not None
    return TokenInputs(TextEncoder(data.vocabulary, data.settings).num_ids)
