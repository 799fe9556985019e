"""zoo/describe.py: what is counted, and which examples are found in two splits."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures import write_records
from zoo import describe, pipeline
from zoo.errors import RunError
from zoo.tasks import TASKS, Task
from zoo.text import TextSettings

TASK = TASKS["movie_reviews/rotten_tomatoes"]
TRACKS = Task(
    name="tracks",
    builder="tracks",
    version="1.0.0",
    feature="track",
    label="label",
    classes=("a", "b"),
    train="train",
    validation="validation",
    test="test",
    kind="features",
)
LONG = "the sea was bright and the harbour dull, and nobody had brought the soup of the day"
TEXTS = {
    "train": ["a film", "of the sea", "don't, don't", LONG],
    "validation": ["a dull film", "Bright."],
    "test": ["mmm", "of a film of a film of a film"],
}


def described(tmp_path, texts, **settings):
    examples = {
        split: [(number, {"text": text, "label": number % 2}) for number, text in enumerate(found)]
        for split, found in texts.items()
    }
    write_records(TASK, tmp_path, examples=examples)
    data = pipeline.encode(TASK, tmp_path, TextSettings(**settings), progress=False)
    return describe.describe(data, tmp_path, progress=False)


def test_counts_lengths_and_known_words(tmp_path):
    found = described(tmp_path, TEXTS, max_length=4)
    assert sorted(found.lengths["validation"]) == [2, 3]  # a full stop is a word
    assert max(found.lengths["test"]) == 9  # before the cut
    assert found.known["train"] == 1.0
    assert found.known["validation"] == pytest.approx(4 / 5)  # of its words "." is not known
    assert found.exact == []
    table = str(found)
    assert "train               4     50.0%     50.0%   100.0%\n" in table
    assert "beyond 4" in table
    assert "same content in two splits: 0 pairs" in table
    found.refuse_repeats()


def test_a_text_that_stands_in_two_splits_is_found_and_refused(tmp_path):
    found = described(tmp_path, TEXTS | {"test": ["Of the SEA!", "mmm", "mmm"]})
    assert found.exact == [("train", "of the sea", "test", "Of the SEA!")]
    with pytest.raises(RunError, match="'of the sea' in train and test") as caught:
        found.refuse_repeats()
    assert "\n" not in str(caught.value)


def test_a_text_that_is_nearly_the_same_is_shown(tmp_path):
    found = described(tmp_path, TEXTS | {"validation": [f"Oh, {LONG}!", "Bright."]})
    assert found.near == [("train", LONG, "validation", f"Oh, {LONG}!")]
    assert f"  train: {LONG[:79]}…\n  validation: Oh, {LONG[:75]}…" in str(found)
    found.refuse_repeats()


@given(st.text(max_size=30), st.text(max_size=30))
def test_content_is_what_is_left_of_case_space_and_marks(text, other):
    content = describe._content(text)
    assert content == describe._content(f"  {text} …!")
    assert content == describe._content(content)
    assert describe._shingles(content) == describe._shingles(describe._content(text + "?"))
    assert describe._shingles(content)
    if content == describe._content(other):
        assert not set(content) ^ set(describe._content(other))


def test_tracks_are_the_same_if_all_their_values_are(tmp_path):
    rng = np.random.default_rng(0)
    tracks = rng.random((5, 4, 3), "float32")
    examples = {
        split: [(n, {"track": tracks[i][: 2 + n], "label": n}) for n, i in enumerate(found)]
        for split, found in {"train": (0, 1), "validation": (2, 1), "test": (4, 3)}.items()
    }
    write_records(TRACKS, tmp_path, examples=examples)
    data = pipeline.encode(TRACKS, tmp_path, progress=False)
    found = describe.describe(data, tmp_path, progress=False)
    assert sorted(found.lengths["train"]) == [2, 3]
    assert [(one, other) for one, _, other, _ in found.exact] == [("train", "validation")]
    assert found.known is found.near is None
    assert "steps" in str(found)
    with pytest.raises(RunError, match="1 examples of task 'tracks' stand in two splits"):
        found.refuse_repeats()


def test_without_datasketch_it_says_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    found = described(tmp_path, TEXTS)
    assert found.near is None
    assert "pip install 'sequence-zoo[describe]'" in str(found)


def test_lengths_are_drawn_beside_the_ids(tmp_path, capsys, monkeypatch):
    found = described(tmp_path, TEXTS)
    file = found.draw()
    assert file.parent == found.data.folder.parent
    assert file.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert found.draw() is None
    assert "pip install 'sequence-zoo[plot]'" in capsys.readouterr().out
