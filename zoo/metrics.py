"""What a classifier's logits are worth, to the last digit.

All figures are computed in float64 from the logits: `keras.metrics` counts in float32, in which
0.8742 becomes 0.8741999864578247, and probabilities near 1 tie that logits tell apart.
"""

from typing import Any

import numpy as np

CALIBRATION_BINS = 15


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, `float64[R, C]`, of logits, `float[R, C]`."""
    shifted = logits.astype("float64") - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)


def temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What to divide logits by, for the least log-loss: above 1 for answers that are too sure.

        T = argmin_T -mean(log softmax(logits / T)[label])

    The loss is convex in 1/T, whose slope, what is expected of the logits less what is found, is
    brought to zero by bisection. Source: Guo et al. 2017, "On Calibration of Modern Neural
    Networks".

    Args:
        logits: `float[R, C]`, of examples that the model has not been trained on.
        labels: `int[R]`, the true classes.

    Returns:
        T, between 1/20 and 20; 1 where every answer is right: there is no least then, and a few
        right answers would make a model sure to the last digit.

    Example:
        >>> sure = np.array([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(temperature(sure, np.array([0, 0, 0, 1])), 3)  # softmax(4 / T) is 3/4
        3.641
    """
    logits = logits.astype("float64")
    if (logits.argmax(axis=1) == labels).all():
        return 1.0
    found = logits[np.arange(len(labels)), labels].mean()
    low, high = 1 / 20, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        expected = (softmax(middle * logits) * logits).sum(axis=1).mean()
        low, high = (middle, high) if expected < found else (low, middle)
    return 1 / low


