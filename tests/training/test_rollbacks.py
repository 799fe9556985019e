"""A run that has diverged goes back with a smaller step, and is as repeatable as any other."""

import json
import shutil
import signal

import numpy as np
import pytest

from tests.training.runs import SMALL, assert_same_run, interrupt, weights_of
from zoo.config import Config
from zoo.errors import RunError
from zoo.learner import Learner
from zoo.training import train_and_evaluate

CONFIG = Config(**SMALL, on_nan="rollback")


def spoil(monkeypatch, iteration, above):
    """Makes a weight no number in that step, while the step size is above so much of its own."""
    real = Learner.step

    def step(self, inputs, labels):
        if int(self._schedule.iterations) == iteration and float(self._step_factor) > above:
            self.model.trainable_variables[0].assign_add([[np.nan] * 7] * 44)
        return real(self, inputs, labels)

    monkeypatch.setattr(Learner, "step", step)


@pytest.fixture(scope="module")
def rolled_back(data_dir, tmp_path_factory):
    """A run of which the second epoch diverged twice, in its eighth step."""
    workdir = tmp_path_factory.mktemp("rolled") / "run"
    with pytest.MonkeyPatch.context() as patch:
        spoil(patch, 20, 0.3)
        figures = train_and_evaluate(CONFIG, workdir, data_dir)
    return workdir, figures


def test_it_says_where_it_goes_and_how_large_its_steps_are(data_dir, tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, 20, 0.3)
    train_and_evaluate(CONFIG, tmp_path, data_dir)
    lines = [line for line in capsys.readouterr().out.splitlines() if "going back" in line]
    assert lines == [
        f"the loss of step 21 is nan: going back to step 13 and on with half the step size, as "
        f"with --learning_rate={rate} (rollback {number} of 5 in epoch 2)"
        for number, rate in ((1, "0.015"), (2, "0.0075"))
    ]


def test_the_step_size_is_halved_from_there_and_for_good(whole, rolled_back):
    rows = [(path / "log.csv").read_text().splitlines() for path in (whole[0], rolled_back[0])]
    names = rows[0][0].split(",")
    before, after = (
        [dict(zip(names, row.split(","), strict=True)) for row in table[1:]] for table in rows
    )
    assert [row["step"] for row in after] == ["13", "26", "39"]
    for name in ("loss", "learning_rate", "validation_accuracy"):
        assert after[0][name] == before[0][name]
    for ours, theirs in zip(after[1:], before[1:], strict=True):
        assert float(ours["learning_rate"]) == 0.25 * float(theirs["learning_rate"])
    assert rolled_back[1]["steps"] == 39
    assert rolled_back[1]["config"]["on_nan"] == "rollback"


def test_a_step_of_half_the_size_is_half_as_long(data_dir, tmp_path, monkeypatch):
    """Of plain descent, that is, without weight decay: Adam's first step is the step size."""
    moved = []
    for name, factor in (("whole", 1.0), ("half", 0.5)):
        real = Learner.step

        def step(self, inputs, labels, factor=factor, real=real):
            self.scale_steps(factor)
            before = self.model.trainable_variables[0].numpy()
            result = real(self, inputs, labels)
            if int(self._schedule.iterations) == 1:
                moved.append(self.model.trainable_variables[0].numpy() - before)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", step)
            train_and_evaluate(Config(**SMALL | {"epochs": 1}), tmp_path / name, data_dir)
    assert np.abs(moved[0]).max() > 1e-3
    np.testing.assert_allclose(moved[1], moved[0] / 2, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("at_step", [5, 15, 20])
def test_a_cut_changes_nothing(rolled_back, data_dir, tmp_path, monkeypatch, at_step):
    """Cut in the first epoch, before the step that diverges, and in that step's first try."""
    with monkeypatch.context() as patch:
        interrupt(patch, at_step, signal.SIGTERM)
        spoil(patch, 20, 0.3)
        with pytest.raises(SystemExit):
            train_and_evaluate(CONFIG, tmp_path, data_dir)
    spoil(monkeypatch, 20, 0.3)
    train_and_evaluate(CONFIG, tmp_path, data_dir)
    assert_same_run(tmp_path, rolled_back[0])


def test_a_cut_after_going_back_changes_nothing(rolled_back, data_dir, tmp_path, monkeypatch):
    real = Learner.step
    spoil(monkeypatch, 20, 0.3)
    spoilt = Learner.step
    for factor, ahead in ((0.5, 13), (0.25, 17)):

        def step(self, *batch, factor=factor, ahead=ahead):
            if float(self._step_factor) == factor and int(self._schedule.iterations) == ahead:
                signal.raise_signal(signal.SIGTERM)
            return spoilt(self, *batch)

        monkeypatch.setattr(Learner, "step", step)
        with pytest.raises(SystemExit):
            train_and_evaluate(CONFIG, tmp_path, data_dir)
    monkeypatch.setattr(Learner, "step", real)
    train_and_evaluate(CONFIG, tmp_path, data_dir)
    assert_same_run(tmp_path, rolled_back[0])


def test_a_run_goes_back_to_its_beginning_too(data_dir, tmp_path, monkeypatch, capsys):
    """And is cut there, with a state of step 0."""
    spoil(monkeypatch, 3, 0.6)
    train_and_evaluate(CONFIG, tmp_path / "whole", data_dir)
    assert "the loss of step 4 is nan: going back to step 0 and" in capsys.readouterr().out
    spoilt, steps = Learner.step, []

    def step(self, *batch):
        steps.append(int(self._schedule.iterations))
        if steps[-2:] == [3, 0]:
            raise ZeroDivisionError
        return spoilt(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        with pytest.raises(ZeroDivisionError):
            train_and_evaluate(CONFIG, tmp_path / "cut", data_dir)
    capsys.readouterr()
    monkeypatch.setattr(Learner, "adapt", None)  # it is no beginning anew
    train_and_evaluate(CONFIG, tmp_path / "cut", data_dir)
    assert "going on after step 0 of 39" in capsys.readouterr().out
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_weights_and_answers_count_as_well(data_dir, tmp_path, monkeypatch, capsys):
    """The loss is of before the step, so that the last step of an epoch may spoil weights."""
    real = Learner.step

    def step(self, inputs, labels):
        result = real(self, inputs, labels)
        if int(self._schedule.iterations) == 13 and float(self._step_factor) == 1:
            for twin in (self.model, self.averaged):
                twin.trainable_variables[0].assign_add([[np.inf] * 7] * 44)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", step)
        train_and_evaluate(CONFIG, tmp_path / "weights", data_dir)
        assert "after step 13 the weights are not finite: going back to step 0" in (
            capsys.readouterr().out
        )
        patch.setattr(Learner, "is_finite", lambda self: True)
        train_and_evaluate(CONFIG, tmp_path / "answers", data_dir)
    assert "answers on validation are not finite numbers: going back" in capsys.readouterr().out
    assert_same_run(tmp_path / "weights", tmp_path / "answers")
    assert all(np.isfinite(weight).all() for weight in weights_of(tmp_path / "weights"))


def test_what_diverges_whatever_the_step_ends(data_dir, tmp_path, monkeypatch, capsys):
    spoil(monkeypatch, 20, 0.0)
    for _ in range(2):  # the same command again comes to the same end
        with pytest.raises(RunError) as caught:
            train_and_evaluate(CONFIG, tmp_path, data_dir)
        assert str(caught.value) == (
            f"the loss of step 21 is nan: stopped after 5 rollbacks; kept in {tmp_path}: the last "
            "good checkpoint and the best epoch so far; begin again in another --workdir with a "
            "smaller --learning_rate, with a smaller --clip_norm above 0"
        )
    assert capsys.readouterr().out.count("going back to step 13") == 5
    assert not (tmp_path / "metrics.json").exists()


def test_an_epoch_that_ended_gives_five_more_tries(data_dir, tmp_path, monkeypatch, capsys):
    real = Learner.step

    def step(self, inputs, labels):
        ahead, factor = int(self._schedule.iterations), float(self._step_factor)
        if (ahead == 5 and factor > 2**-4) or (ahead == 20 and factor > 2**-9):
            return float("nan"), 0, 1
        return real(self, inputs, labels)

    monkeypatch.setattr(Learner, "step", step)
    train_and_evaluate(CONFIG, tmp_path, data_dir)
    said = capsys.readouterr().out
    assert said.count("(rollback 4 of 5 in epoch 1)") == said.count("(rollback 5 of 5 in ep") == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["epochs"] == 3


def test_without_a_state_to_go_back_to_it_ends(data_dir, tmp_path, monkeypatch):
    real = Learner.step

    def step(self, inputs, labels):
        if int(self._schedule.iterations) == 20:
            shutil.rmtree(tmp_path / "checkpoints" / "epoch")
            return float("inf"), 0, 1
        return real(self, inputs, labels)

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(
        RunError, match="the loss of step 21 is inf: stopped, because the state of the beginning "
    ):
        train_and_evaluate(CONFIG, tmp_path, data_dir)


def test_a_run_that_stops_is_asked_for_no_state_of_its_epochs(whole):
    assert not (whole[0] / "checkpoints" / "epoch").exists()
