"""From a finished run to its page and picture, by the program."""

import os
import re
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
    folder = tmp_path_factory.mktemp("explain")
    write_records(get_task(TASK), folder / "data", rows=41)
    config = Config(task=TASK, model="bilstm", size="small,embedding_dim=5,units=3", epochs=1)
    train_and_evaluate(config, folder / "runs/first", folder / "data")
    return folder


def explain(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / "explain.py"), *map(str, arguments)],
        env=ENVIRONMENT | environment,
        capture_output=True,
        timeout=300,
    )


def test_a_page_and_a_picture_are_written(folder):
    before = set(folder.iterdir())
    text = "a <script> bright film, \xe9 映".encode() + b"\xff"
    done = explain(
        f"--workdir={folder}/runs/first", f"--out={folder}/why.1", "--steps=4", os.fsdecode(text)
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answer, complete, page, picture = done.stdout.decode().splitlines()
    assert answer.startswith(("positive, ", "negative, "))
    assert "completeness error " in complete
    assert complete.endswith(" at 4 steps")
    assert (page.split()[1], picture.split()[1]) == (f"{folder}/why.1.html", f"{folder}/why.1.png")
    assert set(folder.iterdir()) - before == {folder / "why.1.html", folder / "why.1.png"}
    html = (folder / "why.1.html").read_text("utf-8")
    assert all(part in html for part in ("bilstm_0 backward", "映", "�", complete))
    assert "<script" not in html
    assert (folder / "why.1.png").read_bytes().startswith(b"\x89PNG")


def test_they_stand_in_the_folder_of_the_run_unless_told_otherwise(folder):
    # Where a flag's value is not the shell's to read, a tilde is ours.
    done = explain("--workdir=~/runs/first", "--steps=1", "a film", HOME=str(folder))
    assert done.returncode == 0
    assert (folder / "runs/first" / "explanation.html").is_file()
    assert (folder / "runs/first" / "explanation.png").is_file()


def test_the_page_on_it_runs(folder, monkeypatch):
    text = (ROOT / "docs/explain.md").read_text("utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(folder)
    scope = {}
    exec(snippet, scope)
    assert scope["found"].tokens[:3] == ("a", "film", "to")
    assert (folder / "why.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--workdir={folder}/runs/first", "--steps=0", "text"], 2, "--steps"),
        (["--workdir={folder}/runs/first", "--stpes=9", "text"], 2, "Did you mean: steps"),
        (["text"], 2, "--workdir"),
        (["--workdir={folder}/runs/first"], 2, "give one text, in quotes, not 0"),
        (["--workdir={folder}/runs/first", "two", "texts"], 2, "give one text, in quotes, not 2"),
        (["--workdir={folder}/data", "text"], 1, "holds no finished run"),
        (["--workdir={folder}/runs/first", "--out={folder}/no/why", "text"], 2, "must name files"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(folder, arguments, code, message):
    done = explain(*(argument.format(folder=folder) for argument in arguments))
    error = done.stderr.decode()
    assert done.returncode == code
    assert message in error
    assert error.count("\n") == 1, error
