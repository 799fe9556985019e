"""What `zoo.label_efficiency` found, in a table, as JSON and in a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.label_efficiency import Cell
from zoo.leaderboard import Job
from zoo.leaderboard_results import Results
from zoo.leaderboard_table import Row, collect, head, ready, write_texts
from zoo.plots import new_figure, tidy
from zoo.whole_files import replacing

# Okabe & Ito's palette, which the colour-blind can tell apart, and shapes for who sees none.
_LOOKS = {
    "scratch": ("#000000", "o"),
    "word_vectors": ("#0072B2", "s"),
    "language_model": ("#009E73", "D"),
    "minilm": ("#D55E00", "^"),
}
_NOTES = """\
Accuracy on test in percent, mean over the seeds, with the least and the most of single seeds. The
labelled examples are drawn by the seed, fewer ones among the more; the best epoch is chosen on the
whole validation split. `scratch`, `word_vectors` and `language_model` are the task's recipe, with
random vectors, with vectors learnt from the task's training texts, and with layers that have told
words of these texts before, all labels aside; `minilm` is the recipe of a Transformer pretrained on
other texts. Fewer labels are seen more often, the recipe's epochs being multiplied by"""


def write(
    cells: Sequence[Cell],
    jobs: Sequence[Job],
    root: Path,
    out: Path,
    command: str,
    results: Results | None = None,
) -> list[Path]:
    """Writes `OUT.md`, `OUT.json` and, where matplotlib is installed, `OUT.png`.

    Args:
        cells: the places of the table; one whose jobs are not finished stays empty.
        jobs: whose runs fill it.
        root: folder of the runs.
        out: the files' name without its ending.
        command: what to type for the same again.
        results: the figures of runs whose folders may be gone.

    Returns:
        The files written.

    Raises:
        RunError: if there is no finished run, or they cannot be written.
    """
    rows, about = collect(jobs, root, results)
    found = {(row.task, row.model): row for row in rows}
    known = {cell: found[cell.task, cell.name] for cell in cells if (cell.task, cell.name) in found}
    out = ready(out)
    content = {"command": command, **about, "cells": [_figures(*item) for item in known.items()]}
    pictures = _draw(known, Path(f"{out}.png"))
    return [*write_texts(out, _markdown(known, about, command, pictures), content), *pictures]


def _figures(cell: Cell, row: Row) -> dict[str, Any]:
    return {
        "task": cell.task,
        "start": cell.start,
        "labelled_examples": cell.labels.examples or "all",
        "seeds": row.seeds,
        "accuracies": row.accuracies,
        "validation_accuracy": row.validation_accuracy,
        "train_seconds": row.train_seconds,
    }


def _markdown(
    known: dict[Cell, Row], about: dict[str, Any], command: str, pictures: Sequence[Path]
) -> str:
    labels = list(dict.fromkeys(cell.labels for cell in known))
    often = ", ".join(f"{one.times} for {one}" for one in labels)
    lines = ["# What pretraining buys", "", f"    {command}", "", *head(about)]
    lines += ["", f"{_NOTES} {often}.", ""]
    lines.append(f"| task | beginning | {' | '.join(f'{one} labels' for one in labels)} | seeds |")
    lines.append(f"|---|---|{'--:|' * len(labels)}---|")
    for task, start in dict.fromkeys((cell.task, cell.start) for cell in known):
        of_line = {c.labels: r for c, r in known.items() if (c.task, c.start) == (task, start)}
        texts = [_accuracy(of_line[one]) if one in of_line else "" for one in labels]
        seeds = sorted({seed for row in of_line.values() for seed in row.seeds})
        lines.append(f"| {task} | {start} | {' | '.join(texts)} | {', '.join(map(str, seeds))} |")
    if about["unfinished"]:
        lines += ["", f"Not finished: {len(about['unfinished'])} runs."]
    for file in pictures:
        lines += ["", f"![Accuracy on test by the number of labelled examples]({file.name})"]
    return "\n".join(lines) + "\n"


def _accuracy(row: Row) -> str:
    mean = f"{100 * row.accuracy:.2f}"
    if len(row.accuracies) == 1:
        return mean
    least, most = (100 * f(row.accuracies) for f in (min, max))
    return f"{mean} ({least:.1f} – {most:.1f})"


def _draw(known: dict[Cell, Row], file: Path) -> list[Path]:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no picture: pip install 'sequence-zoo[plot]' brings what draws it")
        return []
    with replacing(file) as beside:
        picture(known).savefig(beside, format="png")
    return [file]


def picture(known: dict[Cell, Row]) -> Any:
    """Accuracy against the number of labelled examples, a panel a task, a line a beginning.

    Args:
        known: the rows of the table by their places.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    tasks = list(dict.fromkeys(cell.task for cell in known))
    figure = new_figure(max(6.0, 4.6 * len(tasks)), 4.4, "Accuracy on test by labelled examples")
    for place, task in enumerate(tasks, 1):
        axes = figure.add_subplot(1, len(tasks), place)
        of_task = {cell: row for cell, row in known.items() if cell.task == task}
        labels = sorted(
            {cell.labels for cell in of_task}, key=lambda one: one.examples or float("inf")
        )
        for start in dict.fromkeys(cell.start for cell in of_task):
            found = {c.labels: r.accuracies for c, r in of_task.items() if c.start == start}
            # Where runs are missing the line breaks, and is drawn through nothing that was seen.
            line = [np.multiply(100, found.get(one, [np.nan])) for one in labels]
            means = [seeds.mean() for seeds in line]
            spread = [
                [seeds.mean() - seeds.min() for seeds in line],
                [seeds.max() - seeds.mean() for seeds in line],
            ]
            color, shape = _LOOKS[start]
            places = range(len(labels))
            look = {"color": color, "marker": shape, "markersize": 5.5, "linewidth": 1.3}
            axes.errorbar(places, means, spread, label=start, capsize=2, **look)
        axes.set_xticks(range(len(labels)), [str(one) for one in labels])
        axes.set_xlabel("labelled examples")
        axes.set_ylabel("accuracy (%)")
        axes.set_title(task, fontsize=10)
        axes.margins(x=0.08, y=0.1)
        tidy(axes)
        axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure
