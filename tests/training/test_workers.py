"""Several processes that share a run come to what one comes to alone."""

import numpy as np
import pytest

from tests.training.runs import SMALL, weights_of
from tests.training.workers import assert_ended, free_addresses, workers
from zoo.config import Config
from zoo.training import train_and_evaluate
from zoo.workdir import Workdir

# 51 steps an epoch, the last one of three rows: fewer than four workers.
LSTM = SMALL | {
    "model": "lstm",
    "size": "small,embedding_dim=6,units=4",
    "batch_size": 4,
    "epochs": 2,
    "dropout_rate": 0.0,
    "learning_rate": 0.01,
}


def flags_of(config, workdir, data_dir):
    return [*config.to_flags(), f"--workdir={workdir}", f"--data_dir={data_dir}"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data_dir):
    """The run of one process."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    return workdir, train_and_evaluate(Config(**LSTM), workdir, data_dir)


def assert_agree(workdir, other):
    ours, theirs = (Workdir(path).read_log() for path in (workdir, other))
    assert len(ours) == len(theirs) == LSTM["epochs"]
    for row, expected in zip(ours, theirs, strict=True):
        for name in ("loss", "validation_log_loss"):
            assert row[name] == pytest.approx(expected[name], abs=1e-4), name
    assert ours[-1]["step"] == 102
    for weight, expected in zip(weights_of(workdir), weights_of(other), strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-4)


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 4)]
)
def test_any_number_of_workers_agrees_with_one_process(alone, data_dir, tmp_path, number):
    config = Config(**LSTM, strategy="multi_worker")
    chief, others = tmp_path / "run", tmp_path / "nobodys"
    addresses = free_addresses(number)
    with (
        workers(addresses, flags_of(config, chief, data_dir), [0]) as (first,),
        workers(addresses, flags_of(config, others, data_dir), range(1, number)) as rest,
    ):
        every = [first, *rest]
        assert_ended(every, [0] * number)
    for one in rest:
        assert one.said == [f"{config.task}: sharing the steps of {number} workers"]
    assert first.said[-1].startswith("test: accuracy")
    assert_agree(chief, alone[0])
    assert not others.exists()  # the chief alone writes


@pytest.mark.slow
def test_workers_go_back_together_when_a_loss_is_no_number(data_dir, tmp_path):
    config = Config(**LSTM | {"learning_rate": 1e30}, strategy="multi_worker", on_nan="rollback")
    with workers(free_addresses(2), flags_of(config, tmp_path / "run", data_dir)) as every:
        assert_ended(every, [1, 1])
    chief, other = (one.said for one in every)
    assert sum("going back to step 0" in line for line in chief) == 5
    assert "stopped after 5 rollbacks" in chief[-1]
    assert "the chief has failed" in other[-1]
