"""Records to ids: made once, read back, and damage never goes unseen."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.fixtures import example, make_read_only, mounted, write_records
from zoo import pipeline, text
from zoo.array_files import GrowingArray
from zoo.errors import RunError
from zoo.pipeline import encode
from zoo.tasks import TASKS
from zoo.text import TextEncoder, TextSettings

TASK = TASKS["movie_reviews/rotten_tomatoes"]


SETTINGS = TextSettings(vocabulary_size=9, max_length=12)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Records and ids of 40 rows a split, to be read only."""
    folder = tmp_path_factory.mktemp("data")
    write_records(TASK, folder)
    return folder, encode(TASK, folder, SETTINGS, progress=False)


@pytest.fixture(scope="module")
def six_rows(tmp_path_factory):
    """Records and ids of 6 rows a split, to be copied."""
    folder = tmp_path_factory.mktemp("six")
    write_records(TASK, folder, rows=6)
    run(folder)
    return folder


@pytest.fixture
def data_dir(six_rows, tmp_path):
    """Records alone."""
    shutil.copytree(six_rows, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "encoded")
    return tmp_path


@pytest.fixture
def encoded(six_rows, tmp_path):
    """The folder of the ids, beside their records."""
    shutil.copytree(six_rows, tmp_path, dirs_exist_ok=True)
    return next((tmp_path / "encoded").glob("*/*"))


def run(data_dir, **changes):
    return encode(TASK, data_dir, dataclasses.replace(SETTINGS, **changes), progress=False)


# Its beginning is no memory of anyone's: reading it is the error of a failing disk.
UNREADABLE = "/proc/self/mem"


