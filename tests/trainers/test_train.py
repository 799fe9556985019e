"""The program as its user meets it: one process a run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures import write_records
from zoo.tasks import get_task
from zoo.workdir import Workdir

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, str(ROOT / "trainers" / "train.py")]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
TASK = "movie_reviews/imdb"
SMALL = (
    f"--task={TASK}",
    "--model=bag",
    "--size=small,embedding_dim=7",
    "--vocabulary_size=60",
    "--max_length=11",
    "--batch_size=4",
    "--epochs=3",
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_records(get_task(TASK), folder, rows=203)
    return folder


def start(workdir, data_dir, *flags):
    return subprocess.Popen(
        [*TRAIN, *SMALL, f"--workdir={workdir}", f"--data_dir={data_dir}", *flags],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a script starts in the background, this suite maybe, would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(workdir, data_dir, *flags):
    process = start(workdir, data_dir, *flags)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    exports = workdir.parent / "exports"
    result = end(workdir, data_dir, f"--export_dir={exports}", "--export_name=bag-of-words")
    return workdir, result


def test_a_run_prints_its_figures_and_nothing_else(whole):
    workdir, (code, out, err) = whole
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("movie_reviews/imdb: 203 training examples, 153 steps in 3 epochs,")
    assert [line[:10] for line in lines[1:4]] == [f"epoch {n}/3:" for n in (1, 2, 3)]
    assert lines[4].startswith("checkpoints took 0.")
    assert lines[5].startswith("validation: accuracy ")
    assert lines[6].startswith("test: accuracy ")
    config = json.loads((workdir / "config.json").read_text())["config"]
    assert (config["batch_size"], config["batch_tokens"]) == (4, 0)


def test_a_run_exports_if_asked_to(whole):
    workdir, (_, out, _) = whole
    folder = workdir.parent / "exports" / "bag-of-words" / "1"
    assert (folder / "saved_model.pb").exists()
    assert f"exported to {folder}" in out


def test_a_finished_run_says_so(whole, data_dir):
    workdir, (_, first, _) = whole
    code, out, err = end(workdir, data_dir)
    assert (code, err) == (0, "")
    assert "finished" in out
    assert first.splitlines()[5:7] == out.splitlines()[1:3]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epoch=3"], "Unknown command line flag 'epoch'. Did you mean: epochs"),
        (["--max_length=0"], "--max_length=0 cannot work: it must be at least 1"),
        (["--batch_tokens=64"], "--batch_tokens=64 --batch_size=4 cannot work"),
        (["--task=movie_review/imdb"], "did you mean 'movie_reviews/imdb'?"),
        (["run"], "takes flags only, not 'run'"),
    ],
)
def test_a_bad_flag_is_refused_without_importing_tensorflow(tmp_path, flags, message):
    command = [sys.executable, "-X", "importtime", *TRAIN[1:], *SMALL, "--workdir=w", *flags]
    result = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True)
    said = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    assert (result.returncode, len(said)) == (2, 1)
    assert message in said[0]
    assert "zoo.config" in result.stderr
    assert "tensorflow" not in result.stderr.replace("TensorFlow", "")
    assert not list(tmp_path.iterdir())


def test_an_unknown_model_is_one_line(tmp_path, data_dir):
    code, out, err = end(tmp_path, data_dir, "--model=bagg")
    assert (code, out) == (2, "")
    assert err.startswith("train.py: unknown model 'bagg': did you mean 'bag'?")
    assert err.count("\n") == 1


def test_help_names_every_group_without_importing_tensorflow():
    command = [sys.executable, "-X", "importtime", *TRAIN[1:], "--help"]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert result.returncode == 0
    assert "tensorflow" not in result.stderr
    for group in ("data", "model", "optimisation", "run"):
        assert f"\n{group} flags:\n" in result.stdout
    for flag in ("workdir", "data_dir", "export_dir", "model", "batch_tokens", "flagfile"):
        assert f"--{flag}" in result.stdout


def newest_checkpoint(workdir):
    names = [path.stem for path in (workdir / "checkpoints").glob("ckpt-*.index")]
    return max((int(name.removeprefix("ckpt-")) for name in names), default=0)


def wait_for_checkpoints(process, workdir, more):
    """Waits until the run has saved so many states; whether it is still under way."""
    goal = newest_checkpoint(workdir) + more
    while process.poll() is None and newest_checkpoint(workdir) < goal:
        time.sleep(0.002)
    return process.poll() is None


def without_times(figures):
    if isinstance(figures, dict):
        return {k: without_times(v) for k, v in figures.items() if "second" not in k}
    return figures


def assert_same_run(workdir, other):
    weights = [Workdir(path).load_model().get_weights() for path in (workdir, other)]
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    figures = [json.loads((path / "metrics.json").read_text()) for path in (workdir, other)]
    assert without_times(figures[0]) == without_times(figures[1])
    rows = [(path / "log.csv").read_text().splitlines() for path in (workdir, other)]
    # The last column is seconds.
    assert [row.rpartition(",")[0] for row in rows[0]] == [
        row.rpartition(",")[0] for row in rows[1]
    ]


@pytest.mark.slow
def test_a_run_that_was_killed_ends_as_one_that_was_not(whole, data_dir, tmp_path):
    """Killed in the middle of a step, of a checkpoint's writing, of whatever it was at."""
    rng = random.Random(0)
    killed = 0
    for _ in range(3):
        process = start(tmp_path, data_dir, "--checkpoint_seconds=0")
        if wait_for_checkpoints(process, tmp_path, rng.randint(1, 45)):
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            killed += 1
        process.communicate()
    assert killed == 3
    code, out, err = end(tmp_path, data_dir, "--checkpoint_seconds=0")
    assert (code, err) == (0, "")
    assert "going on after step" in out
    assert_same_run(tmp_path, whole[0])


