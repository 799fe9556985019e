"""Text without labels: what is read, what is kept for validation, and what never is."""

import numpy as np
import pytest

from tests.fixtures import write_records
from zoo import pipeline
from zoo.corpus import read_corpus
from zoo.errors import UsageError
from zoo.tasks import get_task
from zoo.text import TextSettings

SETTINGS = TextSettings("word", 60, 11)
TASKS = [get_task("movie_reviews/imdb"), get_task("tweets")]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for task in TASKS:
        write_records(task, folder, rows=23)
    return folder


def write_lines(path, number):
    path.write_text("".join(f"line {i} has words\n\n" for i in range(number)), "utf-8")
    return str(path)


def texts_of(corpus, name):
    words = ("", "?", *corpus.vocabulary)
    split = corpus.splits[name]
    return [" ".join(words[i] for i in split.row(row)) for row in range(len(split))]


def test_one_line_in_twenty_is_kept_for_validation_wherever_it_stands(tmp_path):
    pattern = write_lines(tmp_path / "a.txt", 1000)
    every = str(tmp_path / "*.txt")
    corpus = read_corpus([], [pattern, every, pattern], SETTINGS)
    sides = [texts_of(corpus, name) for name in ("train", "validation")]
    assert sum(map(len, sides)) == 1000  # a file that is named twice is read once
    assert 30 < len(sides[1]) < 70
    twice = tmp_path / "b.txt"
    twice.write_text((tmp_path / "a.txt").read_text() * 2)
    wide = TextSettings("word", 2000, 11)
    corpus = read_corpus([], [str(twice)], wide)
    train, validation = (texts_of(corpus, name) for name in ("train", "validation"))
    numbers = [{text.split()[1] for text in texts} - {"?"} for texts in (train, validation)]
    assert len(train) + len(validation) == 2000
    assert not numbers[0] & numbers[1]


def test_one_task_is_read_as_it_is_for_training(data_dir):
    corpus = read_corpus(TASKS[:1], [], SETTINGS, data_dir)
    data = pipeline.encode(TASKS[0], data_dir, SETTINGS)
    assert corpus.vocabulary == data.vocabulary
    assert corpus.splits.keys() == {"train", "validation"}
    for name, split in corpus.splits.items():
        np.testing.assert_array_equal(split.values, data.splits[name].values)


def test_several_sources_stand_one_behind_the_other_in_one_vocabulary(data_dir, tmp_path):
    pattern = write_lines(tmp_path / "a.txt", 400)
    corpus = read_corpus(TASKS, [pattern], SETTINGS, data_dir)
    alone = [read_corpus([task], [], SETTINGS, data_dir) for task in TASKS]
    alone.append(read_corpus([], [pattern], SETTINGS))
    assert len(set(corpus.vocabulary)) == len(corpus.vocabulary) <= SETTINGS.vocabulary_size - 2
    # Of all sources, the most common words: the lines' own stand first.
    assert set(corpus.vocabulary[:3]) == {"line", "has", "words"}
    assert set(corpus.vocabulary) <= {word for one in alone for word in one.vocabulary}
    for name in ("train", "validation"):
        together = [text for one in alone for text in texts_of(one, name)]
        for ours, theirs in zip(texts_of(corpus, name), together, strict=True):
            assert len(ours.split()) == len(theirs.split())
            pairs = zip(ours.split(), theirs.split(), strict=True)
            assert all("?" in pair or pair[0] == pair[1] for pair in pairs)


def test_the_fingerprint_is_of_the_texts_and_the_settings(tmp_path):
    first = write_lines(tmp_path / "a.txt", 140)
    prints = {
        read_corpus([], [first], SETTINGS).fingerprint,
        read_corpus([], [first], TextSettings("word", 60, 12)).fingerprint,
        read_corpus([], [write_lines(tmp_path / "b.txt", 141)], SETTINGS).fingerprint,
    }
    assert len(prints) == 3
    assert read_corpus([], [first], SETTINGS).fingerprint in prints


@pytest.mark.parametrize(
    ("pattern", "words"),
    [("nothing-*.txt", "it names no file"), ("few.txt", "of 2 lines of text none is left")],
)
def test_files_that_give_nothing_are_refused(tmp_path, pattern, words):
    write_lines(tmp_path / "few.txt", 2)
    with pytest.raises(UsageError, match=words):
        read_corpus([], [str(tmp_path / pattern)], SETTINGS)


def test_bytes_need_no_vocabulary(tmp_path):
    pattern = write_lines(tmp_path / "a.txt", 100)
    corpus = read_corpus([], [pattern], TextSettings("byte", 60, 11))
    assert corpus.vocabulary == ()
    assert len(corpus.splits["train"].row(0)) == 11
