"""Disks that fail, clocks that jump and data that change under a run."""

import errno
import json
import os
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from tests.fixtures import write_records
from tests.training.runs import (
    SMALL,
    assert_same_run,
    checkpoint_names,
    interrupted_run,
    read_events,
)
from zoo.checkpoint import Checkpoints
from zoo.config import Config
from zoo.errors import RunError
from zoo.learner import Learner
from zoo.tasks import get_task
from zoo.training import train_and_evaluate

HOUR = 3_600.0


def set_clock(monkeypatch, clock, read):
    """Sets a clock for this thread alone: a server's thread would sleep until it comes round."""
    real, here = getattr(time, clock), threading.get_ident()
    monkeypatch.setattr(time, clock, lambda: read() if threading.get_ident() == here else real())


def jump(monkeypatch, clock, by_step):
    """Moves a clock by so many seconds before each of these steps."""
    real_time, real_step, ahead = getattr(time, clock), Learner.step, [0.0]

    def step(self, *batch):
        ahead[0] += by_step.get(int(self._schedule.iterations), 0.0)
        return real_step(self, *batch)

    monkeypatch.setattr(Learner, "step", step)
    set_clock(monkeypatch, clock, lambda: real_time() + ahead[0])


@pytest.fixture
def saved(monkeypatch):
    """The states that were written, by what they had come to."""
    steps, real = [], Checkpoints.save

    def save(self):
        real(self)
        steps.append(self._progress.step)

    monkeypatch.setattr(Checkpoints, "save", save)
    return steps


@pytest.mark.parametrize(
    ("clock", "jumps", "expected"),
    [
        # The clock on the wall is set, by whoever it may be: nothing here looks at it.
        ("time", {5: 24 * HOUR, 15: -48 * HOUR, 20: HOUR}, [39]),
        # The machine was asleep, or copied to another one: a state each time, and no more.
        ("monotonic", {5: HOUR, 15: HOUR, 30: -3 * HOUR}, [6, 16, 31, 39]),
    ],
)
def test_clocks_that_jump_change_nothing(
    whole, data_dir, tmp_path, monkeypatch, saved, clock, jumps, expected
):
    jump(monkeypatch, clock, jumps)
    figures = train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert saved == expected
    assert_same_run(tmp_path, whole[0])
    assert figures["saving_seconds"] > 0
    with open(tmp_path / "log.csv") as file:
        seconds = [float(line.split(",")[-1]) for line in list(file)[1:]]
    assert min(seconds) >= 0
    assert sum(seconds) == pytest.approx(figures["train_seconds"])


def test_what_saving_takes_is_bounded_and_told(data_dir, tmp_path, monkeypatch, saved, capsys):
    now, real = [0.0], tf.train.Checkpoint.write

    def write(self, *args, **kwargs):
        now[0] += 5.0
        return real(self, *args, **kwargs)

    def step(self, *batch):
        now[0] += 20.0
        return real_step(self, *batch)

    def monotonic():
        now[0] += 1e-6
        return now[0]

    real_step = Learner.step
    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    monkeypatch.setattr(Learner, "step", step)
    set_clock(monkeypatch, "monotonic", monotonic)
    figures = train_and_evaluate(
        Config(**SMALL | {"epochs": 2}), tmp_path, data_dir, score_test=False
    )
    # The first after 60 s, which is when one is due; then such that five seconds are 3 % at most,
    # which is after nine steps of 20 s; and one at the end.
    assert saved == [3, 12, 21, 26]
    assert figures["saving_seconds"] == pytest.approx(4 * 5.0, abs=0.01)
    assert figures["train_seconds"] == pytest.approx(26 * 20.0 + 3 * 5.0, abs=0.01)
    assert "checkpoints took 20.0 s, 3.74% of the training time" in capsys.readouterr().out


def test_as_many_checkpoints_are_kept_as_asked_for(data_dir, tmp_path):
    config = Config(**SMALL | {"epochs": 1}, checkpoint_seconds=0.0, keep_checkpoints=5)
    train_and_evaluate(config, tmp_path, data_dir)
    # One after each of 13 steps, and one at the epoch's end.
    assert checkpoint_names(tmp_path) == [f"ckpt-{n}" for n in (10, 11, 12, 13, 14)]


