"""Pictures of a run; they need the extra `plot`, and a run without it goes on without them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo import metrics
from zoo.whole_files import replacing

# Blue and orange of Okabe & Ito's palette, which the colour-blind can tell apart too.
_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
# Beyond this many classes, numbers in the cells would cover one another.
_MAX_WRITTEN_CLASSES = 20
# From this ratio of the longest to the shortest on, lengths stand on a logarithmic axis.
WIDE = 30


def draw(
    folder: Path,
    *,
    title: str,
    split: str,
    classes: Sequence[str],
    history: Sequence[Mapping[str, Any]],
    logits: np.ndarray,
    labels: np.ndarray,
) -> list[Path]:
    """Draws `learning_curve.png`, `confusion_matrix.png` and `reliability.png`.

    Without matplotlib, prints how to get it and draws nothing.

    Args:
        folder: where they go.
        title: what was trained on what.
        split: which split the logits are of.
        classes: the names of the classes.
        history: one row of figures an epoch.
        logits: `float[R, C]`.
        labels: `int[R]`.

    Returns:
        The files drawn.

    Raises:
        RunError: if they cannot be written.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no pictures: pip install 'sequence-zoo[plot]' brings what draws them")
        return []
    name = f"{title}: {len(labels):,} {split} examples"
    figures = {
        "learning_curve.png": learning_curve(title, history),
        "confusion_matrix.png": confusion_matrix(name, classes, logits, labels),
        "reliability.png": reliability_diagram(name, logits, labels),
    }
    for file, figure in figures.items():
        with replacing(folder / file) as beside:
            figure.savefig(beside, format="png")
    return [folder / file for file in figures]


def draw_ratios(ratios: Mapping[str, float], title: str, file: Path) -> None:
    """Draws a bar a case, above 1 where we are faster than the peer; nothing without matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no picture: pip install 'sequence-zoo[plot]' brings what draws it")
        return
    figure = new_figure(
        8, 1 + 0.3 * len(ratios), f"What the peer takes over what ours do ({title})"
    )
    axes = figure.subplots()
    axes.set_xscale("log")
    colors = [_BLUE if value >= 1 else _ORANGE for value in ratios.values()]
    bars = axes.barh(list(ratios), [value - 1 for value in ratios.values()], left=1, color=colors)
    axes.bar_label(bars, [f" {value:.2f}" for value in ratios.values()])
    axes.axvline(1.0, color=_GREY, linewidth=0.8)
    ticks = [0.5, 1, 2, 5, 10, 20]
    axes.set_xticks(ticks, list(map(str, ticks)))
    axes.minorticks_off()
    axes.set_xlim(0.5, 1.5 * max(2.0, *ratios.values()))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(file) as beside:
        figure.savefig(beside, format="png")


def draw_lengths(
    lengths: Mapping[str, np.ndarray], title: str, unit: str, cut: int | None, file: Path
) -> bool:
    """Draws how long the examples of each split are; nothing without matplotlib.

    Args:
        lengths: `int[N]` by split.
        title: of which task.
        unit: what is counted.
        cut: where examples are cut off, `None` if they are not.
        file: where the picture goes.

    Returns:
        Whether it was drawn.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no picture: pip install 'sequence-zoo[plot]' brings what draws it")
        return False
    least = max(1, min(int(values.min()) for values in lengths.values()))
    most = max(int(values.max()) for values in lengths.values())
    wide = most > WIDE * least
    edges = np.geomspace(least, most + 1, 40) if wide else np.linspace(least, most + 1, 24)
    # Lengths are whole numbers: narrower bins would stand empty between them.
    edges = np.unique(np.round(edges))
    figure = new_figure(8, 3.6, title)
    axes = figure.subplots()
    for color, (name, values) in zip((_BLUE, _ORANGE, _GREY), lengths.items(), strict=False):
        weights = np.full(len(values), 100 / len(values))
        counts, _ = np.histogram(np.maximum(values, least), edges, weights=weights)
        axes.stairs(counts, edges, color=color, label=f"{name}, {len(values):,}", linewidth=1.6)
    if cut is not None and cut < most:
        axes.axvline(cut, color="black", linewidth=0.8, linestyle="--")
        axes.annotate(
            f"cut at {cut:,}",
            (cut, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            fontsize=9,
        )
    if wide:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(xlabel=f"{unit} in an example", ylabel="examples in a bin (%)", xlim=edges[[0, -1]])
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    with replacing(file) as beside:
        figure.savefig(beside, format="png")
    return True


def new_figure(width: float, height: float, title: str) -> Any:
    """An empty `matplotlib.figure.Figure`, in inches."""
    # Not pyplot: it would keep the figure, and look for a screen.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    figure.suptitle(title, fontsize=11)
    return figure


def tidy(axes: Any) -> None:
    """Leaves of a panel's frame what is read, and lines across."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)


def learning_curve(title: str, history: Sequence[Mapping[str, Any]]) -> Any:
    """Loss and accuracy by epoch, training and validation.

    Args:
        title: what was trained on what.
        history: one row of figures an epoch.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(9, 4, title)
    epochs = [row["epoch"] for row in history]
    panels = (
        ("loss", "validation_log_loss", "cross-entropy (nats an example)", 1, np.argmin, "lowest"),
        ("accuracy", "validation_accuracy", "accuracy (%)", 100, np.argmax, "highest"),
    )
    for axes, (train, validation, unit, scale, best_of, best_word) in zip(
        figure.subplots(1, 2), panels, strict=True
    ):
        trained = [row[train] * scale for row in history]
        validated = [row[validation] * scale for row in history]
        axes.plot(epochs, trained, "s--", color=_GREY, label="training, while learning", ms=4)
        axes.plot(epochs, validated, "o-", color=_BLUE, label="validation, averaged weights", ms=5)
        best = int(best_of(validated))
        axes.annotate(
            f"{best_word}: {validated[best]:.{1 if scale == 100 else 3}f}",
            (epochs[best], validated[best]),
            # On the side from which no line comes.
            xytext=(0, 9 if best_word == "highest" else -16),
            textcoords="offset points",
            ha="right" if epochs[best] == epochs[-1] and best else "center",
            color=_BLUE,
            fontsize=9,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )
        axes.set(xlabel="epoch", ylabel=unit)
        axes.margins(x=0.12, y=0.2)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize=9)
        tidy(axes)
    return figure


