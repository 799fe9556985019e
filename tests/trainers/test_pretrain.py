"""The program as its user meets it, and the classifier that begins with what it left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.tasks import get_task

ROOT = Path(__file__).parents[2]
# Whoever sets the variable asks for TensorFlow's log.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
SMALL = ("--model=lstm", "--size=small,embedding_dim=7,units=3", "--max_length=11", "--epochs=1")


def end(program, *flags):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / program), *SMALL, *flags],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_words_first_and_then_classes(tmp_path):
    data_dir = tmp_path / "data"
    write_records(get_task("tweets"), data_dir, rows=61)
    lines = tmp_path / "lines.txt"
    lines.write_text("".join(f"line {i} of words\n" for i in range(200)), "utf-8")
    both = (f"--data_dir={data_dir}", "--batch_size=16")
    words = end(
        "pretrain.py",
        "--tasks=tweets",
        f"--text_files={lines}",
        "--objective=causal",
        f"--workdir={tmp_path / 'words'}",
        *both,
    )
    assert words.returncode == 0, words.stderr
    assert "perplexity" in words.stdout
    assert "bits per character" in words.stdout
    classes = end(
        "train.py",
        "--task=tweets",
        f"--pretrained={tmp_path / 'words'}",
        f"--workdir={tmp_path / 'classes'}",
        "--layer_step_rate=0.5",
        *both,
    )
    assert classes.returncode == 0, classes.stderr
    assert "test: " in classes.stdout


def test_a_flag_that_cannot_work_is_one_line(tmp_path):
    ended = end("pretrain.py", "--tasks=tweets", f"--workdir={tmp_path / 'words'}")
    assert ended.returncode == 2
    assert ended.stderr == (
        "pretrain.py: --model=lstm --size=small,embedding_dim=7,units=3: it reads forward alone; "
        "give --objective=causal\n"
    )
    assert not (tmp_path / "words").exists()