def unfinished(data_dir):
    return list(data_dir.glob("encoded/**/.unfinished-*"))


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


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name", ["train.values.npy", "test.labels.npy", "vocabulary.txt", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["changed", "cut", "gone", "unreadable"])
def test_damaged_ids_are_made_anew(name, damage, encoded, tmp_path, capsys):
    path = encoded / name
    content = path.read_bytes()
    before = run(tmp_path)
    if damage == "gone":
        path.unlink()
    elif damage == "unreadable":
        path.unlink()
        path.symlink_to(UNREADABLE)
    else:
        # Beside, because the arrays that were read are still mapped.
        path.unlink()
        path.write_bytes(content[: len(content) // 2] + (b"\xff" if damage == "changed" else b""))
    assert run(tmp_path).fingerprint == before.fingerprint
    said = capsys.readouterr().err
    assert said.startswith(f"the ids in {encoded} are damaged (")
    assert said.endswith("): making them anew\n")
    assert said.count("\n") == 1
    assert name in said or damage == "unreadable"
    assert path.read_bytes() == content
    assert not path.is_symlink()
    assert not unfinished(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"files": 3}', '{"files": {}}', "null"])
def test_a_manifest_that_is_none(content, encoded, tmp_path, capsys):
    written = (encoded / "manifest.json").read_text()
    (encoded / "manifest.json").write_text(content)
    run(tmp_path)
    assert "are damaged (manifest.json " in capsys.readouterr().err
    assert (encoded / "manifest.json").read_text() == written


def test_of_two_that_find_damage_the_second_takes_what_the_first_made(
    encoded, tmp_path, monkeypatch
):
    (encoded / "test.labels.npy").unlink()
    made = []
    real = pipeline._write_beside

    def late(folder, *what):
        if not made:  # the other one has the lock first
            made.append(folder)
            run(tmp_path)
            made.append((folder / "manifest.json").stat().st_ino)
        real(folder, *what)

    monkeypatch.setattr(pipeline, "_write_beside", late)
    run(tmp_path)
    assert made == [encoded, (encoded / "manifest.json").stat().st_ino]


def test_ids_that_cannot_be_read_back_are_one_clear_error(data_dir, monkeypatch):
    monkeypatch.setattr(pipeline, "_checksum", lambda path: os.urandom(4).hex())
    with pytest.raises(RunError, match=r"cannot be read back .* has changed\): see to that disk"):
        run(data_dir)


@pytest.mark.parametrize(
    "damage", ["changed", "cut", "cut between records", "gone", "empty", "unreadable", "ill"]
)
def test_damaged_records(damage, data_dir, monkeypatch):
    record = next(data_dir.glob("movie_reviews/*/*/*validation.tfrecord*"))
    content = bytearray(record.read_bytes())
    if damage in ("gone", "unreadable", "ill"):
        record.unlink()
        if damage != "gone":
            record.symlink_to(UNREADABLE)
        if damage == "ill":  # from when the records were looked through
            monkeypatch.setattr(pipeline, "_crc", lambda path: 0)
    elif damage == "cut between records":
        tail = len(list(tf.data.TFRecordDataset(str(record)).as_numpy_iterator())[-1])
        # A record's length, its checksum, and the content's.
        record.write_bytes(content[: -tail - 8 - 4 - 4])
    elif damage == "changed":
        content[len(content) // 2] ^= 0xFF
        record.write_bytes(content)
    else:
        record.write_bytes(content[: len(content) * 2 // 3] if damage == "cut" else b"")
    with pytest.raises(RunError, match="delete that folder") as caught:
        run(data_dir)
    assert str(record) in one_line(caught)
    assert str(caught.value).endswith(f"--task={TASK.name} --data_dir={data_dir}")
    assert not any(part in str(caught.value) for part in ("{{", "}}", "[Op:", "name:"))
    assert not unfinished(data_dir)


def test_what_is_not_prepared(tmp_path):
    with pytest.raises(RunError, match=r"prepare.py --task=movie_reviews/rotten_tomatoes"):
        run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_label_that_is_no_class(tmp_path):
    withheld = [(0, {"text": "a film", "label": -1})]
    write_records(TASK, tmp_path, examples=dict.fromkeys(("train", "validation", "test"), withheld))
    with pytest.raises(RunError, match=r"labels beyond its 2 classes.*--data_dir="):
        run(tmp_path)
    assert not unfinished(tmp_path)


def test_an_empty_split(data_dir):
    with pytest.raises(RunError, match="no data"):
        encode(
            dataclasses.replace(TASK, validation="train[:0]"), data_dir, SETTINGS, progress=False
        )
    assert not unfinished(data_dir)


def test_a_full_disk_leaves_nothing(data_dir, monkeypatch):
    def full(path, array):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pipeline, "save_array", full)
    with pytest.raises(RunError, match=r"cannot write ids.*No space left") as caught:
        run(data_dir)
    one_line(caught)
    monkeypatch.undo()
    assert not [path for path in (data_dir / "encoded").rglob("*") if path.is_file()]
    assert not unfinished(data_dir)
    assert len(run(data_dir).splits["train"]) == 6


def test_a_disk_that_is_really_full(tmp_path):
    rows = [(row, {"text": "film " * 200, "label": 0}) for row in range(600)]
    few = rows[:2]
    write_records(TASK, tmp_path / "data", examples={"train": rows, "validation": few, "test": few})
    with mounted(tmp_path / "data" / "encoded", "size=300k"):
        with pytest.raises(RunError, match=r"cannot write ids.*No space left") as caught:
            run(tmp_path / "data", max_length=200)
        one_line(caught)
        assert not list((tmp_path / "data").rglob("*.npy"))
        assert not unfinished(tmp_path / "data")


def test_a_folder_that_cannot_be_written_to(six_rows, tmp_path):
    with mounted(tmp_path, "size=4m"):
        shutil.copytree(six_rows, tmp_path, dirs_exist_ok=True)
        make_read_only(tmp_path)
        assert len(run(tmp_path).splits["train"]) == 6  # whose ids are there
        with pytest.raises(RunError, match=r"cannot write ids.*Read-only file system") as caught:
            run(tmp_path, max_length=13)
        one_line(caught)


def test_arrays_are_saved_as_numpy_saves_them(tmp_path):
    for array in (np.arange(5, dtype="int32"), np.ones((4, 3), "float32"), np.zeros(0, "int64")):
        pipeline.save_array(tmp_path / "ours.npy", array)
        np.save(tmp_path / "theirs.npy", array)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_an_array_that_grew_is_as_if_it_had_been_saved_at_once(tmp_path):
    array = np.arange(3_303, dtype="float32").reshape(-1, 3)
    with GrowingArray(tmp_path / "ours.npy") as file:
        for part in np.split(array, [0, 1, 10, 1_000]):
            file.append(part)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_file_in_the_way_of_the_ids(data_dir):
    (data_dir / "encoded").write_text("a file")
    with pytest.raises(RunError, match="cannot write ids") as caught:
        run(data_dir)
    one_line(caught)


def test_of_two_at_once_the_second_takes_what_the_first_made(data_dir, monkeypatch):
    write, writing, times = pipeline._write, threading.Event(), []

    def slowly(*what):
        times.append(1)
        writing.set()
        other.join(1)  # the other one cannot end: it waits
        assert other.is_alive()
        write(*what)

    monkeypatch.setattr(pipeline, "_write", slowly)
    found = []
    other = threading.Thread(target=lambda: (writing.wait(), found.append(run(data_dir))))
    other.start()
    data = run(data_dir)
    other.join()
    assert times == [1]
    assert found[0].fingerprint == data.fingerprint
    assert sorted(os.listdir(data.folder.parent)) == [data.folder.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from tests import test_pipeline as test

save = test.pipeline.save_array
def killed(path, array):
    save(path, array)
    os.kill(os.getpid(), signal.SIGKILL)
test.pipeline.save_array = killed
test.run(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_what_a_killed_run_left_is_swept_by_the_next(data_dir):
    root = Path(__file__).parents[1]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(data_dir)],
        env=os.environ | {"PYTHONPATH": str(root), "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(unfinished(data_dir)) == 1
    data = run(data_dir, max_length=13)  # other settings sweep as well
    assert len(data.splits["train"]) == 6
    assert sorted(os.listdir(data.folder.parent)) == [data.folder.name]


def test_the_manifest_says_what_was_written(prepared):
    _, data = prepared
    manifest = json.loads((data.folder / "manifest.json").read_text())
    assert manifest["settings"] == dataclasses.asdict(SETTINGS)
    assert manifest["task"]["name"] == TASK.name
