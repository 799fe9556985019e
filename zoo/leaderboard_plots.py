"""Pictures of a leaderboard: accuracy against what training took, and against length."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoo.leaderboard_table import Row
from zoo.plots import WIDE, new_figure, tidy
from zoo.whole_files import replacing

# Okabe & Ito's palette, which the colour-blind can tell apart, and shapes for who sees none.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SHAPES = "osD^vPX*<>"
_COLUMNS = 3


def draw(rows: Sequence[Row], out: Path) -> dict[Path, str]:
    """Draws `OUT_seconds.png` and `OUT_lengths.png`.

    The latter where a task has examples of several lengths. Without matplotlib, prints how to get
    it and draws nothing.

    Args:
        rows: of `zoo.leaderboard_table`.
        out: the files' name without its ending.

    Returns:
        What is to be seen, by file drawn.

    Raises:
        RunError: if they cannot be written.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no pictures: pip install 'sequence-zoo[plot]' brings what draws them")
        return {}
    pictures = {"seconds": (by_seconds, "Accuracy on test against seconds of training")}
    if any(len(row.by_length) > 1 for row in rows):
        pictures["lengths"] = (by_length, "Accuracy on test by length of the example")
    drawn = {}
    for name, (picture, what) in pictures.items():
        file = Path(f"{out}_{name}.png")
        with replacing(file) as beside:
            picture(rows).savefig(beside, format="png")
        drawn[file] = what
    return drawn


def by_seconds(rows: Sequence[Row]) -> Any:
    """Accuracy against seconds of training, a panel a task, with 95 % intervals.

    Returns:
        A `matplotlib.figure.Figure`.
    """

    def panel(axes: Any, row: Row, look: dict[str, Any]) -> None:
        below, above = row.accuracy - row.interval[0], row.interval[1] - row.accuracy
        axes.errorbar(
            row.train_seconds,
            100 * row.accuracy,
            [[100 * max(below, 0)], [100 * max(above, 0)]],
            elinewidth=1,
            linestyle="none",
            **look,
        )

    figure = _panels(rows, "Accuracy on test, with its 95 % interval", panel)
    for axes in figure.axes:
        axes.set_xlabel("seconds of training")
        _scale(axes)
    return figure


def by_length(rows: Sequence[Row]) -> Any:
    """Accuracy on fifths of the test split by length, a panel a task with more than one length.

    Returns:
        A `matplotlib.figure.Figure`.
    """

    def panel(axes: Any, row: Row, look: dict[str, Any]) -> None:
        middles = [(part["shortest"] + part["longest"]) / 2 for part in row.by_length]
        shares = [100 * part["accuracy"] for part in row.by_length]
        axes.plot(middles, shares, linewidth=1.3, **look)

    kept = [row for row in rows if len(row.by_length) > 1]
    figure = _panels(kept, "Accuracy on fifths of the test split, the shortest first", panel)
    for axes in figure.axes:
        axes.set_xlabel("tokens read (at most --max_length) or steps,\nmiddle of the fifth")
        _scale(axes)
    return figure


def _panels(rows: Sequence[Row], title: str, panel: Callable[..., None]) -> Any:
    tasks = list(dict.fromkeys(row.task for row in rows))
    models = sorted({row.model for row in rows})
    columns = max(1, min(_COLUMNS, len(tasks)))
    lines = max(1, math.ceil(len(tasks) / columns))
    figure = new_figure(max(6.0, 4.2 * columns), 0.9 + 3.4 * lines, title)
    figure.get_layout_engine().set(h_pad=0.1, w_pad=0.08)
    for place, task in enumerate(tasks, 1):
        axes = figure.add_subplot(lines, columns, place)
        of_task = [row for row in rows if row.task == task]
        for row in of_task:
            number = models.index(row.model)
            look = {
                "color": _COLORS[number % len(_COLORS)],
                "marker": _SHAPES[number % len(_SHAPES)],
                "markersize": 5.5,
                "label": row.model,
            }
            panel(axes, row, look)
        axes.set_title(f"{task}, {of_task[0].examples:,} examples", fontsize=10)
        axes.set_ylabel("accuracy (%)")
        tidy(axes)
    named = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if named:
        figure.legend(
            [named[model] for model in models],
            models,
            loc="outside lower center",
            ncols=min(len(models), 3 * columns),
            frameon=False,
            fontsize=9,
        )
    return figure


def _scale(axes: Any) -> None:
    """A logarithmic axis where what stands on it is far apart, with plain numbers."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    found = [x for line in axes.lines for x in line.get_xdata()]
    low, high = min(found), max(found)
    if low > 0 and high > WIDE * low:
        axes.set_xscale("log")
        subs = (1.0,) if high > 1000 * low else (1.0, 3.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_major_formatter("{x:,.0f}" if low >= 1 else "{x:,g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=high > 5, steps=[1, 2, 5, 10]))
    axes.margins(x=0.1, y=0.12)
