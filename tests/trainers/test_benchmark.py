"""The benchmark runs and writes what it says; never how fast anything is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoo import benchmark

PROGRAM = Path(__file__).parents[2] / "trainers" / "benchmark.py"


def run(*arguments):
    command = [sys.executable, str(PROGRAM), *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_case_is_measured_and_written(tmp_path):
    out = tmp_path / "some" / "figures"
    flags = ["--cases=forward, batch 1", "--threads=1x2", "--rounds=1", f"--out={out}"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    content = json.loads(out.with_suffix(".json").read_text("utf-8"))
    (case,) = content["ratios"]
    assert case == "lstm forward, batch 1"
    assert set(content["seconds or MiB"][case]["1x2"]) == {"keras", "zoo", "zoo's first call"}
    text = out.with_suffix(".txt").read_text("utf-8")
    assert done.stdout.strip() in text
    assert text.startswith(content["machine and date"])
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--cases=gru", "--cases='gru' is in the name of none of lstm training"),
        ("--rounds=0", "--rounds=0"),
        ("--threads=2", "--threads must be settings like 1x2,2x2, not '2'"),
    ],
)
def test_a_wrong_flag_is_one_line(flag, words):
    done = run(flag)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_both_contestants_of_a_case_do_the_same(policy):
    """Small sizes of what is timed: gradients of one input and as many weights each."""
    contest = benchmark.train_lstm(3, 5, 7, policy)
    shapes = [[g.shape for g in run()] for run in contest.values()]
    assert shapes[0] == shapes[1]
    assert len(shapes[0]) == 4


@pytest.mark.parametrize(
    ("family", "size"),
    [
        ("lstm", "small,embedding_dim=13,units=5"),
        ("transformer", "small,embedding_dim=12,num_heads=3,attention=causal"),
    ],
)
def test_both_ways_to_write_come_to_the_same_text(family, size):
    contest = benchmark.generate_text(family, size, tokens=7, num_words=19)
    theirs, ours, scores_alone = (run().numpy() for run in contest.values())
    assert ours.shape == scores_alone.shape == (1, 7)
    np.testing.assert_array_equal(ours, theirs)
