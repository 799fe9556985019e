"""scikit-learn is the oracle; `keras.metrics` agree within float32."""

import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from zoo import metrics


def make_case(num_classes, num_rows=997, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_rows)
    logits = rng.normal(size=(num_rows, num_classes)) * scale
    logits[np.arange(num_rows), labels] += 1
    return logits.astype("float32"), labels.astype("int32")


@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_figures_equal_scikit_learn(num_classes):
    logits, labels = make_case(num_classes)
    figures = metrics.score(logits, labels)
    probabilities = metrics.softmax(logits)
    predicted = logits.argmax(axis=1)
    classes = range(num_classes)
    assert figures["accuracy"] == oracle.accuracy_score(labels, predicted)
    assert figures["macro_f1"] == pytest.approx(
        oracle.f1_score(labels, predicted, average="macro"), rel=1e-12
    )
    assert figures["log_loss"] == pytest.approx(
        oracle.log_loss(labels, probabilities, labels=classes), rel=1e-9
    )
    assert figures["confusion"] == oracle.confusion_matrix(labels, predicted).tolist()
    assert figures["examples"] == 997
    if num_classes == 2:
        assert figures["auc"] == pytest.approx(
            oracle.roc_auc_score(labels, probabilities[:, 1]), rel=1e-12
        )
    else:
        assert "auc" not in figures


def test_figures_agree_with_keras():
    logits, labels = make_case(5)
    figures = metrics.score(logits, labels)
    one_hot = np.eye(5, dtype="float32")[labels]
    probabilities = metrics.softmax(logits).astype("float32")
    for metric, name in (
        (keras.metrics.CategoricalAccuracy(), "accuracy"),
        (keras.metrics.F1Score(average="macro"), "macro_f1"),
        (keras.metrics.CategoricalCrossentropy(), "log_loss"),
    ):
        metric.update_state(one_hot, probabilities)
        assert figures[name] == pytest.approx(float(metric.result()), rel=1e-5)


def test_a_class_that_is_nowhere_has_f1_zero():
    logits, labels = make_case(3)
    logits[:, 2], labels = -50, labels % 2
    expected = oracle.f1_score(
        labels, logits.argmax(1), labels=[0, 1, 2], average="macro", zero_division=0
    )
    assert metrics.score(logits, labels)["macro_f1"] == pytest.approx(expected, rel=1e-12)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({positive for _, positive in rows}) == 2
    )
)
@settings(deadline=None)
def test_area_under_curve_counts_ties_half(rows):
    scores, positive = (np.array(column) for column in zip(*rows, strict=True))
    wins = [
        (p > n) + 0.5 * (p == n)
        for p in scores[positive]
        for n in scores[~positive]
    ]  # fmt: skip
    assert metrics.area_under_curve(scores, positive) == pytest.approx(np.mean(wins), rel=1e-12)
    assert metrics.area_under_curve(scores, positive) == pytest.approx(
        oracle.roc_auc_score(positive, scores), rel=1e-12
    )


def test_area_under_curve_of_one_class_is_none():
    logits, labels = make_case(2)
    assert metrics.score(logits, np.zeros_like(labels))["auc"] is None


def test_area_under_curve_tells_apart_what_probabilities_tie():
    logits = np.array([[0, 100], [0, 200], [0, 300]], "float32")
    assert metrics.score(logits, np.array([0, 1, 1]))["auc"] == 1.0
    assert (metrics.softmax(logits)[:, 1] == 1.0).all()


def test_log_loss_of_extreme_logits_is_finite():
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], "float32")
    assert metrics.score(logits, np.array([0, 0]))["log_loss"] == pytest.approx(1e4)


def test_expected_calibration_error_by_its_definition():
    logits, labels = make_case(3, num_rows=211)
    probabilities = metrics.softmax(logits)
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    expected = 0.0
    for place in range(15):
        inside = (confidence > place / 15) & (confidence <= (place + 1) / 15)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].mean())
            expected += inside.mean() * gap
    assert metrics.score(logits, labels)["expected_calibration_error"] == pytest.approx(expected)


def test_calibration_is_perfect_where_confidence_is_accuracy():
    # Three quarters sure, and right three times of four.
    logits = np.tile([math.log(3), 0.0], (4, 1))
    figures = metrics.score(logits, np.array([0, 0, 0, 1]))
    assert figures["expected_calibration_error"] == pytest.approx(0, abs=1e-12)


def test_reliability_covers_confidence_one_and_even_odds():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]])
    shares, confidence, accuracy = metrics.reliability(probabilities, np.array([0, 1]))
    assert shares[14] == shares[7] == 0.5
    assert (confidence[14], accuracy[14]) == (1.0, 1.0)
    assert (confidence[7], accuracy[7]) == (0.5, 0.0)


def test_describe_leaves_out_what_there_is_not():
    logits, labels = make_case(3)
    line = metrics.describe(metrics.score(logits, labels))
    assert line.startswith("accuracy 0.")
    assert "AUC" not in line


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(2, 5), st.floats(0.1, 10))
def test_no_other_temperature_has_less_log_loss(seed, num_classes, scale):
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(200, num_classes))
    labels = np.where(rng.random(200) < 0.6, logits.argmax(axis=1), rng.integers(num_classes))
    found = metrics.temperature(logits, labels)
    least = metrics.score(logits / found, labels)["log_loss"]
    for other in (0.9, 0.99, 1.01, 1.1):
        assert metrics.score(logits / (found * other), labels)["log_loss"] >= least - 1e-12


def test_temperatures_are_bounded():
    logits = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert metrics.temperature(logits / 100, np.array([0, 1, 1])) == pytest.approx(1 / 20)
    assert metrics.temperature(logits, np.array([1, 0, 1])) == pytest.approx(20)


@pytest.mark.parametrize("scale", [0, 1, 60, 1e5])
def test_right_answers_alone_make_no_model_surer(scale):
    """There is no best temperature: the lower, the less the loss, until it rounds to zero."""
    logits = scale * np.array([[1.0, 0.0], [1.0, 0.0]])
    assert metrics.temperature(logits, np.array([0, 0])) == 1
