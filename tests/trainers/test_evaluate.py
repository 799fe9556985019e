"""The figures of a finished run, computed anew by a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.config import Config
from zoo.tasks import get_task
from zoo.training import train_and_evaluate

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
TASK = "movie_reviews/rotten_tomatoes"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    write_records(get_task(TASK), folder / "data", rows=41)
    config = Config(task=TASK, model="bag", size="small,embedding_dim=5", epochs=1)
    return folder, train_and_evaluate(config, folder / "run", folder / "data")


def evaluate(folder, *flags):
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "trainers" / "evaluate.py"),
            f"--workdir={folder / 'run'}",
            f"--data_dir={folder / 'data'}",
            *flags,
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )


def test_the_figures_are_those_of_the_run(finished):
    folder, figures = finished
    result = evaluate(folder)
    assert (result.returncode, result.stderr) == (0, "")
    again = json.loads(result.stdout)
    for name, value in figures["test"].items():
        if "second" not in name:
            assert again[name] == value, name


def test_a_split_that_is_not_is_one_line(finished):
    result = evaluate(finished[0], "--split=tset")
    assert (result.returncode, result.stdout) == (2, "")
    assert "unknown split 'tset': did you mean 'test'" in result.stderr
    assert result.stderr.count("\n") == 1
