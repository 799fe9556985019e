"""The benchmark of serving runs and writes what it says; never how fast anything is."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exports import make_trained
from zoo import benchmark_floor, benchmark_serving
from zoo.benchmark_serving import Load
from zoo.errors import RunError
from zoo.export import export

ROOT = Path(__file__).parents[2]
TOOLS = ("wrk", "h2load")


def run(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, str(ROOT / "trainers" / "benchmark_serving.py"), *arguments]
    return subprocess.run(
        command,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.skipif(not all(map(shutil.which, TOOLS)), reason="wrk or h2load is not installed")
def test_all_that_is_asked_answers_and_is_written(tmp_path):
    model = export(make_trained("bag"), "reviews", tmp_path / "saved_models")
    out = tmp_path / "figures"
    flags = [f"--model={model}", "--callers=2", "--seconds=1", "--words=7", f"--out={out}"]
    done = run(*flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout == out.with_suffix(".md").read_text("utf-8")
    floor = done.stdout.partition("Batches with no one to talk to:")[2].splitlines()
    rows = [f"| {rows}" for rows in benchmark_floor.ROWS]
    assert [line.split(" | ")[0] for line in floor[4 : 4 + len(rows)]] == rows
    assert [line.split(" | ")[:2] for line in floor[-2:]] == [["| REST", "2"], ["| gRPC", "2"]]
    found = json.loads(out.with_suffix(".json").read_text("utf-8"))
    assert [(one["what"], one["callers"]) for one in found] == [
        ("alone", 1),
        ("batches", 1),
        ("plain", 2),
        ("nothing, REST", 2),
        ("nothing, gRPC", 2),
        ("zoo-serve, REST", 2),
        ("zoo-serve, gRPC", 2),
    ]
    for one in found:
        low, high, highest = one["milliseconds"]
        assert 0 < low <= high <= highest
        assert one["rows_per_second"] > 0


def test_a_missing_tool_and_a_bad_flag_are_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark_serving.shutil, "which", lambda tool: None)
    with pytest.raises(RunError, match="wrk is needed: apt-get install wrk brings it"):
        benchmark_serving.measure(tmp_path, [1], 1.0, 7)
    done = run("--model=saved_models/none", "--callers=0,8")
    assert done.returncode == 2
    assert done.stderr == (
        "benchmark_serving.py: --callers=0,8 cannot work: give numbers like 1,8\n"
    )


def test_the_table_holds_the_server_against_both_peers():
    times = (1.0, 2.0, 3.0)
    found = [Load("alone", 1, 400.0, (0.5, 0.6, 0.7)), Load("batches", 1, 1000.0, times)]
    found += [Load("plain", callers, 100.0, times) for callers in (8, 64)]
    found += [Load("zoo-serve, gRPC", callers, 350.0, times) for callers in (8, 64)]
    lines = benchmark_serving.table(found).splitlines()
    assert lines[3] == "| batches | 1 | 1,000 | 1.0 | 2.0 | 3.0 |  |  |  |"
    assert lines[-1] == "| zoo-serve, gRPC | 64 | 350 | 1.0 | 2.0 | 3.0 | 3.50 | 0.35 | 6.0 |"


def test_a_batch_spends_its_time_on_operations_that_the_profiler_names(tmp_path):
    model = export(make_trained("bilstm"), "reviews", tmp_path, explain=False)
    found = benchmark_floor.measure(model, 7, 0.01)
    assert [one.rows for one in found] == list(benchmark_floor.ROWS)
    for one in found:
        assert {"LSTM", "text", "other"} <= set(one.spent)
        assert min(one.products, one.at_once, *one.spent.values(), *one.milliseconds) > 0