def test_how_many_are_kept_may_change_while_a_run_is_cut(whole, data_dir, tmp_path, monkeypatch):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    train_and_evaluate(Config(**SMALL, keep_checkpoints=1), tmp_path, data_dir)
    assert checkpoint_names(tmp_path) == ["ckpt-20"]
    ours, theirs = (json.loads((p / "metrics.json").read_text()) for p in (tmp_path, whole[0]))
    assert ours["test"]["log_loss"] == theirs["test"]["log_loss"]


def test_an_older_state_of_several_will_do(whole, data_dir, tmp_path, monkeypatch, capsys):
    """Two of three damaged, each in another way."""
    config = Config(**SMALL | {"epochs": 2}, checkpoint_seconds=0.0, keep_checkpoints=3)
    real = Learner.step

    def step(self, *batch):
        if int(self._schedule.iterations) == 8:
            raise ZeroDivisionError
        return real(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(ZeroDivisionError):
            train_and_evaluate(config, tmp_path, data_dir)
    states = tmp_path / "checkpoints"
    assert checkpoint_names(tmp_path) == ["ckpt-6", "ckpt-7", "ckpt-8"]
    (states / "ckpt-8.index").write_bytes(b"")
    os.truncate(states / "ckpt-7.data-00000-of-00001", 100)
    train_and_evaluate(config, tmp_path, data_dir)
    said = capsys.readouterr().out
    assert "checkpoint ckpt-8, ckpt-7 damaged and set aside: going on from the one before" in said
    assert "going on after step 6 of 26" in said


def test_a_disk_that_fails_while_a_state_is_written(data_dir, tmp_path, monkeypatch):
    real, written = tf.train.Checkpoint.write, []

    def write(self, prefix, *args, **kwargs):
        written.append(prefix)
        if len(written) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(self, prefix, *args, **kwargs)

    monkeypatch.setattr(tf.train.Checkpoint, "write", write)
    with pytest.raises(RunError, match="Input/output error; the one before is whole: make room"):
        train_and_evaluate(Config(**SMALL, checkpoint_seconds=0.0), tmp_path, data_dir)
    assert checkpoint_names(tmp_path) == ["ckpt-1"]


def test_data_made_anew_with_other_examples_are_refused(tmp_path, monkeypatch):
    task, data_dir, workdir = get_task(SMALL["task"]), tmp_path / "data", tmp_path / "run"
    write_records(task, data_dir, rows=203)
    interrupted_run(monkeypatch, workdir, data_dir)
    shutil.rmtree(data_dir / "movie_reviews")
    for rows in (204, 3):  # the latter hold fewer words
        write_records(task, data_dir, rows=rows)
        with pytest.raises(RunError, match="the data of movie_reviews/imdb have changed since the"):
            train_and_evaluate(Config(**SMALL), workdir, data_dir)
        assert checkpoint_names(workdir) == ["ckpt-18", "ckpt-19"]
        shutil.rmtree(data_dir / "movie_reviews")


def test_ids_that_were_damaged_under_a_run_are_made_anew_and_it_goes_on(
    whole, data_dir, tmp_path, monkeypatch, capsys
):
    copy, workdir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(data_dir, copy)
    interrupted_run(monkeypatch, workdir, copy)
    for path in copy.glob("encoded/*/*/train.values.npy"):
        values = np.array(np.load(path))
        values[0] += 1
        path.unlink()  # what is mapped may still be looked at
        np.save(path, values)
    capsys.readouterr()
    train_and_evaluate(Config(**SMALL), workdir, copy)
    assert "(train.values.npy has changed): making them anew" in capsys.readouterr().err
    assert_same_run(workdir, whole[0])


def test_tensorboard_shows_each_epoch_once_after_a_cut(data_dir, tmp_path, monkeypatch):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    assert {step for _, step, _ in read_events(tmp_path)} == {1}
    train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    events = read_events(tmp_path)
    tags = {tag for tag, _, _ in events}
    assert {"loss", "validation_accuracy", "learning_rate"} <= tags
    for tag in tags:
        assert [step for name, step, _ in events if name == tag] == [1, 2, 3]
    with open(tmp_path / "log.csv") as file:
        assert [line.split(",")[0] for line in file] == ["epoch", "1", "2", "3"]
