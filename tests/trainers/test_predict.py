"""From a finished run to an export to answers, each by its own program."""

import csv
import io
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
TEXTS = ("a bright film", "dull, and the sea", "")


def program(name, *arguments, stdin=""):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / f"{name}.py"), *map(str, arguments)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        env=ENVIRONMENT,
        capture_output=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    write_records(get_task(TASK), folder / "data", rows=41)
    config = Config(task=TASK, model="bag", size="small,embedding_dim=5", epochs=1)
    train_and_evaluate(config, folder / "run", folder / "data")
    done = program(
        "export", f"--workdir={folder}/run", "--name=tiny", f"--export_dir={folder}/saved"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path(done.stdout.decode().strip()) == folder / "saved" / "tiny" / "1"
    return folder


def ask(folder, *arguments, stdin=""):
    done = program("predict", f"--model={folder}/saved/tiny", *arguments, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


def test_arguments_file_and_standard_input_agree(folder):
    from_arguments = ask(folder, *TEXTS)
    lines = "".join(f"{text}\n" for text in TEXTS)
    (folder / "texts.txt").write_text(lines, "utf-8")
    assert ask(folder, f"--input={folder}/texts.txt") == from_arguments
    assert ask(folder, "--batch_size=1", stdin=lines) == from_arguments
    rows = [line.split("\t") for line in from_arguments.splitlines()]
    assert [row[2] for row in rows] == list(TEXTS)
    assert {row[0] for row in rows} <= {"negative", "positive"}


def test_formats_hold_the_same_numbers(folder):
    objects = [json.loads(line) for line in ask(folder, "--format=jsonl", *TEXTS).splitlines()]
    table = list(csv.DictReader(io.StringIO(ask(folder, "--format=csv", *TEXTS))))
    for found, row, text in zip(objects, table, TEXTS, strict=True):
        assert found["text"] == row["text"] == text
        assert found["label"] == row["label"]
        assert found["probabilities"] == {n: float(row[n]) for n in ("negative", "positive")}


def test_bytes_that_are_no_text_get_an_answer(folder):
    out = ask(folder, "--format=jsonl", stdin=b"\xff\xfe bad\x00 bytes\nfine\n")
    assert len(out.splitlines()) == 2


def test_output_is_a_whole_file(folder):
    target = folder / "answers.csv"
    assert ask(folder, "--format=csv", f"--output={target}", *TEXTS) == ""
    assert len(target.read_text("utf-8").splitlines()) == 1 + len(TEXTS)
    assert not list(folder.glob("partial-*"))


@pytest.mark.parametrize(
    ("name", "arguments", "code", "message"),
    [
        ("predict", ["--model={folder}"], 1, "holds no SavedModel"),
        ("predict", [], 2, "--model"),
        ("predict", ["--model={folder}/saved/tiny", "--format=xml"], 2, "--format"),
        ("predict", ["--model={folder}/saved/tiny", "--batch_size=0"], 2, "--batch_size"),
        ("predict", ["--model={folder}/saved/tiny", "--input=x", "text"], 2, "not both"),
        ("predict", ["--model={folder}/saved/tiny", "--input={folder}/none"], 1, "none"),
        ("export", ["--workdir={folder}/data", "--name=x"], 1, "holds no finished run"),
        ("export", ["--workdir={folder}/run", "--name=../x"], 2, "cannot name a folder"),
        ("export", ["--workdir={folder}/run", "--nmae=x"], 2, "Did you mean: name"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(folder, name, arguments, code, message):
    done = program(name, *(argument.format(folder=folder) for argument in arguments))
    error = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in error
    assert error.count("\n") == 1, error


def test_a_reader_that_has_seen_enough_is_no_error(folder):
    command = (
        f"yes 'a bright film' | head -2000 | {sys.executable} {ROOT}/trainers/predict.py "
        f"--model={folder}/saved/tiny --batch_size=16 | head -1"
    )
    done = subprocess.run(
        ["bash", "-c", command],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=300,
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""
