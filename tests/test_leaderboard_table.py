"""The leaderboard's table and pictures: intervals, ties, and what is written."""

import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from tests.leaderboards import IMDB, TWEETS, VOWELS, figures_of, jobs_of, store
from zoo import leaderboard_plots, leaderboard_table, metrics
from zoo.config import Config
from zoo.errors import RunError


@pytest.mark.parametrize("accuracy", [0.5, 0.8814, 0.995])
@pytest.mark.parametrize("examples", [40, 2_000])
def test_the_interval_is_that_of_the_binomial_distribution(accuracy, examples):
    exact = stats.binom.ppf([0.025, 0.975], examples, accuracy) / examples
    found = leaderboard_table.interval(accuracy, examples)
    assert found == pytest.approx(exact, abs=1.01 / examples)


def test_the_interval_is_that_of_resampled_examples():
    right = np.arange(300) < 270
    found = stats.bootstrap([right], np.mean, method="percentile", rng=0, n_resamples=20_000)
    assert leaderboard_table.interval(0.9, 300) == pytest.approx(
        found.confidence_interval, abs=0.004
    )


def test_a_row_holds_the_means_over_the_seeds(tmp_path):
    jobs = jobs_of(IMDB, seeds=(0, 1, 2))
    for job, accuracy, seconds in zip(jobs[:2], (0.8, 0.9), (10.0, 30.0), strict=True):
        store(tmp_path, job, accuracy=accuracy, seconds=seconds)
    (row,), about = leaderboard_table.collect(jobs, tmp_path)
    assert (row.seeds, row.accuracies) == ((0, 1), (0.8, 0.9))
    assert row.accuracy == pytest.approx(0.85)
    assert row.interval == leaderboard_table.interval(row.accuracy, 400)
    assert row.validation_accuracy == pytest.approx(0.87)
    assert (row.train_seconds, row.epoch_seconds, row.parameters) == (20, 5, 1_234)
    assert [part["accuracy"] for part in row.by_length] == [pytest.approx(0.85)] * 2
    assert row.standing == ""  # there is none to compare it with
    assert about["unfinished"] == [f"{IMDB} bag seed 2"]
    assert about["machines"] == [{"cpu": "a processor", "cores": 2, "gpus": []}]


def test_what_the_examples_cannot_tell_apart_is_tied(tmp_path):
    accuracies = {"bag": 0.70, "lstm": 0.86, "bilstm": 0.88, "transformer": 0.79}
    jobs = jobs_of(IMDB, TWEETS, models=tuple(accuracies))
    for job in jobs:
        examples = 400 if job.config.task == IMDB else 40_000
        store(tmp_path, job, accuracy=accuracies[job.config.model], examples=examples)
    rows, _ = leaderboard_table.collect(jobs, tmp_path)
    assert [(row.task, row.model, row.standing) for row in rows] == [
        (IMDB, "bilstm", "tied with the best"),
        (IMDB, "lstm", "tied with the best"),
        (IMDB, "transformer", ""),
        (IMDB, "bag", ""),
        (TWEETS, "bilstm", "best"),
        (TWEETS, "lstm", ""),
        (TWEETS, "transformer", ""),
        (TWEETS, "bag", ""),
    ]


def test_seeds_of_before_there_was_a_setting_and_after_go_together(tmp_path):
    jobs = jobs_of(IMDB, seeds=(0, 1))
    earlier = jobs[0].config.to_json()
    del earlier["on_nan"]
    store(tmp_path, jobs[0], config=earlier)
    store(tmp_path, jobs[1], config=jobs[1].config.to_json() | {"keep_checkpoints": 7})
    rows, _ = leaderboard_table.collect(jobs, tmp_path)
    assert [row.seeds for row in rows] == [(0, 1)]


def test_a_folder_of_another_configuration_is_not_finished(tmp_path):
    jobs = jobs_of(IMDB, seeds=(0, 1))
    store(tmp_path, jobs[0])
    store(tmp_path, jobs[1], accuracy=0.9)
    recipes_changed = [replace(job, config=replace(job.config, epochs=2)) for job in jobs]
    with pytest.raises(RunError, match="holds no finished run of what was asked for"):
        leaderboard_table.collect(recipes_changed, tmp_path)
    rows, about = leaderboard_table.collect([recipes_changed[0], jobs[1]], tmp_path)
    assert [row.accuracies for row in rows] == [(0.9,)]
    assert about["unfinished"] == [f"{IMDB} bag seed 0"]
    free = [replace(job, config=replace(job.config, keep_checkpoints=7)) for job in jobs]
    assert leaderboard_table.collect(free, tmp_path)[0][0].seeds == (0, 1)


@pytest.mark.parametrize("what", ["config", "examples", "lengths"])
def test_seeds_that_differ_in_more_are_refused(tmp_path, what):
    jobs = jobs_of(IMDB, seeds=(0, 1))
    store(tmp_path, jobs[0])
    if what == "config":
        changed = Config(task=IMDB, model="bag", seed=1, epochs=2).to_json()
        store(tmp_path, jobs[1], config=changed)
    elif what == "lengths":
        figures = figures_of(jobs[1].config)
        figures["test"]["by_length"].pop()
        store(tmp_path, jobs[1], test=figures["test"])
    else:
        store(tmp_path, jobs[1], examples=399)
    with pytest.raises(RunError, match="are of runs that differ in more"):
        leaderboard_table.collect(jobs, tmp_path)


