"""The benchmark of workers runs and writes what it says; never how fast anything is."""

import json
import subprocess
import sys

import pytest

from tests.training.workers import ENVIRONMENT, ROOT
from zoo.benchmark_scaling import Measured, table


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / "benchmark_scaling.py"), *arguments],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
def test_workers_take_steps_and_send_gradients(tmp_path):
    out = tmp_path / "scaling"
    size = "--size=small,embedding_dim=8,units=4"
    done = run(
        "--workers=1,2", "--model=lstm", size, "--batch_size=6", "--length=5", "--steps=3",
        f"--out={out}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.with_suffix(".md").read_text("utf-8")
    one, two = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert (one["workers"], two["workers"]) == (1, 2)
    assert one["weights"] == two["weights"] > 160_000
    assert one["sent_bytes"] == 0
    # Of the embedding's 20,000 rows, those of the batch alone.
    assert 1_000 < two["sent_bytes"] < 4 * one["weights"]
    assert min(one["step_seconds"], two["step_seconds"]) > 0


def test_the_table_tells_where_sending_takes_over():
    found = [Measured(1, 0.5, 0.0, 99), Measured(2, 0.4, 1e6, 99)]
    lines = table(found).splitlines()
    assert lines[3] == "| 2 | 400.0 | 1.00 |"
    # 2 MB a step in the limit, and 0.5 s of computing.
    assert lines[-2] == "- 10 Gbit/s: 1.60 ms a step; takes over at 312 workers"
    assert lines[-1] == "- 100 Gbit/s: 0.16 ms a step; takes over at 3,125 workers"
    assert "takes over" not in table(found[:1])


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--workers=", "--workers=1,x", "--out=/nowhere/at/all"])
def test_a_bad_flag_is_one_line(flag):
    done = run(flag)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
