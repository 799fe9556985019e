"""What is asked of a SavedModel: texts as they come, and folders that are none."""

import os
import threading

import pytest
import tensorflow as tf

from tests.exports import TEXTS, make_trained
from zoo.errors import RunError, UsageError
from zoo.export import (
    export,
    lines_as_they_come,
    load_servable,
    predict,
)


@pytest.fixture(scope="module")
def bilstm():
    return make_trained()


def test_predictions_stream(bilstm, tmp_path):
    model = load_servable(export(bilstm, "tiny", tmp_path))
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield "a good film"

    found = predict(model, endless(), batch_size=3)
    first = next(found)
    assert len(taken) == 3
    assert first.label == max(first.probabilities, key=first.probabilities.get)
    assert sum(first.probabilities.values()) == pytest.approx(1)
    assert list(predict(model, [])) == []
    assert [p.text for p in predict(model, TEXTS, 4)] == TEXTS
    # What is no text comes back as the model saw it.
    assert [p.text for p in predict(model, ["a\udcff", "\ud800"])] == ["a\ufffd", "\ufffd" * 3]
    with pytest.raises(UsageError, match="batch_size=0 cannot work"):
        next(predict(model, ["x"], 0))


def test_what_is_there_to_read_is_read_together():
    source, target = os.pipe()
    with open(source, "rb") as stream:
        found = lines_as_they_come(stream)
        os.write(target, b"a\nb\rb\r\n\xffc")
        assert next(found) == ["a", "b\rb"]
        os.write(target, b"\n\n")
        assert next(found) == ["\ufffdc", ""]
        os.write(target, b"d" * 50_000)
        threading.Timer(0.1, lambda: (os.write(target, b"e\nf"), os.close(target))).start()
        assert next(found) == ["d" * 50_000 + "e"]
        assert list(found) == [["f"]]


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path):
    with pytest.raises(RunError, match="holds no SavedModel: give a folder that"):
        load_servable(tmp_path)
    with pytest.raises(RunError, match="holds no SavedModel"):
        load_servable(tmp_path / "missing")
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no protobuf")
    with pytest.raises(RunError, match="is damaged"):
        load_servable(tmp_path)


@pytest.mark.parametrize("kept", [0, 0.5, 0.999])
def test_a_saved_model_that_is_half_copied_is_one_line(bilstm, tmp_path, kept):
    folder = export(bilstm, "tiny", tmp_path)
    file = folder / "variables" / "variables.data-00000-of-00001"
    os.truncate(file, int(file.stat().st_size * kept))
    with pytest.raises(RunError, match=r"the SavedModel in .*tiny/1 is damaged: ."):
        load_servable(folder)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (IndexError("list index out of range"), "list index out of range"),
        (KeyError(5), "5"),
        (RuntimeError("first line\nsecond line"), "first line"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_whatever_a_damaged_graph_raises_is_one_line(bilstm, tmp_path, monkeypatch, error, message):
    def load(_):
        raise error

    folder = export(bilstm, "tiny", tmp_path)
    monkeypatch.setattr(tf.saved_model, "load", load)
    with pytest.raises(RunError, match=rf"tiny/1 is damaged: {message}$"):
        load_servable(folder)


def test_a_foreign_saved_model_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    with pytest.raises(RunError, match=r"was not written by trainers/export\.py"):
        load_servable(tmp_path)
