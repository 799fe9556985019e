"""The program as its user meets it, on tiny data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures import write_records
from zoo.tasks import get_task

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, str(ROOT / "trainers" / "label_efficiency.py")]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
RECIPE = """\
--task=tweets
--model=lstm
--size=small,embedding_dim=7,units=3
--vocabulary_size=60
--max_length=11
--batch_tokens=200
--word_vectors=ppmi
--epochs=1
"""


def end(*flags):
    done = subprocess.run(
        [*PROGRAM, *flags], env=ENVIRONMENT, capture_output=True, text=True, timeout=500
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_it_trains_what_is_asked_for_and_ends_with_the_table(tmp_path):
    write_records(get_task("tweets"), tmp_path / "data", rows=203)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tweets.flags").write_text(RECIPE)
    flags = [
        "--tasks=tweets",
        "--starts=word_vectors,language_model",
        "--labelled_examples=50:2",
        "--seeds=0",
        f"--recipes={tmp_path / 'recipes'}",
        f"--workdir={tmp_path / 'runs'}",
        f"--data_dir={tmp_path / 'data'}",
        f"--results={tmp_path / 'known.jsonl'}",
        f"--out={tmp_path / 'out'}",
    ]
    code, out, err = end(*flags)
    assert (code, err) == (0, ""), out + err
    assert "words of tweets: learnt" in out
    content = json.loads((tmp_path / "out.json").read_text("utf-8"))
    assert [cell["start"] for cell in content["cells"]] == ["word_vectors", "language_model"]
    run = json.loads((tmp_path / "runs/tweets/language_model-50/0/metrics.json").read_text())
    assert run["epochs"] == 2
    assert run["config"]["labelled_examples"] == 50
    table = (tmp_path / "out.md").read_text("utf-8")
    code, out, err = end(*flags, "--table_only")
    assert (code, err) == (0, "")
    assert (tmp_path / "out.md").read_text("utf-8") == table


def test_what_has_begun_is_refused_before_words_are_learnt(tmp_path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tweets.flags").write_text(RECIPE)
    (tmp_path / "runs" / "tweets" / "language_model-50" / "0").mkdir(parents=True)
    flags = ["--tasks=tweets", "--starts=language_model", "--labelled_examples=50:2", "--seeds=0"]
    flags += [f"--{name}={tmp_path / name}" for name in ("recipes", "data_dir")]
    code, out, err = end(*flags, f"--workdir={tmp_path / 'runs'}")
    assert (code, out) == (2, "")
    assert "holds 1 of these 1 runs: give --resume" in err
    assert not (tmp_path / "runs" / "tweets" / "words-10.log").exists()


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--starts=bert", "unknown start 'bert'. Known: language_model, minilm, scratch"),
        ("--labelled_examples=many", "--labelled_examples=many cannot work: give how many"),
        ("--seeds=one", "--seeds=one cannot work"),
        ("--tasks=japanese_vowels", "--tasks=japanese_vowels cannot work: give tasks of texts"),
        ("--tasks=films", "unknown task 'films'"),
        ("--recipes=", "--recipes= cannot work: give a path, or leave it out"),
        ("--recipes=/nowhere", "there is no /nowhere/movie_reviews-rotten_tomatoes.flags"),
    ],
)
def test_a_wrong_flag_is_one_line(flag, words, tmp_path):
    code, out, err = end("--table_only", f"--workdir={tmp_path / 'runs'}", flag)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