def confusion_matrix(
    title: str, classes: Sequence[str], logits: np.ndarray, labels: np.ndarray
) -> Any:
    """Which class was taken for which: counts, and their share of the true class.

    Args:
        title: of which examples.
        classes: the names of the classes.
        logits: `float[R, C]`.
        labels: `int[R]`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    counts = np.array(metrics.score(logits, labels)["confusion"])
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num_classes = len(classes)
    side = min(3.5 + 0.75 * num_classes, 16)
    figure = new_figure(side + 1.5, side, title)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.85)
    small = num_classes > 6
    places = range(num_classes)
    axes.set_xticks(places, classes, rotation=45 if small or _is_long(classes) else 0)
    if small or _is_long(classes):
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(places, classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    if num_classes <= _MAX_WRITTEN_CLASSES:
        for row in places:
            for column in places:
                share = shares[row, column]
                axes.text(
                    column,
                    row,
                    f"{counts[row, column]:,}\n{share:.1f} %",
                    ha="center",
                    va="center",
                    fontsize=9 if small else 11,
                    color="white" if share > 55 else "black",
                )
    return figure


def _is_long(classes: Sequence[str]) -> bool:
    return max(map(len, classes)) > 12


def reliability_diagram(title: str, logits: np.ndarray, labels: np.ndarray) -> Any:
    """How often the model is right where it is how sure, and how often it is how sure.

    Args:
        title: of which examples.
        logits: `float[R, C]`.
        labels: `int[R]`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    shares, confidence, accuracy = metrics.reliability(metrics.softmax(logits), labels)
    error = float(np.sum(shares * np.abs(confidence - accuracy)))
    figure = new_figure(6, 6.2, title)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    edges = np.linspace(0, 100, metrics.CALIBRATION_BINS + 1)
    width, seen = edges[1], shares > 0
    middles = (edges[:-1] + edges[1:]) / 2
    upper.bar(
        middles[seen],
        100 * accuracy[seen],
        0.92 * width,
        color=_BLUE,
        alpha=0.75,
        label="accuracy in the bin",
    )
    upper.plot(
        100 * confidence[seen],
        100 * accuracy[seen],
        "o",
        color=_ORANGE,
        ms=5,
        label="at the bin's mean confidence",
    )
    upper.plot([0, 100], [0, 100], "--", color=_GREY, label="as sure as it is right")
    upper.set(ylabel="accuracy (%)", ylim=(0, 103))
    upper.set_title(f"expected calibration error {100 * error:.1f} %", fontsize=10)
    # Below: bars and dots may stand anywhere.
    upper.legend(
        frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.03), ncols=3
    )
    lower.bar(middles, 100 * shares, 0.92 * width, color=_GREY)
    lowest = 100 / logits.shape[1]
    lower.set(
        xlabel="confidence: probability of the predicted class (%)",
        ylabel="examples (%)",
        xlim=(np.floor(lowest / width) * width, 100),
    )
    for axes in (upper, lower):
        tidy(axes)
    return figure