def score(logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """All figures of one split.

    Args:
        logits: `float[R, C]`.
        labels: `int[R]`, the true classes.

    Returns:
        `accuracy`; `macro_f1`, the mean of the classes' F1, 0 for a class that neither occurs nor
        is predicted; `auc` for two classes, `None` where one of them does not occur; `log_loss`
        in nats; `expected_calibration_error`; `confusion`, the counts by true class (rows) and
        predicted class (columns); `examples`.

    Example:
        >>> figures = score(np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 1]))
        >>> figures["confusion"], round(figures["accuracy"], 4), figures["auc"]
        ([[1, 0], [1, 1]], 0.6667, 1.0)
    """
    num_classes = logits.shape[1]
    logits = logits.astype("float64")
    probabilities = softmax(logits)
    predicted = logits.argmax(axis=1)
    confusion = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    confusion = confusion.reshape(num_classes, num_classes)
    highest = logits.max(axis=1)
    log_sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    rows = np.arange(len(labels))
    figures: dict[str, Any] = {
        "accuracy": float(np.trace(confusion) / len(labels)),
        "macro_f1": _macro_f1(confusion),
    }
    if num_classes == 2:
        figures["auc"] = area_under_curve(logits[:, 1] - logits[:, 0], labels == 1)
    figures["log_loss"] = float(np.mean(log_sums - logits[rows, labels]))
    shares, confidence, accuracy = reliability(probabilities, labels)
    figures["expected_calibration_error"] = float(np.sum(shares * np.abs(confidence - accuracy)))
    figures["confusion"] = confusion.tolist()
    figures["examples"] = len(labels)
    return figures


def _macro_f1(confusion: np.ndarray) -> float:
    """F1 = 2 TP / (2 TP + FP + FN) of each class, averaged."""
    twice = 2 * np.diag(confusion)
    total = confusion.sum(axis=0) + confusion.sum(axis=1)
    return float(np.mean(twice / np.maximum(total, 1)))


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The chance that a positive scores above a negative, a tie counting half.

    The rank statistic of Mann and Whitney, which the area under the ROC curve is exactly.

    Args:
        scores: `float[R]`, the higher the more positive.
        positive: `bool[R]`.

    Returns:
        The area, or `None` if there is no positive, or no negative.

    Example:
        >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True]))
        0.875
    """
    num_positive = int(positive.sum())
    num_negative = len(positive) - num_positive
    if not num_positive or not num_negative:
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean_rank = last - (count - 1) / 2
    wins = mean_rank[place][positive].sum() - num_positive * (num_positive + 1) / 2
    return float(wins / (num_positive * num_negative))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How right a classifier is where it is how sure, in 15 bins of equal width.

    The expected calibration error (Guo et al. 2017, "On Calibration of Modern Neural Networks")
    is the mean difference of the two, weighted by the shares.

    Args:
        probabilities: `float[R, C]`.
        labels: `int[R]`.

    Returns:
        For the bins (0, 1/15], ..., (14/15, 1] of the highest probability, `float64[15]` each: the
        share of the examples, their mean highest probability, and their accuracy; 0 where there
        are none.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    places = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(int) - 1, 0, None)
    places = np.minimum(places, CALIBRATION_BINS - 1)
    count = np.bincount(places, minlength=CALIBRATION_BINS)
    total = np.maximum(count, 1)
    return (
        count / max(len(labels), 1),
        np.bincount(places, confidence, CALIBRATION_BINS) / total,
        np.bincount(places, right, CALIBRATION_BINS) / total,
    )


def accuracy_by_length(
    logits: np.ndarray, labels: np.ndarray, lengths: np.ndarray
) -> list[dict[str, Any]]:
    """How right a classifier is on the shortest fifth of the examples, on the next, and so on.

    Args:
        logits: `float[R, C]`.
        labels: `int[R]`.
        lengths: `int[R]`.

    Returns:
        `shortest`, `longest`, `examples` and `accuracy` of each fifth. Examples of one length stand
        in one fifth, so that fifths differ in size, and there are fewer where many are as long.

    Example:
        >>> right = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> for part in accuracy_by_length(right, np.array([0, 1, 1]), np.array([9, 9, 4])):
        ...     print(part)
        {'shortest': 4, 'longest': 4, 'examples': 1, 'accuracy': 1.0}
        {'shortest': 9, 'longest': 9, 'examples': 2, 'accuracy': 0.5}
    """
    right = logits.argmax(axis=1) == labels
    # The length that the last example of each fifth has.
    ends = np.unique(np.quantile(lengths, np.arange(1, 6) / 5, method="inverted_cdf"))
    places = np.searchsorted(ends, lengths)
    return [
        {
            "shortest": int(lengths[places == place].min()),
            "longest": int(end),
            "examples": int((places == place).sum()),
            "accuracy": float(right[places == place].mean()),
        }
        for place, end in enumerate(ends)
    ]


def merit(row: dict[str, Any], select_by: str) -> tuple[float, float]:
    """What epochs are compared by: higher is better, and the other figure decides between equals.

    Args:
        row: an epoch's, with `validation_accuracy` and `validation_log_loss`.
        select_by: `"accuracy"` or `"log_loss"`.

    Example:
        >>> merit({"validation_accuracy": 0.75, "validation_log_loss": 0.5}, "log_loss")
        (-0.5, 0.75)
    """
    accuracy, log_loss = row["validation_accuracy"], row["validation_log_loss"]
    return (accuracy, -log_loss) if select_by == "accuracy" else (-log_loss, accuracy)


def describe(figures: dict[str, Any]) -> str:
    """The figures of one split in a line.

    Example:
        >>> describe({"accuracy": 0.875, "log_loss": 0.3, "expected_calibration_error": 0.02})
        'accuracy 0.8750, log-loss 0.3000, expected calibration error 0.0200'
    """
    names = {
        "accuracy": "accuracy",
        "macro_f1": "macro-F1",
        "auc": "AUC",
        "log_loss": "log-loss",
        "expected_calibration_error": "expected calibration error",
    }
    return ", ".join(
        f"{name} {figures[key]:.4f}" for key, name in names.items() if figures.get(key) is not None
    )
