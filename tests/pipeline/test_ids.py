"""Records to ids: made once, and read back."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.fixtures import example, write_records
from tests.pipeline.ids import SETTINGS, TASK, run
from zoo import pipeline, text
from zoo.pipeline import encode
from zoo.text import TextEncoder


def test_the_ids_are_those_of_the_texts(prepared):
    _, data = prepared
    encoder = TextEncoder(data.vocabulary, SETTINGS)
    for place, name in enumerate(sorted(data.splits)):
        split = data.splits[name]
        rows = [example(TASK, row + 1_000 * place) for row in range(40)]
        expected = encoder([row["text"] for row in rows]).to_list()
        assert [split.row(i).tolist() for i in range(len(split))] == expected
        assert split.labels.tolist() == [row["label"] for row in rows]
        assert split.lengths.tolist() == [len(row) for row in expected]
        assert (split.values.dtype, split.offsets.dtype, split.labels.dtype) == (
            np.int32,
            np.int64,
            np.int32,
        )
        assert isinstance(split.values, np.memmap)
    assert (data.task, data.settings, data.num_features) == (TASK, SETTINGS, None)


def test_the_vocabulary_is_learnt_from_the_training_split_alone(tmp_path):
    texts = {"train": "seen seen often", "validation": "valid seen", "test": "tested seen"}
    write_records(
        TASK, tmp_path, examples={k: [(0, {"text": v, "label": 0})] for k, v in texts.items()}
    )
    data = run(tmp_path)
    assert data.vocabulary == ("seen", "often")
    assert data.splits["test"].row(0).tolist() == [1, 2]


def test_the_vocabulary_does_not_depend_on_the_order_of_the_records(tmp_path):
    rows = [(row, example(TASK, row)) for row in range(30)]
    learnt = set()
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(30)
        shuffled = [(place, rows[row][1]) for place, row in enumerate(order)]
        folder = tmp_path / str(seed)
        write_records(TASK, folder, examples={"train": shuffled, "validation": rows, "test": rows})
        learnt.add(run(folder).vocabulary)
    assert len(learnt) == 1


def test_ids_are_read_back_and_not_made_again(prepared, monkeypatch):
    folder, data = prepared
    monkeypatch.setattr(pipeline, "_write", lambda *_: pytest.fail("made again"))
    again = encode(TASK, folder, SETTINGS, progress=False)
    assert again.fingerprint == data.fingerprint
    assert again.vocabulary == data.vocabulary
    for name, split in data.splits.items():
        np.testing.assert_array_equal(again.splits[name].values, split.values)


@pytest.mark.parametrize("unit", ["character", "byte"])
def test_other_units(unit, data_dir):
    data = run(data_dir, unit=unit, vocabulary_size=300, max_length=5)
    assert bool(data.vocabulary) == (unit == "character")
    assert data.splits["train"].lengths.max() == 5


def test_the_folder_changes_with_settings_rules_and_data(data_dir, monkeypatch):
    builder = pipeline.open_records(TASK, data_dir)

    def name(task=TASK, **changes):
        settings = dataclasses.replace(SETTINGS, **changes)
        return pipeline._cache_dir(task, data_dir, builder, settings).name

    seen = [name(), name(max_length=13), name(unit="character")]
    seen += [name(vocabulary_size=10), name(dataclasses.replace(TASK, version="2"))]
    monkeypatch.setattr(pipeline, "RULES_VERSION", text.RULES_VERSION + 1)
    seen.append(name())
    monkeypatch.undo()
    assert name() == seen[0]
    record = next(data_dir.glob("movie_reviews/*/*/*train.tfrecord*"))
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 1
    record.write_bytes(data)
    seen.append(name())
    assert len(set(seen)) == len(seen)


def test_the_fingerprint_changes_with_settings_and_rules(data_dir, monkeypatch):
    seen = [run(data_dir).fingerprint, run(data_dir, max_length=13).fingerprint]
    monkeypatch.setattr(pipeline, "RULES_VERSION", text.RULES_VERSION + 1)
    seen.append(run(data_dir).fingerprint)
    assert len(set(seen)) == len(seen)


def rewrite(record, serialised):
    """Writes an example of a file of records anew, by a function of its protocol buffer."""
    examples = [
        tf.train.Example.FromString(raw)
        for raw in tf.data.TFRecordDataset(str(record)).as_numpy_iterator()
    ]
    with tf.io.TFRecordWriter(str(record)) as writer:
        for each in examples:
            writer.write(serialised(each))


def in_order(backwards):
    """A function that writes an example's features by name, forwards or backwards."""

    def serialised(example):
        features = sorted(example.features.feature.items(), reverse=backwards)
        parts = [tf.train.Features(feature={k: v}).SerializeToString() for k, v in features]
        content, size = b"".join(parts), b""
        number = len(content)
        while number > 0x7F:
            size, number = size + bytes([number & 0x7F | 0x80]), number >> 7
        return b"\x0a" + size + bytes([number]) + content

    return serialised


def other_label(example):
    labels = example.features.feature["label"].int64_list.value
    labels[0] = 1 - labels[0]
    return example.SerializeToString()


@pytest.mark.parametrize(("serialised", "same"), [(in_order(True), True), (other_label, False)])
def test_the_fingerprint_is_of_the_content(serialised, same, data_dir):
    record = next(data_dir.glob("movie_reviews/*/*/*train.tfrecord*"))
    rewrite(record, in_order(False))
    before = run(data_dir)
    written = record.read_bytes()
    rewrite(record, serialised)
    assert record.read_bytes() != written
    after = run(data_dir)
    assert after.folder != before.folder
    assert (after.fingerprint == before.fingerprint) == same


def test_the_manifest_says_what_was_written(prepared):
    _, data = prepared
    manifest = json.loads((data.folder / "manifest.json").read_text())
    assert manifest["settings"] == dataclasses.asdict(SETTINGS)
    assert manifest["task"]["name"] == TASK.name
