"""The benchmark of memory runs and writes what it says; never how much there is of it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.training.workers import ENVIRONMENT, ROOT
from zoo import benchmark_memory
from zoo.benchmark_memory import PHASES, Measured, table
from zoo.errors import RunError


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "trainers" / "benchmark_memory.py"), *arguments],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
def test_a_task_goes_the_whole_way(tmp_path):
    out = tmp_path / "memory"
    done = run("--examples=1200,2500", "--steps=2", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.with_suffix(".md").read_text("utf-8")
    found = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert [one["examples"] for one in found] == [1_200, 2_500]
    for one in found:
        assert tuple(one["seconds"]) == tuple(one["held_bytes"]) == PHASES
        # TensorFlow is in memory, and its own files besides.
        assert 50e6 < max(one["held_bytes"].values()) < one["resident_bytes"]


def test_records_are_those_of_the_task(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_memory, "_PER_FILE", 700)
    benchmark_memory.write(tmp_path, 1_500)
    data = benchmark_memory.encode(benchmark_memory._TASK, tmp_path, progress=False)
    assert {name: len(split) for name, split in data.splits.items()} == {
        "train": 500,
        "validation": 1_000,
    }
    words = [data.vocabulary[i - 2] for i in data.splits["train"].row(1)]
    assert " ".join(words) == benchmark_memory._text(1_001)
    assert data.splits["train"].labels[:3].tolist() == [0, 1, 0]


def test_what_is_held_is_seen():
    before = benchmark_memory._held_bytes()
    with benchmark_memory._most_held() as most:
        block = np.ones(200_000_000, "uint8")
    # What tests before this one held may go meanwhile.
    assert max(most) - before > 0.5 * block.nbytes


def test_the_table_tells_how_memory_grows():
    def measured(examples, held):
        seconds = dict.fromkeys(PHASES, 1.0)
        return Measured(examples, 2.0, seconds, dict.fromkeys(PHASES, held), 9 * held)

    lines = table([measured(1_000, 10**6), measured(3_000, 2 * 10**6)]).splitlines()
    assert lines[2].startswith("| 1,000 | 2.0 | 1.0, 1 |")
    assert lines[3].endswith(" | 18 |")
    assert lines[-1] == "From 1,000 to 3,000 examples: 500.0 bytes more for each."
    assert lines[0].count("|") == lines[1].count("|") == lines[3].count("|")


def test_a_system_that_does_not_tell_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_memory, "_STATUS", tmp_path / "status")
    with pytest.raises(RunError, match="and there is none"):
        next(benchmark_memory.measure([2_000], 1))


@pytest.mark.parametrize("value", ["", "1000", "5000,3000", "x"])
def test_sizes_that_cannot_be_are_one_line(value):
    done = run(f"--examples={value}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
