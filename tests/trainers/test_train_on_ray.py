"""Ray Train starts our workers: a stand-in for it, and, where it is installed, Ray itself."""

import importlib.util
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest
from absl import flags

import zoo.training
from zoo.config import Config
from zoo.distribution import PeerLost
from zoo.errors import RunError

ROOT = Path(__file__).parents[2]


def run_on_stand_in(monkeypatch, failure=None, **given):
    """Runs the program on Ray Train's names alone, which write down how they are called."""
    called = {}

    class ControllerError(Exception):
        def __init__(self, failure):
            self.controller_failure = failure

    class Trainer:
        def __init__(self, work, **given):
            called.update(given, work=work)

        def fit(self):
            try:
                called["run_config"]["callbacks"][0].after_exception(None, {0: failure})
            except Exception as error:  # Ray Train does not try what its controller fails at again
                raise ControllerError(error) from error

    train = types.ModuleType("ray.train")
    for name in ("FailureConfig", "RunConfig", "ScalingConfig"):
        setattr(train, name, lambda **given: given)
    train.UserCallback, train.ControllerError = object, ControllerError
    ray, tensorflow = types.ModuleType("ray"), types.ModuleType("ray.train.tensorflow")
    ray.train, tensorflow.TensorflowTrainer = train, Trainer
    for module in (ray, train, tensorflow):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.syspath_prepend(str(ROOT / "trainers"))
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    given = {"workers": 3, "gpus": False, "workdir": "run", "data_dir": None} | given
    for kind in ("integer", "boolean", "string"):
        define = lambda name, *_, **__: types.SimpleNamespace(value=given[name])  # noqa: E731
        monkeypatch.setattr(flags, f"DEFINE_{kind}", define)
    command = types.ModuleType("command")
    command.define = lambda *given, **named: None
    command.read = lambda kind: kind(seed=5, warm_start="begun")
    monkeypatch.setitem(sys.modules, "command", command)
    runpy.run_path(str(ROOT / "trainers/train_on_ray.py"))["main"]([])
    return called


def test_ray_is_told_how_many_workers_and_that_none_may_be_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    called = run_on_stand_in(monkeypatch)
    assert called["scaling_config"] == {"num_workers": 3, "use_gpu": False}
    assert called["run_config"]["failure_config"] == {"max_failures": -1}
    trained = []
    monkeypatch.setattr(
        zoo.training, "train_and_evaluate", lambda *given: trained.append((*given, os.getcwd()))
    )
    monkeypatch.chdir("/")  # Ray's workers have a folder of their own
    called["work"](json.loads(json.dumps(called["train_loop_config"])))  # it crosses the network
    config = Config(seed=5, warm_start="begun", strategy="multi_worker")
    assert trained == [(config, str(tmp_path / "run"), None, str(tmp_path))]


def test_home_folders_are_those_of_the_caller(monkeypatch):
    monkeypatch.setenv("HOME", "/home/caller")
    called = run_on_stand_in(monkeypatch, workdir="~/run", data_dir="~/data")
    settings = called["train_loop_config"]
    assert settings["workdir"] == "/home/caller/run"
    assert settings["data_dir"] == "/home/caller/data"
    # That the worker refuses, as train.py does; it is not the present folder.
    assert run_on_stand_in(monkeypatch, workdir="")["train_loop_config"]["workdir"] == ""


def test_what_we_give_up_is_not_tried_again(monkeypatch):
    with pytest.raises(RunError, match="no data"):
        run_on_stand_in(monkeypatch, RunError("no data"))
    assert run_on_stand_in(monkeypatch, OSError("no route to host"))


def test_a_lost_peer_is_no_end(monkeypatch):
    def lost(*_):
        raise PeerLost("a worker of the cluster is lost")

    called = run_on_stand_in(monkeypatch)
    monkeypatch.setattr(zoo.training, "train_and_evaluate", lost)
    monkeypatch.setattr(os, "chdir", lambda _: None)
    with pytest.raises(ConnectionError, match="is lost") as caught:
        called["work"](called["train_loop_config"])
    assert run_on_stand_in(monkeypatch, caught.value)


def has_ray():
    return importlib.util.find_spec("ray") is not None


@pytest.mark.slow
@pytest.mark.skipif(has_ray(), reason="Ray is installed")
def test_without_ray_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "trainers/train_on_ray.py", f"--workdir={tmp_path}"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(r"train_on_ray.py: Ray Train cannot be imported", line)


@pytest.mark.slow
@pytest.mark.skipif(not has_ray(), reason="Ray is not installed: pip install 'ray[train]>=2.60'")
class TestRayItself:
    """In CI it is not: it would hold the suite up for minutes, and wants the cores for itself."""

    def start(self, folder, *flags):
        command = [sys.executable, ROOT / "trainers/train_on_ray.py", "--workers=2"]
        return subprocess.Popen(
            [*command, "--task=basic_motions", "--batch_size=8", "--workdir=run", *flags],
            cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def test_a_worker_that_is_killed_is_replaced_and_the_run_finished(self, tmp_path):
        flags = ("--model=bag", "--epochs=40", "--checkpoint_seconds=0")
        lines = []
        with self.start(tmp_path, *flags) as process:
            for line in process.stdout:
                lines.append(line)
                known = re.search(r"RayTrainWorker pid=(\d+)\).* epoch 10/", line)
                if known and not any("killed by the test" in line for line in lines):
                    os.kill(int(known[1]), signal.SIGKILL)
                    lines.append("killed by the test")
        assert process.returncode == 0, "".join(lines)
        steps = [re.search(r"going on after step (\d+) of 160", line) for line in lines]
        assert any(step and int(step[1]) >= 40 for step in steps)
        metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
        assert metrics["steps"] == 160

    def test_what_is_missing_is_one_line_at_the_end(self, tmp_path):
        with self.start(tmp_path, f"--data_dir={tmp_path}") as process:
            output, _ = process.communicate(timeout=300)
        assert process.returncode == 1
        told = f"train_on_ray.py: the data of task 'basic_motions' are not prepared in {tmp_path}"
        assert [line for line in output.splitlines() if line.startswith(told)]
