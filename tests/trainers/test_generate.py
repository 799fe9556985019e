"""Text as it comes to a terminal or a pipe, and as docs/generate.md has it."""

import os
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generators import write_run
from tests.pages import snippets

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/generate.md").read_text("utf-8")
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout, with a finished run of each kind of token."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "trainers").symlink_to(ROOT / "trainers")
    write_run(folder / "runs/words")
    write_run(folder / "runs/pairs", unit="bigram")
    write_run(folder / "runs/masked", model="bilstm", objective="masked")
    return folder


def command(*arguments):
    return [sys.executable, "trainers/generate.py", *arguments]


def run(arguments, folder, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, **options,
    )  # fmt: skip


def generate(folder, *arguments):
    return run(["trainers/generate.py", "--workdir=runs/words", *arguments], folder)


@pytest.mark.slow
def test_the_page_on_text_runs(checkout):
    """All but the training, which takes minutes; `checkout` has a run in its place."""
    lines = [shlex.split(line) for line in "".join(snippets(PAGE, "bash")).splitlines()]
    training, *others = lines
    assert training[1] == "trainers/pretrain.py"
    outputs = []
    for program, *arguments in others:
        assert program == "python"
        done = run(arguments, checkout)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert all(text.startswith("the film is") for text in outputs[0].splitlines())
    assert len(outputs[1].splitlines()) == 3
    assert outputs[2] == "saved_models/writer/1\n"
    (code,) = snippets(PAGE, "python")
    done = run(["-c", code], checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout == outputs[0]


def test_an_unknown_word_is_said_apart_from_the_text(checkout):
    done = generate(checkout, "--prompt=the zebra film", "--temperature=0", "--max_new_tokens=3")
    assert (done.returncode, done.stderr) == (0, "read as the unknown word: zebra\n")
    assert re.fullmatch(r"the zebra film\b.+\n", done.stdout)


def test_words_come_one_by_one(checkout):
    """The first ones are there while the last ones are not: 4,096 take seconds."""
    flags = ("--workdir=runs/words", "--prompt=the", "--max_new_tokens=4096")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    with subprocess.Popen(command(*flags), cwd=checkout, env=ENVIRONMENT, **pipes) as process:
        try:
            assert select.select([process.stdout], [], [], 120)[0], "no word in two minutes"
            assert process.stdout.read(3) == b"the"
            process.send_signal(signal.SIGINT)
            rest, error = process.communicate(timeout=120)
        finally:
            process.kill()
    assert (process.returncode, error) == (130, b"")
    assert not rest.endswith(b"\n")


def test_who_has_read_enough_ends_it_quietly(checkout):
    flags = ["--workdir=runs/words", "--max_new_tokens=4096", "--num_samples=100"]
    piped = f"{shlex.join(command(*flags))} | head -c 20"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", piped],
        cwd=checkout, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert len(done.stdout) == 20
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--temperature=-1"], 2, "--temperature=-1.0 cannot work: it must be at least 0"),
        (["--top_p=0"], 2, "--top_p=0.0 cannot work: it must be at most 1 and above 0"),
        (["--max_new_tokens=0"], 2, "it must be at least 1 and at most 4096"),
        (["--seed=x"], 2, "--seed=x"),
        (["a text"], 2, "takes flags only, not 'a text'"),
        (["--workdir=runs/masked"], 2, "holds no causal language model (--model=bilstm"),
        (["--workdir=runs/pairs"], 2, "--unit=bigram cannot be turned back into text"),
        (["--workdir=runs/none"], 1, "runs/none holds no finished pretraining"),
    ],
)
def test_what_cannot_be_is_one_line(checkout, arguments, code, message):
    done = generate(checkout, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("generate.py: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("flag", ["--noexplain", "--format=onnx", "--serving_config=serving"])
def test_what_only_a_classifier_has_is_refused_of_an_export(checkout, flag):
    flags = ["--workdir=runs/words", "--name=writer", "--export_dir=other", flag]
    done = run(["trainers/export.py", *flags], checkout)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is for a classifier, and runs/words holds none" in done.stderr
    assert not (checkout / "other").exists()