@pytest.mark.slow
def test_an_interrupted_run_saves_its_state_and_says_so(whole, data_dir, tmp_path):
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = start(tmp_path, data_dir, "--checkpoint_seconds=0")
        assert wait_for_checkpoints(process, tmp_path, 20)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert err.startswith("interrupted: saved after step ")
        assert err.count("\n") == 1
    assert end(tmp_path, data_dir)[0] == 0
    assert_same_run(tmp_path, whole[0])


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_line_and_the_run_goes_on_later(whole, data_dir, tmp_path):
    """No file may grow beyond 20 kB: larger than all but the checkpoint and the model."""
    command = " ".join(
        ["ulimit -f 20;", "exec", *TRAIN, *SMALL, f"--workdir={tmp_path}", f"--data_dir={data_dir}"]
    )
    result = subprocess.run(
        ["bash", "-c", command], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("partial-*"))
    assert not (tmp_path / "metrics.json").exists()
    assert end(tmp_path, data_dir)[0] == 0
    assert_same_run(tmp_path, whole[0])


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--export_name=first"], 2, "--export_name=first needs --export_dir"),
        (["--export_dir={folder}", "--export_name=../x"], 2, "cannot name a folder"),
        (["--export_dir="], 2, "--export_dir= cannot work"),
        (["--export_dir={folder}/file/below"], 1, "could not be written"),
        (["--data_dir="], 2, "--data_dir= is empty"),
        (
            ["--size=small,num_heads=3", "--model=lstm_attention"],
            2,
            "cannot be shared by num_heads=3",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_made(flags, code, message, data_dir, tmp_path):
    (tmp_path / "file").write_text("in the way")
    flags = [flag.format(folder=tmp_path) for flag in flags]
    result = end(tmp_path / "run", data_dir, *flags)
    assert (result[0], result[1], result[2].count("\n")) == (code, "", 1)
    assert message in result[2]
    assert not (tmp_path / "run").exists()
