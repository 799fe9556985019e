"""The program as its user meets it, on tiny data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.tasks import get_task

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(ROOT / "trainers" / "tune.py")]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
TASK = "movie_reviews/imdb"


def run(*flags, program=PROGRAM):
    done = subprocess.run(
        [*program, *flags],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_search_a_recipe_and_a_second_search(tmp_path):
    write_records(get_task(TASK), tmp_path / "data", rows=203)
    flags = [
        f"--task={TASK}",
        "--model=bag",
        "--size=small,embedding_dim=7",
        "--vocabulary_size=60",
        "--max_length=11",
        "--batch_size=16",
        "--epochs=1",
        "--search=learning_rate",
        "--trials=2",
        f"--workdir={tmp_path / 'search'}",
        f"--data_dir={tmp_path / 'data'}",
    ]
    code, out, err = run(*flags)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("[1/2] validation accuracy 0.")
    assert lines[2].startswith("best: trial ")
    recipe = (tmp_path / "search" / "best.flags").read_text().splitlines()
    assert lines[3:] == recipe[1:]
    assert "--batch_size=16" in recipe
    for number in (0, 1):
        figures = json.loads((tmp_path / f"search/trials/000{number}/metrics.json").read_text())
        assert "validation" in figures
        assert "test" not in figures
    assert run(*flags)[:2] == (0, out)


@pytest.mark.parametrize("flag", ["--size=smal", "--data_dir=/nowhere"])
def test_what_no_trial_could_do_is_told_at_once_as_in_training(tmp_path, flag):
    write_records(get_task(TASK), tmp_path / "data", rows=23)
    flags = [f"--task={TASK}", "--model=bag", f"--workdir={tmp_path / 'search'}"]
    flags += [f"--data_dir={tmp_path / 'data'}", flag]
    code, out, err = run(*flags)
    assert (code, out) == (2 if flag == "--size=smal" else 1, "")
    assert not (tmp_path / "search").exists()
    training = run(*flags, program=[sys.executable, str(ROOT / "trainers" / "train.py")])
    assert training == (code, out, err.replace("tune.py: ", "train.py: "))


def test_a_wrong_name_is_one_line_and_exit_code_2(tmp_path):
    code, out, err = run("--search=learning_rat", f"--workdir={tmp_path}")
    assert (code, out) == (2, "")
    assert err.startswith(
        "tune.py: unknown search 'learning_rat': did you mean 'learning_rate'? Known: batch_tokens,"
    )
    assert err.count("\n") == 1
