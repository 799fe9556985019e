"""From a finished run to each of its formats, by the program, as docs/formats.md has it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from tests.pages import snippets
from zoo.config import Config
from zoo.tasks import get_task
from zoo.training import train_and_evaluate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/formats.md").read_text("utf-8")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
TASK = "movie_reviews/rotten_tomatoes"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout, with a finished run."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "trainers").symlink_to(ROOT / "trainers")
    write_records(get_task(TASK), folder / "data", rows=41)
    config = Config(task=TASK, model="lstm", size="small,embedding_dim=5,units=3", epochs=1)
    train_and_evaluate(config, folder / "runs/first", folder / "data")
    return folder


def run(arguments, folder):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def export(folder, *arguments):
    return run(["trainers/export.py", "--workdir=runs/first", *arguments], folder)


@pytest.mark.slow
def test_the_page_on_formats_runs(checkout):
    outputs = []
    for line in "".join(snippets(PAGE, "bash")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "python"
        done = run(arguments, checkout)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        outputs.append((done.stdout, done.stderr))
    litert, by_litert, onnx, by_onnx, served = outputs
    assert litert == ("saved_models/first-litert/1\n", "")
    assert onnx == ("saved_models/first-onnx/1\n", "")
    labels = [stdout.split("\t")[0] for stdout, _ in (by_litert, by_onnx)]
    numbers = [[float(p) for p in stdout.split("\t")[1:]] for stdout, _ in (by_litert, by_onnx)]
    assert labels[0] == labels[1]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    files = [Path(line) for line in served[0].splitlines()]
    assert [str(file) for file in files[:2]] == [
        "saved_models/first/1",
        "serving/first/models.config",
    ]
    assert all((checkout / file).exists() for file in files)
    for file in files[1:]:
        assert f"`{file.name}`" in PAGE
    (code,) = snippets(PAGE, "python")
    done = run(["-c", code], checkout)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" ") for line in done.stdout.splitlines()]
    assert " ".join(row[0] for row in rows) == "a film to fall asleep to , and i did ."
    assert all(re.fullmatch(r"[+-]\d\.\d{3}", row[1]) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--name=first", "--format=tflite"], 2, "litert"),
        (["--name=first", "--format=onnx", "--noexplain"], 2, "--explain is for --format=saved_m"),
        (["--name=first", "--format=onnx", "--serving_config=a"], 2, "--serving_config is for"),
        (["--name=First", "--serving_config=serving"], 2, "name='First' cannot name a service"),
    ],
)
def test_what_cannot_be_exported_is_one_line(checkout, arguments, code, message):
    before = set(checkout.iterdir())
    done = export(checkout, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("export.py: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert set(checkout.iterdir()) == before
