"""What cannot work is told in one line, and nothing half-written is left."""

import csv
import errno
import fcntl
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import (
    SMALL,
    assert_same_run,
    checkpoint_names,
    interrupted_run,
    weights_of,
)
from zoo import pipeline
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.learner import Learner
from zoo.pretraining import pretrain
from zoo.pretraining_config import PretrainingConfig
from zoo.training import evaluate, load_trained, train_and_evaluate
from zoo.workdir import Workdir


def test_evaluating_refuses_a_split_that_is_not(whole, data_dir):
    with pytest.raises(UsageError, match="unknown split 'tset': did you mean 'test'"):
        evaluate(load_trained(whole[0]), "tset", data_dir)


@pytest.mark.parametrize("name", ["config.json", "log.csv", "model.keras", "vocabulary.txt"])
def test_a_folder_of_somebody_elses_is_left_alone(name, data_dir, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=f"no run's folder, and its {name} would be lost"):
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert (tmp_path / name).read_text() == "mine"


def test_files_of_other_names_stand_in_no_ones_way(data_dir, tmp_path):
    notes = tmp_path / "tensorboard" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    train_and_evaluate(Config(**SMALL | {"epochs": 1}), tmp_path, data_dir)
    assert notes.read_text() == "mine"


def test_a_workdir_may_lie_in_the_users_home_but_not_nowhere(data_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Workdir("~/run").path == tmp_path / "run"
    with pytest.raises(UsageError, match="--workdir= cannot work"):
        train_and_evaluate(Config(**SMALL), "", data_dir)


def test_answers_that_are_no_numbers_stop_the_run(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "is_finite", lambda self: True)
    values = SMALL | {"learning_rate": 1e30, "batch_size": 1_000, "epochs": 1}
    with pytest.raises(RunError, match="answers on validation are not finite numbers: stopped; be"):
        train_and_evaluate(Config(**values), tmp_path, data_dir)
    assert not (tmp_path / "model.keras").exists()


def test_a_table_beyond_memory_is_one_line_and_leaves_nothing(data_dir, tmp_path):
    with pytest.raises(RunError, match="out of memory: --size=small,embedding_dim=2000000000 with"):
        train_and_evaluate(
            Config(**SMALL | {"size": "small,embedding_dim=2000000000"}), tmp_path / "run", data_dir
        )
    assert not (tmp_path / "run").exists()


def test_word_vectors_that_cannot_be_leave_nothing(data_dir, tmp_path):
    values = SMALL | {"size": "small,embedding_dim=70", "word_vectors": "ppmi"}
    with pytest.raises(UsageError, match="--word_vectors=ppmi cannot work"):
        train_and_evaluate(Config(**values), tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_a_vocabulary_that_has_changed_is_refused(whole, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    words = (tmp_path / "run" / "vocabulary.txt").read_text().splitlines()
    (tmp_path / "run" / "vocabulary.txt").write_text("\n".join(reversed(words)) + "\n")
    with pytest.raises(RunError, match=r"vocabulary\.txt has changed since the run began"):
        load_trained(tmp_path / "run")


def test_a_run_without_its_vocabulary_does_not_go_on(data_dir, tmp_path, monkeypatch):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    (tmp_path / "vocabulary.txt").unlink()
    with pytest.raises(RunError, match=r"vocabulary\.txt cannot be read: No such file"):
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)


def test_a_workdir_of_another_configuration_is_refused(whole, data_dir):
    other = Config(**SMALL | {"batch_size": 8, "seed": 3})
    with pytest.raises(UsageError) as caught:
        train_and_evaluate(other, whole[0], data_dir)
    assert "(batch_size: 16 there, 8 asked; seed: 0 there, 3 asked)" in str(caught.value)
    same = Config(**SMALL, checkpoint_seconds=1.0)
    assert train_and_evaluate(same, whole[0], data_dir) == whole[1]


def test_a_lock_that_a_failing_run_takes_away_is_taken_anew(tmp_path, monkeypatch):
    first, real = Workdir(tmp_path / "run").claimed(Config(**SMALL)), fcntl.flock
    first.__enter__()

    def flock(lock, operation):  # between another's opening of the file and its lock
        monkeypatch.setattr(fcntl, "flock", real)
        first.__exit__(None, None, None)
        real(lock, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with Workdir(tmp_path / "run").claimed(Config(**SMALL)):
        second = Workdir(tmp_path / "run").claimed(Config(**SMALL))
        with pytest.raises(RunError, match="another process is training in"):
            second.__enter__()


def test_figures_of_another_are_not_removed(data_dir, tmp_path):
    kept = tmp_path / "tensorboard" / "events.out.tfevents.1.host"
    kept.parent.mkdir()
    kept.write_text("figures")
    with pytest.raises(UsageError, match=r"is no run.s folder, and its tensorboard/events"):
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert kept.read_text() == "figures"


@pytest.mark.parametrize("name", [b"w\xff", b"a[1]", b"a]", b"a*", b"what?", b"a\\b"])
def test_a_folder_whose_states_tensorflow_would_not_find_is_refused(data_dir, tmp_path, name):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b"/run")
    says = "in UTF-8 alone: give another" if b"\xff" in name else r"for a pattern: .* without \["
    with pytest.raises(UsageError, match=f"^--workdir=.* cannot work: .* {says}"):
        train_and_evaluate(Config(**SMALL), path, data_dir)
    config = PretrainingConfig(tasks="movie_reviews/imdb", model="bilstm", size="small")
    with pytest.raises(UsageError, match=f"^--workdir=.* cannot work: .* {says}"):
        pretrain(config, path, data_dir)
    assert not os.listdir(tmp_path)


def test_two_runs_in_one_folder_are_refused(data_dir, tmp_path):
    with open(tmp_path / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is training in"):
            train_and_evaluate(Config(**SMALL), tmp_path, data_dir)


def test_data_that_changed_under_a_run_are_refused(data_dir, tmp_path, monkeypatch):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    content = json.loads((tmp_path / "config.json").read_text())
    content["fingerprint"] = "other"
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="the data of movie_reviews/imdb have changed"):
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)


@pytest.mark.parametrize("content", ["{", "{}", '{"config": {"no_such_field": 1}}'])
def test_a_damaged_config_is_one_clear_error(data_dir, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(RunError, match=r"config\.json (cannot be read|is not of this version)"):
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_what_is_good(
    data_dir, tmp_path, monkeypatch
):
    real = Learner.step

    def step(self, inputs, labels):
        if int(self._schedule.iterations) == 20:
            self.model.trainable_variables[0].assign_add([[np.nan] * 7] * 44)
        return real(self, inputs, labels)

    monkeypatch.setattr(Learner, "step", step)
    config = Config(**SMALL, checkpoint_seconds=0.0)
    with pytest.raises(
        RunError,
        match=r"the loss of step 21 is nan: stopped; kept in .*: the last good checkpoint and",
    ):
        train_and_evaluate(config, tmp_path, data_dir)
    assert all(np.isfinite(weight).all() for weight in weights_of(tmp_path))
    newest = checkpoint_names(tmp_path)[-1]
    reader = tf.train.load_checkpoint(str(tmp_path / "checkpoints" / newest))
    values = [reader.get_tensor(name) for name in reader.get_variable_to_shape_map()]
    assert all(np.isfinite(v).all() for v in values if getattr(v, "dtype", None) == np.float32)


def test_weights_that_overflow_are_never_saved(data_dir, tmp_path, monkeypatch):
    """The loss is of before the step, so that a step may spoil weights and still look good."""
    real = Learner.step

    def step(self, inputs, labels):
        result = real(self, inputs, labels)
        if int(self._schedule.iterations) == 20:
            self.model.trainable_variables[0].assign_add([[np.inf] * 7] * 44)
        return result

    monkeypatch.setattr(Learner, "step", step)
    config = Config(**SMALL, checkpoint_seconds=0.0)
    with pytest.raises(RunError, match="after step 20 the weights are not finite"):
        train_and_evaluate(config, tmp_path, data_dir)
    assert checkpoint_names(tmp_path)[-1] == "ckpt-20"  # 19 steps, and the first epoch's end


def test_a_learning_rate_that_is_far_too_high_ends_in_one_clear_error(data_dir, tmp_path):
    config = Config(**SMALL | {"learning_rate": 1e38, "clip_norm": 0.0, "epochs": 1})
    with pytest.raises(RunError, match="begin again in another --workdir with a smaller"):
        train_and_evaluate(config, tmp_path, data_dir)


def test_memory_that_runs_out_names_the_batch_and_the_flag(data_dir, tmp_path, monkeypatch):
    def step(self, *batch):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(RunError, match=r"step 1, on a batch of shape \(16, \d+\): give a smaller"):
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)


@pytest.mark.parametrize("what", ["checkpoint", "model", "log"])
def test_a_full_disk_is_one_clear_error_and_leaves_nothing_half_written(
    whole, data_dir, tmp_path, monkeypatch, what
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if what == "checkpoint":
            patch.setattr(tf.train.Checkpoint, "write", full)
        elif what == "model":
            patch.setattr(keras.Model, "save", full)
        else:
            patch.setattr(csv.DictWriter, "writerows", full)
        with pytest.raises(RunError, match=r"cannot write .*No space left on device"):
            train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert not list(tmp_path.glob("partial-*"))
    assert not list((tmp_path / "checkpoints").glob("unfinished*"))
    assert not (tmp_path / "metrics.json").exists()
    if what == "model":
        train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
        assert_same_run(tmp_path, whole[0])


@pytest.mark.parametrize("kind", ["below a file", "read-only"])
def test_an_unwritable_workdir_is_refused_before_any_work(data_dir, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(pipeline, "encode", None)
    if kind == "below a file":
        (tmp_path / "file").write_text("")
        workdir = tmp_path / "file" / "run"
    else:
        workdir = tmp_path / "locked" / "run"
        workdir.parent.mkdir()
        workdir.parent.chmod(0o500)
        if os.access(workdir.parent, os.W_OK):
            pytest.skip("this user may write everywhere")
    with pytest.raises(RunError, match=r"cannot write to .*run: (Not a directory|Permission)"):
        train_and_evaluate(Config(**SMALL), workdir, data_dir)


def test_a_task_that_is_not_prepared_names_the_command_and_leaves_nothing(tmp_path):
    with pytest.raises(RunError, match=r"trainers/prepare\.py --task=movie_reviews/imdb"):
        train_and_evaluate(Config(**SMALL), tmp_path / "run", tmp_path / "data")
    assert not (tmp_path / "run").exists()


def test_a_model_that_refuses_its_size_is_a_usage_error(data_dir, tmp_path):
    with pytest.raises(UsageError, match="--model=bag --size=huge: size 'huge' is unknown"):
        train_and_evaluate(Config(**SMALL | {"size": "huge"}), tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_a_missing_best_model_is_one_clear_error(whole, data_dir, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "config.json").write_text((whole[0] / "config.json").read_text())
    with pytest.raises(RunError, match="holds no finished run"):
        load_trained(tmp_path)
    (tmp_path / "model.keras").write_text("no model")
    with pytest.raises(RunError, match=r"model\.keras cannot be read"):
        load_trained(tmp_path)


def test_word_vectors_larger_than_the_vocabulary_are_a_usage_error(data_dir, tmp_path):
    config = Config(**SMALL | {"size": "small", "word_vectors": "ppmi"})
    with pytest.raises(UsageError, match="--word_vectors=ppmi cannot work: dim must be between"):
        train_and_evaluate(config, tmp_path, data_dir)


def test_other_backends_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="this runs on TensorFlow, not on KERAS_BACKEND=jax"):
        train_and_evaluate(Config(**SMALL), tmp_path)


def test_more_labels_than_there_are_examples_are_a_usage_error(data_dir, tmp_path):
    config = Config(**SMALL | {"labelled_examples": 100_000})
    with pytest.raises(UsageError, match=r"--labelled_examples=100000 cannot work: .* has \d+ for"):
        train_and_evaluate(config, tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()
