"""States on disk that are whole, or that are not there."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from zoo.checkpoint import Checkpoints, Progress
from zoo.errors import RunError
from zoo.whole_files import replacing


def replace(path, write):
    with replacing(path) as beside:
        beside.write_text("half")
        write()


def test_what_replaces_a_file_replaces_it_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        replace(path, lambda: 1 / 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    replace(path, lambda: None)
    assert path.read_text() == "half"


def test_a_file_system_that_refuses_is_one_clear_error(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*missing/a\.txt: No such file or directory"):
        replace(tmp_path / "missing" / "a.txt", lambda: None)


def test_a_link_stays_and_leads_to_what_is_new(tmp_path):
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "b.txt"
    link = tmp_path / "a.txt"
    link.symlink_to(Path("folder") / "b.txt")
    for old in (None, "old"):  # a link to nothing yet, and one to a file
        replace(link, lambda: None)
        assert link.is_symlink()
        assert target.read_text() == "half"
        target.write_text(str(old))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.txt", "b.txt", "folder"]
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(RunError, match=r"cannot write .*a\.txt: Too many levels"):
        replace(link, lambda: None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a device")
def test_a_device_is_written_to_and_stays(tmp_path):
    null = tmp_path / "null"
    try:
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        null.write_text("")
    except PermissionError:
        pytest.skip("no devices in this container")
    (tmp_path / "link").symlink_to(null)
    for path in (null, tmp_path / "link"):
        replace(path, lambda: None)
        assert null.is_char_device()
    assert (tmp_path / "link").is_symlink()


def test_a_named_pipe_is_written_to_and_stays(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    read = []
    reader = threading.Thread(target=lambda: read.append(path.read_text()), daemon=True)
    reader.start()
    replace(path, lambda: None)
    reader.join(timeout=30)
    assert path.is_fifo()
    assert read == ["half"]


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"cannot write .*: Is a directory"):
        replace(tmp_path, lambda: None)


def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    usual = path.stat().st_mode
    for mode in (0o600, 0o444, 0o666):
        path.chmod(mode)
        replace(path, lambda: None)
        assert stat.S_IMODE(path.stat().st_mode) == mode
    path.unlink()
    replace(path, lambda: None)
    assert path.stat().st_mode == usual


def test_no_one_elses_file_is_touched(tmp_path):
    path = tmp_path / "a.txt"
    theirs = tmp_path / "partial-a.txt"
    theirs.write_text("theirs")
    with replacing(path) as first:
        first.write_text("first")
        with replacing(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert theirs.read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 2


def test_the_suffix_that_keras_saves_by_stays(tmp_path):
    (tmp_path / "model.keras").symlink_to("blob")
    with replacing(tmp_path / "model.keras") as beside:
        assert beside.suffix == ".keras"
        beside.write_text("")


def test_what_a_killed_process_left_half_written_is_swept_away(tmp_path):
    code = (
        "import os, sys, pathlib; from zoo.whole_files import replacing\n"
        "with replacing(pathlib.Path(sys.argv[1])) as beside:\n"
        "    beside.write_text('half'); os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "a.txt"
    root = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", code, path], cwd=root, capture_output=True, timeout=120)
    assert [p.name[:8] for p in tmp_path.iterdir()] == ["partial-"]
    replace(path, lambda: None)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def make(folder, value=0.0, keep=2, **progress):
    """A state of two variables, and what keeps it."""
    progress = Progress(**progress)
    variables = [tf.Variable([value] * 5), tf.Variable(int(value), dtype="int64")]
    states = Checkpoints(folder / "states", {"model": variables}, progress, keep)
    return states, variables, progress


def save_three(folder, keep=2):
    states, variables, progress = make(folder, keep=keep)
    for step in (1, 2, 3):
        variables[0].assign([step * 1.5] * 5)
        variables[1].assign(step)
        progress.step = step
        progress.history.append({"epoch": step, "loss": 0.1 * step})
        states.save()


def test_the_newest_state_comes_back_to_the_last_bit(tmp_path):
    save_three(tmp_path)
    states, variables, progress = make(tmp_path)
    assert states.restore() == []
    assert variables[0].numpy().tolist() == [4.5] * 5
    assert variables[1].numpy() == progress.step == 3
    assert progress.history == [{"epoch": e, "loss": 0.1 * e} for e in (1, 2, 3)]


def test_two_states_are_kept_and_nothing_else(tmp_path):
    save_three(tmp_path)
    names = sorted(path.name for path in (tmp_path / "states").iterdir())
    assert names == [
        "ckpt-2.data-00000-of-00001",
        "ckpt-2.index",
        "ckpt-3.data-00000-of-00001",
        "ckpt-3.index",
    ]


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_states_are_kept_as_asked_for(tmp_path, keep):
    save_three(tmp_path, keep)
    assert make(tmp_path)[0].numbers() == [3, 2, 1][:keep][::-1]


def test_a_state_of_before_there_was_a_field_has_its_default(tmp_path):
    states, _, progress = make(tmp_path, step=7)
    dictionary = {"step": 7}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.checkpoint.dataclasses.asdict", lambda _: dictionary)
        states.save()
    states, _, progress = make(tmp_path)
    states.restore()
    assert progress == Progress(step=7)


def test_without_a_state_there_is_nothing_to_restore(tmp_path):
    states, variables, progress = make(tmp_path, value=2.0)
    assert states.restore() == []
    assert variables[1].numpy() == 2
    assert progress == Progress()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        ("data-00000-of-00001", flip),
        ("data-00000-of-00001", lambda path: path.write_bytes(path.read_bytes()[:-7])),
        ("data-00000-of-00001", lambda path: path.write_bytes(b"")),
        ("data-00000-of-00001", lambda path: path.unlink()),
        ("index", flip),
        ("index", lambda path: path.write_bytes(path.read_bytes()[:-7])),
        ("index", lambda path: path.write_bytes(b"")),
    ],
)
def test_a_damaged_state_is_set_aside_for_the_one_before(tmp_path, file, harm):
    save_three(tmp_path)
    harm(tmp_path / "states" / f"ckpt-3.{file}")
    states, variables, progress = make(tmp_path)
    assert states.restore() == ["ckpt-3"]
    assert variables[1].numpy() == progress.step == 2
    assert (tmp_path / "states" / "damaged-ckpt-3.index").exists()
    states.save()
    again, variables, _ = make(tmp_path)
    assert again.restore() == []
    assert variables[1].numpy() == 2


def test_what_a_killed_write_left_behind_is_swept_away(tmp_path):
    save_three(tmp_path)
    folder = tmp_path / "states"
    (folder / "unfinished_temp").mkdir()
    (folder / "unfinished_temp" / "part-00000-of-00001.data-00000-of-00001").write_text("half")
    (folder / "unfinished.data-00000-of-00001").write_text("half")
    # Renamed, while its index was not.
    (folder / "ckpt-4.data-00000-of-00001").write_text("whole")
    states, variables, _ = make(tmp_path)
    assert states.restore() == []
    assert variables[1].numpy() == 3
    states.save()
    assert len(list(folder.iterdir())) == 4
    assert make(tmp_path)[0].restore() == []


def test_a_state_of_other_variables_is_refused(tmp_path):
    save_three(tmp_path)
    other = Checkpoints(tmp_path / "states", {"model": [tf.Variable([0.0] * 7)]}, Progress())
    with pytest.raises(RunError, match="ckpt-3 holds other variables than this model has"):
        other.restore()


def test_a_state_that_cannot_be_written_leaves_the_others(tmp_path, monkeypatch):
    save_three(tmp_path)
    states, _, _ = make(tmp_path)

    def write(prefix):
        (tmp_path / "states" / "unfinished_temp").mkdir()
        raise tf.errors.ResourceExhaustedError(None, None, f"{prefix}; No space left on device")

    monkeypatch.setattr(tf.train.Checkpoint, "write", lambda _, prefix: write(prefix))
    with pytest.raises(RunError, match="No space left on device; the one before is whole"):
        states.save()
    monkeypatch.undo()
    assert len(list((tmp_path / "states").iterdir())) == 4
    restored, variables, _ = make(tmp_path)
    assert restored.restore() == []
    np.testing.assert_array_equal(variables[0].numpy(), [4.5] * 5)
