"""A task of features: from records to batches with their lengths."""

import numpy as np
import pytest

from tests.fixtures import example, write_records
from zoo.pipeline import batches, encode, in_order_plan
from zoo.tasks import Task

TRACKS = Task(
    name="tracks",
    builder="tracks",
    version="1.0.0",
    feature="track",
    label="label",
    classes=("up", "down"),
    train="train",
    validation="train[:50%]",
    test=None,
    kind="features",
)


@pytest.fixture(scope="module")
def tracks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracks")
    write_records(TRACKS, folder, rows=12)
    return encode(TRACKS, folder, progress=False)


def test_features_are_read_as_tracks(tracks):
    assert tracks.num_features == 3
    assert tracks.vocabulary == ()
    assert tracks.settings is None
    split = tracks.splits["train"]
    assert split.values.dtype == np.float32
    for row in range(12):
        np.testing.assert_array_equal(split.row(row), example(TRACKS, row)["track"])


def test_features_become_batches_with_their_lengths(tracks):
    split = tracks.splits["train"]
    plan = in_order_plan(split.lengths, batch_tokens=60)
    dataset = batches(split, plan).as_dataset().as_numpy_iterator()
    for rows, (inputs, labels) in zip(plan, dataset, strict=True):
        assert inputs["lengths"].dtype == np.int32
        assert inputs["lengths"].tolist() == split.lengths[rows].tolist()
        assert inputs["features"].shape == (len(rows), split.lengths[rows].max(), 3)
        assert labels.tolist() == split.labels[rows].tolist()
        for row, track, length in zip(rows, inputs["features"], inputs["lengths"], strict=True):
            np.testing.assert_array_equal(track[:length], split.row(row))
            assert not track[length:].any()
