"""A run that was cut anywhere goes on to the same end."""

import contextlib
import json
import os
import signal
import threading

import pytest

from tests.training.runs import (
    SMALL,
    assert_same_run,
    interrupt,
    interrupted_run,
    scripted,
)
from zoo import pipeline, run
from zoo.config import Config
from zoo.errors import RunError
from zoo.learner import Learner
from zoo.training import load_trained, train_and_evaluate


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
    """As by a library that goes on after whatever its own work raises."""
    real = pipeline.encode

    def encode(*args, **kwargs):
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        return real(*args, **kwargs)

    monkeypatch.setattr(pipeline, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        train_and_evaluate(Config(**SMALL), tmp_path / "run", data_dir)
    assert not (tmp_path / "run").exists()


def test_a_run_cut_between_its_last_epoch_and_its_figures_is_finished_later(
    whole, data_dir, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "finish", lambda *_: 1 / 0)
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


def test_a_run_that_counted_before_its_first_step_resumes_exactly(data_dir, tmp_path, monkeypatch):
    config = Config(**SMALL | {"model": "nb_ngram", "size": "small,num_buckets=97", "epochs": 1})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    figures = train_and_evaluate(config, whole, data_dir)
    assert figures["validation"]["accuracy"] > 0.75
    with monkeypatch.context() as patch:
        interrupt(patch, 4, signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, cut, data_dir)
    monkeypatch.setattr(Learner, "adapt", None)  # what was counted is in the checkpoint
    train_and_evaluate(config, cut, data_dir)
    assert_same_run(cut, whole)


def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    whole, data_dir, tmp_path, monkeypatch, capsys
):
    interrupted_run(monkeypatch, tmp_path, data_dir)
    data = tmp_path / "checkpoints" / "ckpt-19.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    capsys.readouterr()
    train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    printed = capsys.readouterr().out
    assert "checkpoint ckpt-19 damaged and set aside: going on from the one before it" in printed
    assert "going on after step 17 of 39" in printed
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


def test_a_run_that_kept_nothing_is_in_no_ones_way(data_dir, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", lambda self, *batch: (float("nan"), 0, 1))
        with pytest.raises(RunError, match="the loss of step 1 is nan"):
            train_and_evaluate(Config(**SMALL), tmp_path, data_dir)
    other = Config(**SMALL | {"epochs": 1})
    assert train_and_evaluate(other, tmp_path, data_dir)["epochs"] == 1


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
    # The fourth epoch, the temperature, and the figures.
    assert scored == ["validation"] * 3 + ["test"]


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