def test_a_tilde_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (job,) = jobs = jobs_of(IMDB)
    store(tmp_path, job)
    files = leaderboard_table.write(jobs, tmp_path, Path("~/board"), "python it.py")
    assert {file.parent for file in files} == {tmp_path}


def test_a_folder_without_figures_is_one_line(tmp_path):
    with pytest.raises(RunError, match="holds no finished run of what was asked for"):
        leaderboard_table.collect(jobs_of(IMDB), tmp_path)


@pytest.fixture
def written(tmp_path):
    jobs = jobs_of(IMDB, VOWELS, models=("bag", "lstm"), seeds=(0, 1))
    for place, job in enumerate(jobs):
        store(tmp_path, job, accuracy=0.6 + 0.05 * place, seconds=10.0**place)
        os.utime(job.folder(tmp_path) / "metrics.json", (0, 86_400 * 365 + 43_200))
    out = tmp_path / "docs" / "leaderboard"
    return jobs, out, leaderboard_table.write(jobs, tmp_path, out, "python it.py")


def test_table_json_and_pictures_are_written(written, tmp_path):
    _, out, files = written
    names = ["leaderboard.md", "leaderboard.json"]
    names += ["leaderboard_seconds.png", "leaderboard_lengths.png"]
    assert [file.name for file in files] == names
    assert sorted(out.parent.iterdir()) == sorted(files)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files[2:])
    text = files[0].read_text("utf-8")
    head, _, table = text.partition("| task |")
    for words in ("    python it.py\n", "a processor, 2 cores", "on 1971-01-01.", "keras 3.15.1"):
        assert words in head
    lines = table.splitlines()[2:]
    assert len([line for line in lines if line.startswith("|")]) == 4
    assert lines[0].startswith(f"| {IMDB} | lstm | 75.00 | 65.00 – 85.00 | ")
    assert lines[0].endswith(" | 77.00 | 5.0 | 1,234 | 50,005.0 | 12,501.2 | 0, 1 |")
    assert "a text is cut at --max_length tokens" in head
    assert "](leaderboard_seconds.png)" in text
    content = json.loads(files[1].read_text("utf-8"))
    assert [row["model"] for row in content["rows"]] == ["lstm", "bag"] * 2
    assert content["rows"][0]["accuracies"] == pytest.approx([0.65, 0.85])
    assert content["command"] == "python it.py"


def test_the_same_runs_give_the_same_files(written, tmp_path):
    jobs, out, files = written
    again = leaderboard_table.write(jobs, tmp_path, tmp_path / "again" / out.name, "python it.py")
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]


def test_without_matplotlib_there_is_a_table_all_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    (job,) = jobs = jobs_of(IMDB)
    store(tmp_path, job)
    files = leaderboard_table.write(jobs, tmp_path, tmp_path / "out", "c")
    assert [file.suffix for file in files] == [".md", ".json"]
    assert "![" not in files[0].read_text("utf-8")
    assert "pip install 'sequence-zoo[plot]'" in capsys.readouterr().out


def test_the_pictures_hold_the_figures(written, tmp_path):
    rows, _ = leaderboard_table.collect(written[0], tmp_path)
    seconds = leaderboard_plots.by_seconds(rows)
    lengths = leaderboard_plots.by_length(rows)
    for figure in (seconds, lengths):
        assert [axes.get_title() for axes in figure.axes] == [
            f"{task}, 400 examples" for task in (IMDB, VOWELS)
        ]
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["bag", "lstm"]
    points = {
        line.get_xydata()[0].tolist()[0]
        for line in seconds.axes[0].lines
        if len(line.get_xydata()) == 1
    }
    assert {row.train_seconds for row in rows[:2]} <= points
    assert "tokens read (at most --max_length)" in lengths.axes[0].get_xlabel()
    first = lengths.axes[0].lines[0].get_xydata()
    assert first.tolist() == [[6, pytest.approx(75)], [30, pytest.approx(75)]]


def test_runs_of_before_there_were_lengths_have_no_picture_of_them(tmp_path):
    (job,) = jobs = jobs_of(IMDB)
    figures = figures_of(job.config)
    del figures["test"]["by_length"]
    store(tmp_path, job, test=figures["test"])
    rows, _ = leaderboard_table.collect(jobs, tmp_path)
    assert rows[0].by_length == ()
    names = [path.name for path in leaderboard_plots.draw(rows, tmp_path / "out")]
    assert names == ["out_seconds.png"]


def test_examples_of_one_length_stand_in_one_fifth():
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.integers(1, 100, 997), 70)
    labels, logits = rng.integers(0, 3, 997), rng.normal(size=(997, 3))
    parts = metrics.accuracy_by_length(logits, labels, lengths)
    assert sum(part["examples"] for part in parts) == 997
    assert (parts[0]["shortest"], parts[-1]["longest"]) == (lengths.min(), 70)
    assert len(parts) == 4  # more than a fifth is 70 long
    for part, after in itertools.pairwise(parts):
        assert part["longest"] < after["shortest"]
    for part in parts:
        inside = (lengths >= part["shortest"]) & (lengths <= part["longest"])
        assert part["examples"] == inside.sum()
        assert part["accuracy"] == (logits.argmax(axis=1) == labels)[inside].mean()
        assert part["examples"] >= 997 // 5
