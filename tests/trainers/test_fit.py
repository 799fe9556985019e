"""From a task's ids in a file to a run's folder, by JAX where there is no TensorFlow."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.tasks import get_task
from zoo.training import evaluate, load_trained

ROOT = Path(__file__).parents[2]
TRAINERS = ROOT / "trainers"
TASK = "movie_reviews/imdb"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": f"{ROOT}{os.pathsep}{TRAINERS}"
}
# As on a machine that lacks TensorFlow and TensorFlow Datasets.
WITHOUT = """
import runpy, sys
sys.modules.update(tensorflow=None, tensorflow_datasets=None)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(command, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def archive(*flags):
    return run([str(TRAINERS / "archive.py"), f"--task={TASK}", "--max_length=11", *flags])


def fit(*flags):
    return run(["-c", WITHOUT, str(TRAINERS / "fit.py"), *flags], KERAS_BACKEND="jax")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_records(get_task(TASK), folder, rows=203)
    return folder


@pytest.fixture(scope="module")
def data(data_dir, tmp_path_factory):
    path = tmp_path_factory.mktemp("archive") / "a.npz"
    code, out, err = archive(f"--data_dir={data_dir}", "--vocabulary_size=60", f"--out={path}")
    assert code == 0, err
    assert str(path) in out
    return path


@pytest.mark.slow
def test_jax_trains_what_tensorflow_reads(data, data_dir, tmp_path):
    flags = ("--model=lstm", "--size=small,embedding_dim=7,units=5", "--epochs=2")
    code, out, err = fit(f"--data={data}", f"--workdir={tmp_path / 'run'}", *flags)
    assert code == 0, err
    assert "epoch 2/2" in out
    assert "test: accuracy" in out
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert "jax" in figures["test"]["versions"]
    assert figures["backend"] == "jax"
    again = evaluate(load_trained(tmp_path / "run"), "test", data_dir)
    assert again["accuracy"] == figures["test"]["accuracy"]
    assert again["log_loss"] == pytest.approx(figures["test"]["log_loss"], abs=1e-5)
    code, out, _ = fit(f"--data={data}", f"--workdir={tmp_path / 'run'}", *flags)
    assert code == 0
    assert "finished" in out


@pytest.mark.slow
def test_nothing_but_figures_is_said_where_tensorflow_is_too(data, tmp_path):
    flags = (f"--data={data}", f"--workdir={tmp_path / 'run'}", "--model=bag", "--epochs=1")
    code, out, err = run([str(TRAINERS / "fit.py"), *flags], KERAS_BACKEND="jax")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--model=lsmt"], "did you mean 'lstm'"),
        (["--model=nb_ngram"], "--model=nb_ngram cannot work"),
        (["--patience_epochs=1"], "patience_epochs"),
        (["--epochs=0"], "--epochs=0 cannot work"),
    ],
)
def test_a_wrong_flag_is_told_in_a_line(flags, told, data, tmp_path):
    code, out, err = fit(f"--data={data}", f"--workdir={tmp_path / 'run'}", *flags)
    assert (code, out) == (2, "")
    assert told in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_none_is_told_in_a_line(tmp_path):
    code, _, err = fit(f"--data={tmp_path / 'none.npz'}", f"--workdir={tmp_path / 'run'}")
    assert code == 1
    assert "none.npz cannot be read (No such file" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--out=a.txt"], "--out=a.txt cannot work"),
        (["--out=a.npz", "--unit=wordpiece"], "--unit=wordpiece cannot work"),
        (["--out=a.npz", "--task=japanese_vowels"], "--task=japanese_vowels"),
    ],
)
def test_what_cannot_be_written_is_told_in_a_line(flags, told):
    code, _, err = archive(*flags)
    assert code == 2
    assert told in err
    assert len(err.strip().splitlines()) == 1
