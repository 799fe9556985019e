"""Runs from beginning to end on a tiny data set, and everything that may go wrong on the way."""

import contextlib
import csv
import errno
import fcntl
import json
import os
import shutil
import signal
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import pipeline, run, training
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.learner import Learner
from zoo.models import TokenInputs
from zoo.tasks import TASKS, Task, get_task
from zoo.training import evaluate, load_trained, train_and_evaluate
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


def make_texts(rows, seed):
    """The class is a word among many that say nothing, and now and then it is missing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    texts = []
    for label in labels:
        words = [f"w{i}" for i in rng.integers(0, 40, rng.integers(1, 17))]
        texts.append(" ".join(words + [("bad", "good")[label]] * (rng.random() < 0.9)))
    return tf.data.Dataset.from_tensor_slices({"text": texts, "label": labels})


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    import tensorflow_datasets as tfds

    folder = tmp_path_factory.mktemp("data")
    features = {
        "text": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=get_task(TASK).classes),
    }
    builder, _, config = get_task(TASK).builder.partition("/")
    tfds.dataset_builders.store_as_tfds_dataset(
        name=builder,
        config=config,
        version=get_task(TASK).version,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "train": make_texts(203, 0),
            "validation": make_texts(53, 1),
            "test": make_texts(59, 2),
        },
        data_dir=folder,
    )
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory, data_dir):
    """A run that nothing befell."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, train_and_evaluate(Config(**SMALL), workdir, data_dir)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They have their own tests, and take longer than a tiny run."""
    monkeypatch.setattr(run.plots, "draw", lambda *_, **__: [])


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


def test_a_run_leaves_a_whole_folder(whole, data_dir):
    workdir, figures = whole
    assert {path.name for path in workdir.iterdir()} >= {
        "checkpoints",
        "config.json",
        "confusion_matrix.png",
        "learning_curve.png",
        "log.csv",
        "metrics.json",
        "model.keras",
        "reliability.png",
        "tensorboard",
        "vocabulary.txt",
    }
    assert not list(workdir.glob("partial-*"))
    assert json.loads((workdir / "metrics.json").read_text()) == figures
    assert figures["test"]["accuracy"] > 0.75
    assert figures["test"]["examples"] == 59
    assert figures["test"]["examples_per_second"] > 0
    assert np.sum(figures["validation"]["confusion"]) == 53
    assert figures["steps"] == 3 * 13
    assert figures["epochs"] == 3
    assert 0 <= figures["padding_share"] < 0.1
    assert figures["config"] == Config(**SMALL).to_json()
    names = {"python", "tensorflow", "keras", "numpy", "tensorflow-datasets", "zoo"}
    for split in ("validation", "test"):
        assert set(figures[split]["versions"]) == names
        assert figures[split]["parameters"] == load_trained(workdir).model.count_params()
    assert figures["machine"]["cores"] >= 1
    assert figures["machine"]["cpu"]


def test_the_log_has_one_row_an_epoch(whole):
    workdir, figures = whole
    with open(workdir / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["13", "26", "39"]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0, abs=1e-9)
    best = rows[figures["best_epoch"] - 1]
    assert float(best["validation_accuracy"]) == figures["validation"]["accuracy"]
    assert float(best["validation_log_loss"]) == pytest.approx(
        figures["validation"]["log_loss"], rel=1e-6
    )
    events = read_events(workdir)
    assert len(events) == 3 * 6
    assert {tag for tag, _, _ in events} == set(rows[0]) - {"epoch", "seconds"}


def test_a_finished_run_is_read_back_without_its_data(whole):
    workdir, figures = whole
    trained = load_trained(workdir)
    assert trained.config == Config(**SMALL)
    assert trained.task == get_task(TASK)
    assert trained.metrics == figures
    assert trained.model.dtype_policy.name == "float32"
    assert trained.encoder is not None
    assert {"good", "bad"} <= set(trained.encoder.vocabulary)
    ids = trained.encoder.encode_dense(tf.constant(["good", "bad"]))
    assert trained.model({"ids": ids}).numpy().argmax(axis=1).tolist() == [1, 0]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluating_a_finished_run_gives_its_figures(whole, data_dir, split):
    workdir, figures = whole
    again = evaluate(load_trained(workdir), split, data_dir)
    assert without_times(again) == without_times(figures[split])


