"""A cluster of which a worker is lost, told to stop, or late, comes to the same end."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.training.runs import assert_same_run
from tests.training.test_workers import LSTM, flags_of
from tests.training.workers import (
    ENVIRONMENT,
    ROOT,
    assert_ended,
    free_addresses,
    tf_config,
    workers,
)
from zoo import training
from zoo.config import Config
from zoo.distribution import Team
from zoo.learner import Learner

EPOCHS = 6
CONFIG = Config(
    **LSTM | {"epochs": EPOCHS, "dropout_rate": 0.2},
    strategy="multi_worker",
    checkpoint_seconds=0.0,
)


def until_listening(address, worker):
    host, _, port = address.rpartition(":")
    for _ in range(3_000):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        assert worker.process.poll() is None, worker.said
        time.sleep(0.1)
    raise AssertionError(worker.said)


@pytest.fixture(scope="module")
def together(tmp_path_factory, data_dir):
    """A run of two workers that nothing befell, but that one was late."""
    workdir = tmp_path_factory.mktemp("together") / "run"
    flags, addresses = flags_of(CONFIG, workdir, data_dir), free_addresses(2)
    with workers(addresses, flags, [0]) as (chief,):
        until_listening(addresses[0], chief)
        with workers(addresses, flags, [1]) as (other,):
            assert_ended([chief, other], [0, 0])
    return workdir


@pytest.mark.slow
def test_a_worker_that_is_killed_and_started_again_is_waited_for(together, data_dir, tmp_path):
    flags, addresses = flags_of(CONFIG, tmp_path / "run", data_dir), free_addresses(2)
    with workers(addresses, flags) as (chief, other):
        chief.until("epoch 1/")
        other.send(signal.SIGKILL)
        chief.until("a worker of the cluster is lost")
        with workers(addresses, flags, [1]) as (again,):
            chief.until("going on after step")
            chief.until("epoch 3/")
            chief.send(signal.SIGKILL)
            again.until("a worker of the cluster is lost")
            with workers(addresses, flags, [0]) as (new_chief,):
                assert_ended([new_chief, again], [0, 0])
    assert_same_run(tmp_path / "run", together)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "number", "code"), [(0, signal.SIGINT, 130), (1, signal.SIGTERM, 143)]
)
def test_a_signal_to_one_worker_ends_all_with_the_state_saved_once(
    together, data_dir, tmp_path, index, number, code
):
    flags, addresses = flags_of(CONFIG, tmp_path / "run", data_dir), free_addresses(2)
    with workers(addresses, flags) as both:
        both[0].until("epoch 1/")
        both[index].send(number)
        assert_ended(both, [code, code])
        assert sum("interrupted: saved after step" in line for line in both[0].said) == 1
        assert not any("interrupted" in line for line in both[1].said)
    with workers(addresses, flags) as both:
        assert_ended(both, [0, 0])
    assert_same_run(tmp_path / "run", together)


def test_a_signal_while_variables_are_made_is_told_of_when_all_are(data_dir, tmp_path, monkeypatch):
    build, done = Learner._build, []

    def interrupted(self, inputs):
        if "twin" not in done:
            os.kill(os.getpid(), signal.SIGINT)
        done.append("twin")
        return build(self, inputs)

    monkeypatch.setattr(Learner, "_build", interrupted)
    monkeypatch.setattr(Team, "_send", lambda self, message: done.append(message))
    monkeypatch.setattr(training, "make_team", lambda _, signals: Team(None, 2, 0, signals))
    with pytest.raises(KeyboardInterrupt):
        training.train_and_evaluate(Config(**LSTM), tmp_path, data_dir)
    assert done[-3:] == ["twin", "twin", {"signal": signal.SIGINT, "failure": ""}]


@pytest.mark.slow
def test_who_waits_for_the_others_can_be_told_not_to(data_dir, tmp_path):
    flags, addresses = flags_of(CONFIG, tmp_path / "run", data_dir), free_addresses(2)
    with workers(addresses, flags, [0]) as (chief,):
        until_listening(addresses[0], chief)
        chief.send(signal.SIGINT)
        assert_ended([chief], [-signal.SIGINT])
    assert chief.said == []
    assert os.listdir(tmp_path / "run") == [".lock"]  # which the next one takes


@pytest.mark.slow
def test_a_finished_run_needs_no_cluster(together, data_dir):
    with workers(free_addresses(2), flags_of(CONFIG, together, data_dir), [0]) as (chief,):
        assert chief.ended() == 0
    assert "holds this very run, finished" in chief.said[0]


def run_alone(flags, variable):
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "TF_CONFIG"}
    if variable is not None:
        environment["TF_CONFIG"] = variable
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers/train.py"), *flags],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("taken", [False, True])
def test_a_cluster_that_cannot_work_is_one_line(data_dir, tmp_path, taken):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        variable = tf_config([address], 0) if taken else None
        done = run_alone(flags_of(CONFIG, tmp_path / "run", data_dir), variable)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("train.py: --strategy=multi_worker cannot work: ")
    assert ("cannot be listened at" if taken else "TF_CONFIG is missing") in line
    assert not (tmp_path / "run").exists()
