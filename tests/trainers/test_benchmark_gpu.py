"""What is timed on a GPU runs, small, on a CPU; nothing is said of how fast."""

import os
import subprocess
import sys

import pytest

CODE = """
import sys
sys.modules["tensorflow"] = None
from zoo import benchmark_gpu
for policy in ("float32", "mixed_bfloat16"):
    for contest in (
        benchmark_gpu.train_lstm(3, 5, 7, policy),
        benchmark_gpu.train_lstm(3, 5, 7, policy, masked=True),
        benchmark_gpu.train_attention(3, 5, policy, size=14, heads=2),
        benchmark_gpu.train_min_lstm(3, 5, 7),
    ):
        assert list(contest)[:2] == ["keras", "zoo"]
        [run() for run in contest.values()]
"""
PROGRAM = "trainers/benchmark_gpu.py"


def run(*command, backend):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    environment["KERAS_BACKEND"] = backend
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_every_case_runs_without_tensorflow(backend):
    pytest.importorskip(backend)
    done = run("-c", CODE, backend=backend)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("backend", "flags", "code", "words"),
    [
        ("tensorflow", [], 2, "KERAS_BACKEND must be jax or torch here"),
        ("jax", [], 1, "the backend finds no GPU"),
        ("jax", ["--cases=gru"], 2, "--cases='gru' is in the name of none of lstm training"),
    ],
)
def test_what_cannot_be_timed_is_one_line(backend, flags, code, words):
    done = run(PROGRAM, *flags, backend=backend)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
