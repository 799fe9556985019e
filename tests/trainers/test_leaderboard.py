"""The program as its user meets it, on tiny data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.tasks import get_task

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(ROOT / "trainers" / "leaderboard.py")]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
TASK = "movie_reviews/imdb"
RECIPE = """\
# Of the tests.
--size=small,embedding_dim=7
--vocabulary_size=60
--max_length=11
--batch_size=4
--epochs=3
--checkpoint_seconds=0
"""


def start(*flags):
    return subprocess.Popen(
        [*PROGRAM, f"--tasks={TASK}", *flags],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a script starts in the background, this suite maybe, would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(*flags):
    process = start(*flags)
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err


@pytest.fixture
def flags(tmp_path):
    write_records(get_task(TASK), tmp_path / "data", rows=203)
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "movie_reviews-imdb.flags").write_text(RECIPE)
    return [
        "--models=bag",
        "--seeds=0,1",
        f"--workdir={tmp_path / 'runs'}",
        f"--recipes={recipes}",
    ]


def wait_for_checkpoint(process, folder):
    while process.poll() is None and not list(folder.glob("checkpoints/ckpt-*.index")):
        time.sleep(0.01)
    assert process.poll() is None


@pytest.mark.slow
def test_interrupted_and_killed_it_goes_on_and_ends_with_the_table(flags, tmp_path):
    data, runs = f"--data_dir={tmp_path / 'data'}", tmp_path / "runs"
    of_model = runs / "movie_reviews-imdb" / "bag"

    process = start(*flags, data)
    wait_for_checkpoint(process, of_model / "0")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert (process.returncode, out, err) == (130, "", "")
    assert "interrupted: saved after step" in (of_model / "0.log").read_text()
    assert not (of_model / "1").exists()

    code, out, err = end(*flags, data)
    assert (code, out) == (2, "")
    assert "holds 1 of these 2 runs: give --resume" in err
    assert err.count("\n") == 1

    process = start(*flags, data, "--resume")
    wait_for_checkpoint(process, of_model / "1")
    process.kill()
    process.communicate()
    finished = (of_model / "0" / "metrics.json").stat().st_mtime_ns
    assert "going on after step" in (of_model / "0.log").read_text()

    # The job outlives the program that was killed; it is waited for, and not begun twice.
    code, out, err = end(*flags, data, "--resume")
    assert (code, err) == (0, "")
    assert f"[1/2] {TASK} bag seed 0: finished before" in out
    assert (of_model / "0" / "metrics.json").stat().st_mtime_ns == finished
    figures = [json.loads((of_model / seed / "metrics.json").read_text()) for seed in "01"]
    table = json.loads((runs / "leaderboard.json").read_text())
    (row,) = table["rows"]
    assert row["accuracies"] == [one["test"]["accuracy"] for one in figures]
    assert sum(part["examples"] for part in row["by_length"]) == 203
    assert not list(of_model.glob("*/checkpoints"))
    assert out.count("written: ") == 4

    (tmp_path / "data").rename(tmp_path / "gone")
    other = tmp_path / "docs" / "leaderboard"
    code, out, err = end(*flags, "--table_only", f"--out={other}")
    assert (code, err) == (0, "")
    assert other.with_suffix(".json").read_text() == (runs / "leaderboard.json").read_text()
    assert other.with_suffix(".md").read_text() == (runs / "leaderboard.md").read_text(), (
        "the same runs, the same table"
    )
    command = " ".join(flags)
    assert f"    python trainers/leaderboard.py --tasks={TASK} {command}\n" in (
        runs / "leaderboard.md"
    ).read_text("utf-8")


@pytest.mark.slow
def test_jobs_that_fail_are_named_at_the_end(flags, tmp_path):
    code, out, err = end(*flags, f"--data_dir={tmp_path / 'nowhere'}")
    assert code == 1
    assert err == (f"leaderboard.py: 2 of 2 jobs failed: {TASK} bag seed 0, {TASK} bag seed 1\n")
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"[2/2] {TASK} bag seed 1: failed: exit code 1: train.py: ")
    assert "prepare.py" in lines[1]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--tasks=movie_reviews/imbd", "did you mean 'movie_reviews/imdb'?"),
        ("--models=bag,lstn", "unknown model 'lstn': did you mean 'lstm'?"),
        ("--seeds=0,one", "--seeds=0,one cannot work: give numbers like 0,1,2"),
        ("--seeds=", "--seeds= cannot work"),
        (
            "--seeds=99999999999",
            "--seed=99999999999 cannot work: it must be at least 0 and at most",
        ),
        ("--workdir=", "--workdir= cannot work: give a path, or leave it out"),
        ("--recipes=", "--recipes= cannot work"),
        ("--results=", "--results= cannot work"),
        ("--out=", "--out= cannot work"),
        ("--seed=1", "Unknown command line flag 'seed'"),
    ],
)
def test_a_wrong_flag_is_one_line(flag, words, tmp_path):
    code, out, err = end("--table_only", f"--workdir={tmp_path / 'runs'}", flag)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (b"--epoch=3\n", "Unknown command line flag 'epoch'. Did you mean: epochs"),
        (b"# \xe9\n", "can't decode byte 0xe9"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_named(tmp_path, recipe, words):
    (tmp_path / "movie_reviews-imdb-bag.flags").write_bytes(recipe)
    code, out, err = end(f"--recipes={tmp_path}", f"--workdir={tmp_path / 'runs'}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "imdb-bag.flags: " in err
    assert words in err


def test_without_a_run_there_is_no_table(tmp_path):
    code, out, err = end("--table_only", f"--workdir={tmp_path / 'runs'}")
    assert (code, out) == (1, "")
    assert "holds no finished run of what was asked for" in err
