"""What stands in the pictures; how they look is for eyes."""

import sys

import numpy as np
import pytest

from zoo import metrics, plots
from zoo.errors import RunError

HISTORY = [
    {
        "epoch": epoch,
        "loss": 0.6 / epoch,
        "accuracy": 0.5 + 0.1 * epoch,
        "validation_accuracy": (0.6, 0.8, 0.7)[epoch - 1],
        "validation_log_loss": (0.6, 0.5, 0.45)[epoch - 1],
    }
    for epoch in (1, 2, 3)
]


def make_case(num_classes, rows=211):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, rows)
    logits = rng.normal(size=(rows, num_classes))
    logits[np.arange(rows), labels] += 2
    return logits, labels


def texts(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("num_classes", [2, 5, 23])
def test_three_pictures_are_drawn(tmp_path, num_classes):
    logits, labels = make_case(num_classes)
    drawn = plots.draw(
        tmp_path,
        title="task, model",
        split="test",
        classes=[f"class {i}" for i in range(num_classes)],
        history=HISTORY,
        logits=logits,
        labels=labels,
    )
    assert sorted(path.name for path in drawn) == [
        "confusion_matrix.png",
        "learning_curve.png",
        "reliability.png",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(drawn)
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_without_matplotlib_one_line_says_how_to_get_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    logits, labels = make_case(2)
    arguments = {"title": "t", "split": "test", "classes": "ab", "history": HISTORY}
    assert plots.draw(tmp_path, **arguments, logits=logits, labels=labels) == []
    assert capsys.readouterr().out == (
        "no pictures: pip install 'sequence-zoo[plot]' brings what draws them\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_one_clear_error(tmp_path):
    logits, labels = make_case(2)
    arguments = {"title": "t", "split": "test", "classes": "ab", "history": HISTORY}
    with pytest.raises(RunError, match=r"cannot write .*learning_curve\.png"):
        plots.draw(tmp_path / "missing", **arguments, logits=logits, labels=labels)


def test_the_learning_curve_holds_the_history():
    loss, accuracy = plots.learning_curve("title", HISTORY).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [
        pytest.approx([0.6, 0.3, 0.2]),
        pytest.approx([0.6, 0.5, 0.45]),
    ]
    assert accuracy.lines[1].get_ydata().tolist() == pytest.approx([60, 80, 70])
    assert texts(loss) == ["lowest: 0.450"]
    assert texts(accuracy) == ["highest: 80.0"]
    assert [loss.get_xlabel(), accuracy.get_ylabel()] == ["epoch", "accuracy (%)"]


def test_one_epoch_makes_a_learning_curve_too(tmp_path):
    plots.learning_curve("title", HISTORY[:1]).savefig(tmp_path / "a.png")


def test_the_confusion_matrix_holds_names_counts_and_shares():
    logits = np.eye(3)[[0, 0, 1, 1, 2]]
    figure = plots.confusion_matrix(
        "title", ("one", "two", "three"), logits, np.array([0, 0, 0, 1, 2])
    )
    axes = figure.axes[0]
    assert texts(axes) == [
        *("2\n66.7 %", "1\n33.3 %", "0\n0.0 %"),
        *("0\n0.0 %", "1\n100.0 %", "0\n0.0 %"),
        *("0\n0.0 %", "0\n0.0 %", "1\n100.0 %"),
    ]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["one", "two", "three"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")


def test_many_classes_have_no_numbers_in_their_cells():
    logits, labels = make_case(23)
    assert not texts(
        plots.confusion_matrix("t", [str(i) for i in range(23)], logits, labels).axes[0]
    )


def test_the_reliability_diagram_holds_the_bins():
    logits, labels = make_case(3)
    shares, confidence, accuracy = metrics.reliability(metrics.softmax(logits), labels)
    upper, lower = plots.reliability_diagram("title", logits, labels).axes
    dots = upper.lines[0].get_xydata() / 100
    seen = shares > 0
    np.testing.assert_allclose(dots, np.stack([confidence[seen], accuracy[seen]], axis=1))
    assert sum(bar.get_height() for bar in lower.patches) == pytest.approx(100)
    error = metrics.score(logits, labels)["expected_calibration_error"]
    assert f"{100 * error:.1f} %" in upper.get_title()
