"""A tiny run, and what tells whether two are the same."""

import csv
import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf

from zoo import run
from zoo.config import Config
from zoo.learner import Learner
from zoo.training import train_and_evaluate
from zoo.workdir import Workdir

TASK = "movie_reviews/imdb"


SMALL = {
    "task": TASK,
    "model": "bag",
    "size": "small,embedding_dim=7",
    "vocabulary_size": 60,
    "max_length": 11,
    "batch_tokens": 0,
    "batch_size": 16,
    "epochs": 3,
    "learning_rate": 0.03,
    "average_decay": 0.8,
}


def weights_of(workdir):
    return Workdir(workdir).load_model().get_weights()


def without_times(figures):
    """The figures that must be the same whenever the same is computed."""
    if isinstance(figures, dict):
        return {k: without_times(v) for k, v in figures.items() if "second" not in k}
    return figures


def assert_same_run(workdir, other):
    for ours, theirs in zip(weights_of(workdir), weights_of(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (workdir, other))
    assert without_times(ours) == without_times(theirs)
    logs = []
    for path in (workdir, other):
        with open(path / "log.csv", newline="") as file:
            logs.append([without_times(row) for row in csv.DictReader(file)])
    assert logs[0] == logs[1]
    assert read_events(workdir) == read_events(other)


def read_events(workdir):
    """Tag, step and value of all that TensorBoard would show, times left out."""
    events = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                if value.tag != "seconds":
                    events.append((value.tag, event.step, float(tf.make_ndarray(value.tensor))))
    return events


def checkpoint_names(workdir):
    return sorted(path.stem for path in (workdir / "checkpoints").glob("ckpt-*.index"))


def interrupt(monkeypatch, at_step, number):
    """Sends this process a signal while it is in that step."""
    real = Learner.step

    def step(self, *batch):
        if int(self._schedule.iterations) == at_step:
            os.kill(os.getpid(), number)
        return real(self, *batch)

    monkeypatch.setattr(Learner, "step", step)


def interrupted_run(monkeypatch, workdir, data_dir, at_step=17):
    """A run with two checkpoints, after step `at_step` and the next one."""
    with monkeypatch.context() as patch:
        interrupt(patch, at_step, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(Config(**SMALL, checkpoint_seconds=0.0), workdir, data_dir)
    # The first epoch's end has one more.
    assert checkpoint_names(workdir) == [f"ckpt-{at_step + 1}", f"ckpt-{at_step + 2}"]


def scripted(monkeypatch, accuracies, log_losses):
    """Replaces what validation finds; returns the names of the splits as they are scored."""
    real, scored = run.evaluate_split, []

    def evaluate_split(logits_of, split, name, *rest):
        epoch = len(scored)
        scored.append(name)
        figures, logits = real(logits_of, split, name, *rest)
        if epoch < len(accuracies):
            figures |= {"accuracy": accuracies[epoch], "log_loss": log_losses[epoch]}
        return figures, logits

    monkeypatch.setattr(run, "evaluate_split", evaluate_split)
    return scored