def test_evaluating_refuses_a_split_that_is_not(whole, data_dir):
    with pytest.raises(UsageError, match="unknown split 'tset': did you mean 'test'"):
        evaluate(load_trained(whole[0]), "tset", data_dir)


def test_every_weight_moves(whole):
    trained = Workdir(whole[0]).load_model()
    num_ids = trained.get_layer("embedding").embeddings.shape[0]
    keras.utils.set_random_seed(SMALL.get("seed", 0))
    untrained = Learner(Config(**SMALL), TokenInputs(num_ids), 2, 1).model
    for before, after in zip(
        untrained.trainable_variables, trained.trainable_variables, strict=True
    ):
        assert before.name == after.name
        assert np.any(before.numpy() != after.numpy()), after.path


def test_a_finished_run_says_so_and_does_nothing(whole, data_dir, capsys, monkeypatch):
    workdir, figures = whole
    monkeypatch.setattr(pipeline, "encode", None)
    assert train_and_evaluate(Config(**SMALL), workdir, data_dir) == figures
    printed = capsys.readouterr().out
    assert "finished" in printed
    assert "test: accuracy 0." in printed


def test_the_same_configuration_gives_the_same_run(whole, data_dir, tmp_path):
    train_and_evaluate(Config(**SMALL), tmp_path / "again", data_dir)
    assert_same_run(tmp_path / "again", whole[0])


def test_another_seed_gives_another_run(whole, data_dir, tmp_path):
    train_and_evaluate(Config(**SMALL | {"seed": 1, "epochs": 1}), tmp_path, data_dir)
    assert any(
        np.any(ours != theirs)
        for ours, theirs in zip(weights_of(tmp_path), weights_of(whole[0]), strict=True)
    )


