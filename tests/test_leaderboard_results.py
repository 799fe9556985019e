"""Figures that outlive the runs' folders: known jobs are not run again, and make the same table."""

import sys
from dataclasses import replace

import pytest

from tests.leaderboards import IMDB, TWEETS, figures_of, jobs_of, store
from zoo import leaderboard, leaderboard_table
from zoo.errors import RunError
from zoo.leaderboard_results import Results


def run(jobs, root, results):
    command = [sys.executable, "-c", "raise SystemExit('was run')"]
    return leaderboard.run(jobs, root, command, True, results)


def test_a_known_job_is_not_run_and_a_changed_recipe_is_not_known(tmp_path, capsys):
    path = tmp_path / "kept" / "results.jsonl"
    (job,) = jobs = jobs_of(IMDB)
    Results(path).add(job, figures_of(job.config))
    assert run(jobs, tmp_path, Results(path)) == []
    assert "known, test accuracy 0.8000, 12 s of training" in capsys.readouterr().out
    changed = [replace(job, config=replace(job.config, epochs=2))]
    assert run(changed, tmp_path, Results(path)) == [str(job)]
    assert "was run" in (tmp_path / "movie_reviews-imdb" / "bag" / "0.log").read_text()


def test_what_ends_is_kept_and_another_run_takes_its_place(tmp_path):
    path = tmp_path / "results.jsonl"
    (job,) = jobs = jobs_of(IMDB)
    store(tmp_path, job, accuracy=0.7)
    for _ in range(2):
        assert run(jobs, tmp_path, Results(path)) == []
    assert Results(path).of(job)["figures"]["test"]["accuracy"] == 0.7
    Results(path).add(job, figures_of(job.config, accuracy=0.9))
    assert Results(path).of(job)["figures"]["test"]["accuracy"] == 0.9
    assert len(path.read_text().splitlines()) == 1


def test_two_leaderboards_write_into_one_file(tmp_path):
    path = tmp_path / "results.jsonl"
    jobs = jobs_of(IMDB, TWEETS)
    both = [Results(path) for _ in jobs]
    for results, job in zip(both, jobs, strict=True):
        results.add(job, figures_of(job.config))
    assert all(Results(path).of(job) for job in jobs)
    assert [file.name for file in tmp_path.iterdir()] == ["results.jsonl"]


def test_a_setting_of_later_days_had_its_default_before(tmp_path):
    (job,) = jobs_of(IMDB)
    figures = figures_of(job.config)
    del figures["config"]["calibrate"]
    results = Results(tmp_path / "results.jsonl")
    results.add(job, figures)
    assert results.of(job)
    figures["config"]["a_setting_that_is_gone"] = 3
    results.add(job, figures)
    assert results.of(job) is None


def test_the_table_is_the_same_without_the_folders(tmp_path):
    jobs = jobs_of(IMDB, TWEETS, models=("bag", "lstm"), seeds=(0, 1))
    results = Results(tmp_path / "results.jsonl")
    for place, job in enumerate(jobs):
        store(tmp_path / "runs", job, accuracy=0.6 + 0.05 * place)
        results.add(job, figures_of(job.config, accuracy=0.6 + 0.05 * place))
    rows, about = leaderboard_table.collect(jobs, tmp_path / "runs")
    again = leaderboard_table.collect(jobs, tmp_path / "gone", Results(tmp_path / "results.jsonl"))
    assert again == (rows, about)
    assert about["unfinished"] == []


@pytest.mark.parametrize("text", ["{", "[]\n", '{"run": "a"}\n', "\xff"])
def test_a_damaged_file_is_one_line(tmp_path, text):
    path = tmp_path / "results.jsonl"
    path.write_text(text, "latin-1")
    with pytest.raises(RunError, match="cannot be read"):
        Results(path)
