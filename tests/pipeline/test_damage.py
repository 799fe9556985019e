"""Damage to records and ids, and disks that refuse: all is seen, nothing half-written stays."""

import dataclasses
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tensorflow as tf

from tests.fixtures import make_read_only, mounted, write_records
from tests.pipeline.ids import SETTINGS, TASK, UNREADABLE, one_line, run, unfinished
from zoo import pipeline
from zoo.errors import RunError
from zoo.pipeline import encode


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
from tests.pipeline import ids
from zoo import pipeline

save = pipeline.save_array
def killed(path, array):
    save(path, array)
    os.kill(os.getpid(), signal.SIGKILL)
pipeline.save_array = killed
ids.run(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_what_a_killed_run_left_is_swept_by_the_next(data_dir):
    root = Path(__file__).parents[2]
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