@pytest.mark.parametrize(
    ("at_step", "number", "ending"),
    [
        (5, signal.SIGINT, KeyboardInterrupt),
        (12, signal.SIGTERM, SystemExit),  # the last of the first epoch
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_end(
    whole, data_dir, tmp_path, monkeypatch, capsys, at_step, number, ending
):
    workdir = tmp_path / "cut"
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    with monkeypatch.context() as patch:
        interrupt(patch, at_step, number)
        with pytest.raises(ending) as caught:
            train_and_evaluate(Config(**SMALL), workdir, data_dir)
    if ending is SystemExit:
        assert caught.value.code == 143
    assert f"saved after step {at_step + 1} of 39; the same" in capsys.readouterr().err
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    assert not (workdir / "metrics.json").exists()
    with pytest.raises(RunError, match="holds no finished run"):
        load_trained(workdir)
    train_and_evaluate(Config(**SMALL), workdir, data_dir)
    assert f"going on after step {at_step + 1} of 39" in capsys.readouterr().out
    assert_same_run(workdir, whole[0])


def test_a_run_interrupted_while_it_validates_goes_on_to_the_same_end(
    whole, data_dir, tmp_path, monkeypatch
):
    real = run.evaluate_split

    def evaluate_split(logits_of, split, name, after_batch=None):
        os.kill(os.getpid(), signal.SIGINT)
        return real(logits_of, split, name, after_batch)

    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate_split", evaluate_split)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert_same_run(tmp_path, whole[0])


def test_a_signal_after_the_last_batch_of_all_is_heeded(whole, data_dir, tmp_path, monkeypatch):
    real = run.evaluate_split

    def evaluate_split(*args):
        figures = real(*args)
        os.kill(os.getpid(), signal.SIGTERM)  # nothing is left to do but to save the epoch
        return figures

    with monkeypatch.context() as patch:
        patch.setattr(run, "evaluate_split", evaluate_split)
        with pytest.raises(SystemExit) as caught:
            train_and_evaluate(Config(**SMALL | {"epochs": 1}), tmp_path, data_dir)
    assert caught.value.code == 143
    assert not (tmp_path / "metrics.json").exists()


def test_a_signal_whose_exception_was_swallowed_is_heeded(data_dir, tmp_path, monkeypatch):
    """As in a garbage collector's callback, of which JAX has one."""
    real = pipeline.encode

    def encode(*args, **kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(pipeline, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(Config(**SMALL), tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


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


def test_a_run_outlives_the_reader_of_its_output(capfd):
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.dup(1)
    os.dup2(writer, 1)
    try:
        with open(1, "w", closefd=False) as gone, contextlib.redirect_stdout(gone):
            run.say("nobody")
            run.say("reads this")
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)


def test_a_run_cut_between_its_last_epoch_and_its_figures_is_finished_later(
    whole, data_dir, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "finish", lambda self, data: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert_same_run(tmp_path, whole[0])


def test_a_run_with_recurrent_layers_and_word_dropout_resumes_exactly(
    data_dir, tmp_path, monkeypatch
):
    values = SMALL | {"model": "lstm", "size": "small,embedding_dim=5,units=3", "epochs": 1}
    config = Config(**values, word_dropout_rate=0.2, label_smoothing_rate=0.1)
    train_and_evaluate(config, tmp_path / "whole", data_dir)
    with monkeypatch.context() as patch:
        interrupt(patch, 6, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, tmp_path / "cut", data_dir)
    train_and_evaluate(config, tmp_path / "cut", data_dir)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def interrupted_run(monkeypatch, workdir, data_dir, at_step=17):
    """A run with two checkpoints, after step 13 (an epoch's end) and `at_step` + 1."""
    with monkeypatch.context() as patch:
        interrupt(patch, at_step, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(Config(**SMALL), workdir, data_dir)
    assert checkpoint_names(workdir) == ["ckpt-1", "ckpt-2"]


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    whole, data_dir, tmp_path, monkeypatch, capsys
):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    data = tmp_path / "checkpoints" / "ckpt-2.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    capsys.readouterr()
    train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    printed = capsys.readouterr().out
    assert "checkpoint ckpt-2 damaged and set aside: going on from the one before it" in printed
    assert "going on after step 13 of 39" in printed
    assert_same_run(tmp_path, whole[0])


def test_without_a_whole_checkpoint_a_run_begins_anew(
    whole, data_dir, tmp_path, monkeypatch, capsys
):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    for index in (tmp_path / "checkpoints").glob("*.index"):
        index.write_bytes(b"harm")
    train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    assert "going on from the beginning: there is no other" in capsys.readouterr().out
    assert_same_run(tmp_path, whole[0])


def test_a_checkpoint_of_other_variables_is_refused(data_dir, tmp_path, monkeypatch):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    content = json.loads((tmp_path / "config.json").read_text())
    content["config"]["size"] = "small,embedding_dim=5"
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="holds other variables than this model has"):
        train_and_evaluate(Config(**SMALL | {"size": "small,embedding_dim=5"}), tmp_path, data_dir)


def test_a_workdir_of_another_configuration_is_refused(whole, data_dir):
    other = Config(**SMALL | {"batch_size": 8, "seed": 3})
    with pytest.raises(UsageError) as caught:
        train_and_evaluate(other, whole[0], data_dir)
    assert "(batch_size: 16 there, 8 asked; seed: 0 there, 3 asked)" in str(caught.value)
    same = Config(**SMALL, checkpoint_seconds=1.0)
    assert train_and_evaluate(same, whole[0], data_dir) == whole[1]


def test_a_run_that_kept_nothing_is_in_no_ones_way(data_dir, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", lambda self, *batch: (float("nan"), 0))
        with pytest.raises(RunError, match="the loss of step 1 is nan"):
            train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    other = Config(**SMALL | {"epochs": 1})
    assert train_and_evaluate(other, tmp_path, data_dir)["epochs"] == 1


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


@pytest.mark.parametrize(
    ("select_by", "accuracies", "log_losses", "best"),
    [
        ("accuracy", [0.7, 0.7, 0.6], [0.5, 0.4, 0.3], 2),  # a tie goes to the lower log-loss
        ("log_loss", [0.5, 0.7, 0.6], [0.5, 0.6, 0.4], 3),
    ],
)
def test_the_best_epoch_is_what_was_asked_for(
    data_dir, tmp_path, monkeypatch, select_by, accuracies, log_losses, best
):
    scripted(monkeypatch, accuracies, log_losses)
    figures = train_and_evaluate(Config(**SMALL, select_by=select_by), tmp_path, data_dir)
    assert figures["best_epoch"] == best


def test_patience_ends_a_run_and_survives_a_cut(data_dir, tmp_path, monkeypatch):
    config = Config(**SMALL | {"epochs": 9}, patience_epochs=2)
    with monkeypatch.context() as patch:
        scored = scripted(patch, [0.6, 0.8, 0.7], [1, 1, 1])
        interrupt(patch, 40, signal.SIGTERM)  # in the fourth epoch
        with pytest.raises(SystemExit):
            train_and_evaluate(config, tmp_path, data_dir)
    scored = scripted(monkeypatch, [0.75], [1])
    figures = train_and_evaluate(config, tmp_path, data_dir)
    assert (figures["epochs"], figures["best_epoch"]) == (4, 2)
    assert figures["steps"] == 4 * 13
    assert scored == ["validation", "validation", "test"]


def test_the_test_split_is_scored_once_and_last(data_dir, tmp_path, monkeypatch):
    scored = scripted(monkeypatch, [], [])
    train_and_evaluate(Config(**SMALL | {"epochs": 2}), tmp_path, data_dir)
    assert scored == ["validation"] * 3 + ["test"]


def test_a_task_without_a_test_split_has_no_test_figures(data_dir, tmp_path, monkeypatch):
    real = pipeline.encode

    def encode(*args, **kwargs):
        data = real(*args, **kwargs)
        del data.splits["test"]
        return data

    monkeypatch.setattr(pipeline, "encode", encode)
    figures = train_and_evaluate(Config(**SMALL | {"epochs": 1}), tmp_path, data_dir)
    assert "test" not in figures
    assert figures["validation"]["examples"] == 53


def test_tracks_of_features_train_too(tmp_path, monkeypatch):
    task = Task("tracks", "t", "1.0.0", "x", "y", ("a", "b", "c"), "train", "v", None, "features")
    monkeypatch.setitem(TASKS, "tracks", task)
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 9, 60)
    offsets = np.concatenate([[0], lengths.cumsum()])
    labels = rng.integers(0, 3, 60).astype("int32")
    values = rng.normal(size=(offsets[-1], 5)).astype("float32")
    values[:, 0] += 3 * np.repeat(labels, lengths)
    split = pipeline.Split(values, offsets, labels)
    data = pipeline.EncodedTask(task, None, (), {"train": split, "validation": split}, 5, "f")
    monkeypatch.setattr(pipeline, "encode", lambda *_, **__: data)
    config = Config(**SMALL | {"task": "tracks", "epochs": 4})
    figures = train_and_evaluate(config, tmp_path)
    assert figures["validation"]["accuracy"] > 0.6
    assert "auc" not in figures["validation"]
    trained = load_trained(tmp_path)
    assert trained.encoder is None
    assert without_times(evaluate(trained, "validation")) == without_times(figures["validation"])


def test_word_vectors_are_what_the_embedding_begins_with(data_dir, tmp_path, monkeypatch):
    tables = []
    monkeypatch.setattr(
        run.Run,
        "train",
        lambda self: tables.extend(
            twin.get_layer("embedding").embeddings.numpy()
            for twin in (self._learner.model, self._learner.averaged)
        ),
    )
    monkeypatch.setattr(run.Run, "finish", lambda self, data: {})
    config = Config(**SMALL, word_vectors="ppmi")
    train_and_evaluate(config, tmp_path, data_dir)
    np.testing.assert_array_equal(*tables)
    from zoo.vectors import ppmi_vectors

    data = pipeline.encode(get_task(TASK), data_dir, training.TextSettings("word", 60, 11))
    train = data.splits["train"]
    expected = ppmi_vectors(train.values, train.offsets, len(tables[0]), 7, seed=0)
    np.testing.assert_array_equal(tables[0], expected)


def test_word_vectors_larger_than_the_vocabulary_are_a_usage_error(data_dir, tmp_path):
    config = Config(**SMALL | {"size": "small", "word_vectors": "ppmi"})
    with pytest.raises(UsageError, match="--word_vectors=ppmi cannot work: dim must be between"):
        train_and_evaluate(config, tmp_path, data_dir)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_keeps_float32(data_dir, tmp_path, precision):
    config = Config(**SMALL, mixed_precision=precision)
    figures = train_and_evaluate(config, tmp_path, data_dir)
    assert figures["test"]["accuracy"] > 0.75
    model = load_trained(tmp_path).model
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_runs_in_another_thread_leave_signals_alone(whole, data_dir, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    ended = []
    thread = threading.Thread(
        target=lambda: ended.append(
            train_and_evaluate(Config(**SMALL | {"epochs": 1}), tmp_path, data_dir)["epochs"]
        )
    )
    thread.start()
    thread.join()
    assert ended == [1]
    assert signal.getsignal(signal.SIGINT) == before


def test_other_backends_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UsageError, match="training runs on TensorFlow, not on KERAS_BACKEND=jax"):
        train_and_evaluate(Config(**SMALL), tmp_path)
