"""Runs joined by a process of its own, and the SavedModel asked by another."""

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
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensemble")
    write_records(get_task(TASK), folder / "data", rows=41)
    for name, unit in (("a", "word"), ("b", "byte")):
        config = Config(task=TASK, model="bag", size="small,embedding_dim=5", epochs=1, unit=unit)
        train_and_evaluate(config, folder / name, folder / "data")
    return folder


def start(folder, program, *flags):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / program), *flags],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_runs_become_one_saved_model(folder):
    flags = ("--members=a,b", "--workdir=together", "--data_dir=data", "--export_dir=saved")
    chosen = start(folder, "ensemble.py", *flags[:3], "--noscore_test")
    assert (chosen.returncode, chosen.stderr, "\ntest: " in chosen.stdout) == (0, "", False)
    assert "\nlog-loss on rows of validation that had no part in the weights: " in chosen.stdout
    result = start(folder, "ensemble.py", *flags)
    assert (result.returncode, result.stderr) == (0, "")
    target = "saved/movie_reviews-rotten_tomatoes-ensemble"
    assert result.stdout.splitlines()[-1] == f"exported to {target}/1"
    figures = json.loads((folder / "together" / "ensemble.json").read_text("utf-8"))
    assert f"test: accuracy {figures['test']['accuracy']:.4f}" in result.stdout
    asked = start(folder, "predict.py", f"--model={target}", "--format=jsonl", "a dull film", "")
    answers = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [answer["text"] for answer in answers] == ["a dull film", ""]
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in answers)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--members=", "--workdir=new"], 2, "--members= cannot work"),
        (["--members=a,b", "--workdir=new", "--export_name=n"], 2, "needs --export_dir"),
        (["--members=a,missing", "--workdir=new"], 1, "missing holds no finished run"),
        (["--members=a,b", "--workdir=new/one", "--data_dir=none"], 1, "are not prepared in none"),
    ],
    ids=range(4),
)
def test_what_cannot_work_is_one_line(folder, flags, code, message):
    result = start(folder, "ensemble.py", *flags)
    assert (result.returncode, result.stdout) == (code, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (folder / "new").exists()
