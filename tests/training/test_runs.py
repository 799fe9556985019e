"""Runs from beginning to end on a tiny data set."""

import contextlib
import csv
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import (
    SMALL,
    TASK,
    assert_same_run,
    read_events,
    scripted,
    weights_of,
    without_times,
)
from zoo import pipeline, run, training
from zoo.config import Config
from zoo.learner import Learner
from zoo.models import TokenInputs
from zoo.tasks import TASKS, Task, get_task
from zoo.training import evaluate, load_trained, train_and_evaluate
from zoo.workdir import Workdir


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
    # The log knows no temperature, with which the loss is the least there is.
    assert float(best["validation_log_loss"]) > figures["validation"]["log_loss"]
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


def test_the_answers_of_a_run_are_divided_by_its_temperature(whole, data_dir, tmp_path):
    workdir, figures = whole
    ids = {"ids": tf.constant([[2, 3, 4, 0]])}
    plain = Workdir(workdir).load_model()(ids) / figures["temperature"]
    np.testing.assert_allclose(load_trained(workdir).model(ids), plain, rtol=1e-5)
    never = train_and_evaluate(Config(**SMALL, calibrate=False), tmp_path, data_dir)
    assert never["temperature"] == 1
    assert never["validation"]["accuracy"] == figures["validation"]["accuracy"]
    assert never["validation"]["log_loss"] > figures["validation"]["log_loss"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_evaluating_a_finished_run_gives_its_figures(whole, data_dir, split):
    workdir, figures = whole
    again = evaluate(load_trained(workdir), split, data_dir)
    assert without_times(again) == without_times(figures[split])


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


def test_the_test_split_is_scored_once_and_last(data_dir, tmp_path, monkeypatch):
    scored = scripted(monkeypatch, [], [])
    train_and_evaluate(Config(**SMALL | {"epochs": 2}), tmp_path, data_dir)
    # Each of two epochs, the temperature, and the figures.
    assert scored == ["validation"] * 4 + ["test"]


def test_the_test_split_is_left_for_later_if_so_asked(
    whole, data_dir, tmp_path, capsys, monkeypatch
):
    settings = Config(**SMALL)
    chosen = train_and_evaluate(settings, tmp_path / "run", data_dir, score_test=False)
    assert "test" not in chosen
    assert "validation" in chosen
    assert train_and_evaluate(settings, tmp_path / "run", data_dir, score_test=False) == chosen
    weights = weights_of(tmp_path / "run")
    # Without training, for which there is nothing left to go on from.
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    monkeypatch.setattr(Learner, "step", None)
    scored = train_and_evaluate(settings, tmp_path / "run", data_dir)
    assert without_times(scored) == without_times(whole[1])
    for old, new in zip(weights, weights_of(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(new, old)
    assert "finished" in capsys.readouterr().out


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
    monkeypatch.setattr(run.Run, "finish", lambda *_: {})
    config = Config(**SMALL, word_vectors="ppmi")
    train_and_evaluate(config, tmp_path, data_dir)
    np.testing.assert_array_equal(*tables)
    from zoo.vectors import ppmi_vectors

    data = pipeline.encode(get_task(TASK), data_dir, training.TextSettings("word", 60, 11))
    train = data.splits["train"]
    expected = ppmi_vectors(train.values, train.offsets, len(tables[0]), 7, seed=0)
    np.testing.assert_array_equal(tables[0], expected)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_and_keeps_float32(data_dir, tmp_path, precision):
    config = Config(**SMALL, mixed_precision=precision)
    figures = train_and_evaluate(config, tmp_path, data_dir)
    assert figures["test"]["accuracy"] > 0.75
    model = load_trained(tmp_path).model
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_few_labels_are_learnt_from_and_the_words_of_all_texts_known(
    data_dir, tmp_path, monkeypatch
):
    seen = []
    step = Learner.step

    def counted(learner, inputs, labels):
        seen.append(len(labels))
        return step(learner, inputs, labels)

    monkeypatch.setattr(Learner, "step", counted)
    vectors = {"word_vectors": "ppmi", "vocabulary_size": 60}
    of = {}
    for labels in (0, 20):
        config = Config(**SMALL | vectors | {"labelled_examples": labels, "epochs": 2})
        seen.clear()
        train_and_evaluate(config, tmp_path / str(labels), data_dir, score_test=False)
        of[labels] = sum(seen)
    assert of[20] == 2 * 20 < of[0]
    known, whole = (Workdir(tmp_path / str(labels)).vocabulary() for labels in (20, 0))
    assert known == whole
