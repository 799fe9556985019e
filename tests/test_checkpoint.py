"""States on disk that are whole, or that are not there."""

import numpy as np
import pytest
import tensorflow as tf

from zoo.checkpoint import Checkpoints, Progress, replacing
from zoo.errors import RunError


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


def make(folder, value=0.0, **progress):
    """A state of two variables, and what keeps it."""
    progress = Progress(**progress)
    variables = [tf.Variable([value] * 5), tf.Variable(int(value), dtype="int64")]
    return Checkpoints(folder / "states", {"model": variables}, progress), variables, progress


def save_three(folder):
    states, variables, progress = make(folder)
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
