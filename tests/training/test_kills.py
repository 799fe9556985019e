"""A run that SIGKILL ended anywhere, any number of times, goes on to the very same end."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.runs import SMALL, assert_same_run, read_events
from zoo.config import Config

ROOT = Path(__file__).parents[2]
MANY_STEPS = Config(**SMALL | {"batch_size": 4}, checkpoint_seconds=0.0)
KILLS = 20
# In the order in which one run comes to them.
PHASES = (
    *("vocabulary", "caching", "training", "checkpoint", "renaming", "validation", "model"),
    *("figures", "export", "card", "publishing"),
)

pytestmark = pytest.mark.slow


class Server:
    """What begins processes of `trainers/train.py`, in `fork_server.py`."""

    def __init__(self, logs):
        self._logs = logs
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fork_server.py"))],
            env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    def _ask(self, **order):
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(self, workdir, data_dir, *flags, config=MANY_STEPS, phase=None):
        out, err = (self._logs / f"{time.monotonic_ns()}.{name}" for name in ("out", "err"))
        given = [*config.to_flags(), f"--workdir={workdir}", f"--data_dir={data_dir}", *flags]
        process = self._ask(run=given, phase=phase, out=str(out), err=str(err))
        return Run(self, process, out, err)

    def wait(self, process):
        return self._ask(wait=process)

    def end(self):
        with self._process:  # closes its pipes, which is what it ends by
            pass
        assert self._process.returncode == 0


class Run:
    """A process of `trainers/train.py`."""

    def __init__(self, server, process, out, err):
        self._server, self._process, self._out, self._err = server, process, out, err

    def is_alive(self):
        state = Path(f"/proc/{self._process}/stat").read_text().rpartition(") ")[2]
        return state[0] != "Z"

    def send(self, number):
        os.kill(self._process, number)

    def wait(self):
        """Exit code, and what it printed."""
        return self._server.wait(self._process), self._out.read_text(), self._err.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("logs"))
    yield server
    server.end()


@pytest.fixture(scope="module")
def uninterrupted(server, data_dir, tmp_path_factory):
    """A run that nothing befell, and its export."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    flags = (f"--export_dir={folder / 'exports'}", "--export_name=tiny")
    code, out, err = server.start(folder / "run", data_dir, *flags).wait()
    assert code == 0, err
    assert f"exported to {folder / 'exports' / 'tiny' / '1'}" in out
    return folder


def newest(workdir):
    numbers = [int(path.stem[5:]) for path in (workdir / "checkpoints").glob("ckpt-*.index")]
    return max(numbers, default=0)


def wait_for_checkpoints(run, workdir, more):
    goal = newest(workdir) + more
    while newest(workdir) < goal and run.is_alive():
        time.sleep(0.001)


def half_written(folder):
    """What no one but its writer is to take for whole."""
    names = ("partial-*", "unfinished*", ".unfinished-*")
    return [path.name for name in names for path in folder.rglob(name)]


def test_killed_at_twenty_instants(server, uninterrupted, data_dir, tmp_path):
    """After so many steps and a moment, or before the first one."""
    rng = random.Random(1)
    started, to_begin, killed = 0.0, 0.0, 0
    for kill in range(KILLS):
        started = time.monotonic()
        run = server.start(tmp_path, data_dir)
        if kill % 4 == 3:
            time.sleep(rng.uniform(0, to_begin))
        else:
            wait_for_checkpoints(run, tmp_path, 1)
            to_begin = time.monotonic() - started
            wait_for_checkpoints(run, tmp_path, rng.randint(0, 9))
            time.sleep(rng.uniform(0, 0.02))
        run.send(signal.SIGKILL)
        code, out, err = run.wait()
        killed += code == -signal.SIGKILL
        assert "damaged" not in out + err
    assert killed == KILLS
    code, out, err = server.start(tmp_path, data_dir).wait()
    assert code == 0, err
    assert "going on after step" in out
    assert_same_run(tmp_path, uninterrupted / "run")
    assert not half_written(tmp_path)
    events = read_events(tmp_path)
    for tag in {tag for tag, _, _ in events}:
        assert [step for name, step, _ in events if name == tag] == [1, 2, 3]


def test_killed_once_in_each_phase(server, uninterrupted, data_dir, tmp_path):
    data, workdir, exports = tmp_path / "data", tmp_path / "run", tmp_path / "exports"
    shutil.copytree(data_dir, data, ignore=shutil.ignore_patterns("encoded"))
    flags = (f"--export_dir={exports}", "--export_name=tiny")
    for phase in PHASES:
        code, _, err = server.start(workdir, data, *flags, phase=phase).wait()
        assert code == -signal.SIGKILL, (phase, code, err)
        cached = [path for path in data.glob("encoded/*/*") if path.name[0] != "."]
        assert len(cached) == (phase not in ("vocabulary", "caching"))
        assert (workdir / "model.keras").exists() == (
            phase in ("figures", "export", "card", "publishing")
        )
        assert (workdir / "metrics.json").exists() == (phase in ("export", "card", "publishing"))
        assert not list(exports.glob("*/[0-9]*"))
    code, out, err = server.start(workdir, data, *flags).wait()
    assert code == 0, err
    assert f"exported to {exports / 'tiny' / '1'}" in out
    assert_same_run(workdir, uninterrupted / "run")
    assert not half_written(tmp_path)
    files = [
        sorted(path.relative_to(folder).as_posix() for path in (folder / "tiny").rglob("*"))
        for folder in (exports, uninterrupted / "exports")
    ]
    assert files[0] == files[1]


def test_of_two_in_one_folder_the_second_is_refused_until_the_first_is_gone(
    server, uninterrupted, data_dir, tmp_path
):
    first = server.start(tmp_path, data_dir)
    wait_for_checkpoints(first, tmp_path, 3)
    first.send(signal.SIGSTOP)
    code, out, err = server.start(tmp_path, data_dir).wait()
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == f"train.py: another process is training in {tmp_path}"
    first.send(signal.SIGKILL)
    assert first.wait()[0] == -signal.SIGKILL
    code, out, err = server.start(tmp_path, data_dir).wait()
    assert code == 0, err
    assert "going on after step" in out
    assert_same_run(tmp_path, uninterrupted / "run")
