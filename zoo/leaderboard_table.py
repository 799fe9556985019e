"""What a leaderboard's finished runs say, in a table, as JSON and in pictures."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from zoo.config import Config
from zoo.errors import RunError
from zoo.leaderboard import Job, finished
from zoo.leaderboard_results import Results
from zoo.paths import expanded
from zoo.whole_files import replacing
from zoo.workdir import Workdir

_RESAMPLES = 100_000
_MOST_NAMED = 9
# How each column is aligned, by its heading.
_COLUMNS = {
    "task": "---",
    "model": "---",
    "accuracy (%)": "--:",
    "least – most": ":-:",
    "95 % interval": ":-:",
    "standing": "---",
    "validation (%)": "--:",
    "ECE (%)": "--:",
    "parameters": "--:",
    "training (s)": "--:",
    "an epoch (s)": "--:",
    "seeds": "---",
}
_NOTES = """\
Accuracy is the mean over the seeds, on the test split; least and most are those of single seeds.
The 95 % interval is the bootstrap's over test examples: with them drawn anew, right answers are
binomially distributed about the accuracy. The mean over seeds is taken as if one model had given
that many right answers, which makes the interval rather too wide than too narrow; it holds nothing
of what other seeds or other training data would have changed, and next to 100 % it is too narrow.
A model whose interval overlaps that of the highest accuracy is tied with the best, in whatever
order the lines stand. ECE is the expected calibration error on test, in 15 bins. Models are chosen
on validation alone. Seconds are of training without validation, means over the seeds. Lengths are
those that the model read: a text is cut at --max_length tokens, and all that are longer count as
that long, so that there may be fewer than five fifths."""


@dataclass(frozen=True)
class Row:
    """A line of the table: a model on a task, over its seeds.

    Args:
        task: on what.
        model: which, or what else its jobs are compared as.
        seeds: of its finished runs.
        accuracies: on test, by seed.
        accuracy: their mean.
        interval: in which it lies, 95 times of 100.
        standing: `"best"`, `"tied with the best"` or nothing.
        validation_accuracy: mean over the seeds, as all that follows.
        expected_calibration_error: on test.
        parameters: numbers that the model consists of.
        train_seconds: without validation.
        epoch_seconds: the same for each epoch.
        examples: of the test split.
        by_length: accuracy on test by length as the model read it, as
            `zoo.metrics.accuracy_by_length` has it.
    """

    task: str
    model: str
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    accuracy: float
    interval: tuple[float, float]
    standing: str
    validation_accuracy: float
    expected_calibration_error: float
    parameters: int
    train_seconds: float
    epoch_seconds: float
    examples: int
    by_length: tuple[dict[str, Any], ...]


def interval(accuracy: float, examples: int) -> tuple[float, float]:
    """The bootstrap's 95 % interval of an accuracy on so many examples.

    To draw examples anew is to draw how many answers are right from a binomial distribution, so
    that the answers themselves are not needed.

    Example:
        >>> interval(0.9, 1_000)
        (0.881, 0.918)
    """
    drawn = np.random.default_rng(0).binomial(examples, accuracy, _RESAMPLES) / examples
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def collect(
    jobs: Sequence[Job], root: Path, results: Results | None = None
) -> tuple[list[Row], dict[str, Any]]:
    """The lines of the table, and what they depend on, from the finished runs.

    Args:
        jobs: whose runs are compared.
        root: the leaderboard's folder.
        results: the figures of runs whose folders may be gone.

    Returns:
        The rows, in the order of the tasks and in each the highest accuracy first; and the
        machines, the versions, the days on which the runs ended, and the unfinished jobs.

    Raises:
        RunError: if there is no finished run, one cannot be read, or two seeds of one model were
            trained in different ways.
    """
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    about: dict[str, Any] = {"machines": [], "versions": [], "days": [], "unfinished": []}
    for job in jobs:
        known = _known(job, root, results)
        if known is None:
            about["unfinished"].append(str(job))
            continue
        figures, ended = known
        of_model = found.setdefault((job.config.task, job.name), {})
        of_model[job.config.seed] = figures
        if _manner(figures) != _manner(next(iter(of_model.values()))):
            where = job.folder(root).parent
            raise RunError(f"the seeds in {where} are of runs that differ in more")
        for key, value in (
            ("machines", figures["machine"]),
            ("versions", figures["test"]["versions"]),
            ("days", ended),
        ):
            if value not in about[key]:
                about[key].append(value)
    if not found:
        raise RunError(f"{root} holds no finished run of what was asked for")
    about["days"].sort()
    rows = [_row(task, model, by_seed) for (task, model), by_seed in found.items()]
    return [
        row for task in dict.fromkeys(row.task for row in rows) for row in _ranked(rows, task)
    ], about


def _known(job: Job, root: Path, results: Results | None) -> tuple[dict[str, Any], str] | None:
    """The figures of a job's finished run, and the day on which it ended; `None` without one."""
    if results and (line := results.of(job)):
        return line["figures"], line["ended"]
    folder = Workdir(job.folder(root))
    # A recipe that has changed since makes another run of it.
    if (figures := finished(folder)) is None or folder.config().differences(job.config):
        return None
    return figures, date.fromtimestamp((folder.path / "metrics.json").stat().st_mtime).isoformat()


def _manner(figures: dict[str, Any]) -> tuple[dict[str, Any], int, list[tuple[int, ...]]]:
    """What the runs of a row must have in common."""
    # What was no setting yet then is what it is by default.
    config = {
        field.name: figures["config"].get(field.name, field.default)
        for field in fields(Config)
        if field.name != "seed" and not field.metadata.get("free")
    }
    test, keys = figures["test"], ("shortest", "longest", "examples")
    # Data made anew may be as many examples, of other lengths.
    fifths = [tuple(part[key] for key in keys) for part in test.get("by_length", ())]
    return config, test["examples"], fifths


def _row(task: str, model: str, by_seed: dict[int, dict[str, Any]]) -> Row:
    runs = [by_seed[seed] for seed in sorted(by_seed)]
    tests = [figures["test"] for figures in runs]
    accuracies = tuple(test["accuracy"] for test in tests)
    accuracy = float(np.mean(accuracies))
    bins = zip(*(test.get("by_length", ()) for test in tests), strict=True)
    return Row(
        task=task,
        model=model,
        seeds=tuple(sorted(by_seed)),
        accuracies=accuracies,
        accuracy=accuracy,
        interval=interval(accuracy, tests[0]["examples"]),
        standing="",
        validation_accuracy=_mean(figures["validation"]["accuracy"] for figures in runs),
        expected_calibration_error=_mean(test["expected_calibration_error"] for test in tests),
        parameters=tests[0]["parameters"],
        train_seconds=_mean(figures["train_seconds"] for figures in runs),
        epoch_seconds=_mean(figures["train_seconds"] / figures["epochs"] for figures in runs),
        examples=tests[0]["examples"],
        by_length=tuple(
            of_seeds[0] | {"accuracy": _mean(one["accuracy"] for one in of_seeds)}
            for of_seeds in bins
        ),
    )


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _ranked(rows: Sequence[Row], task: str) -> list[Row]:
    """The rows of a task, the highest accuracy first, with their standings."""
    rows = sorted((row for row in rows if row.task == task), key=lambda row: -row.accuracy)
    if len(rows) == 1:
        return rows
    reaching = [row.interval[1] >= rows[0].interval[0] for row in rows]
    word = "tied with the best" if sum(reaching) > 1 else "best"
    return [
        replace(row, standing=word if best else "")
        for row, best in zip(rows, reaching, strict=True)
    ]


def markdown(
    rows: Sequence[Row], about: dict[str, Any], pictures: Sequence[tuple[str, str]]
) -> str:
    """The table with what it was measured on above, and pictures below.

    Args:
        rows: as `collect` returns them.
        about: as well; its `command` is what makes the table.
        pictures: file and what is to be seen, for each.
    """
    lines = ["# Leaderboard", "", f"    {about['command']}", "", *head(about), "", _NOTES, ""]
    lines.append(f"| {' | '.join(_COLUMNS)} |")
    lines.append(f"|{'|'.join(_COLUMNS.values())}|")
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    if unfinished := about["unfinished"]:
        more = ["…"] * (len(unfinished) > _MOST_NAMED)
        named = ", ".join([*unfinished[:_MOST_NAMED], *more])
        lines += ["", f"Not finished: {len(unfinished)} runs ({named})."]
    for file, what in pictures:
        lines += ["", f"![{what}]({file})"]
    return "\n".join(lines) + "\n"


def head(about: dict[str, Any]) -> Iterator[str]:
    """Lines of Markdown: on what was measured, when, and by which versions.

    Args:
        about: as `collect` returns it.
    """
    days = about["days"]
    for machine in about["machines"]:
        gpus = "".join(f", {name}" for name in machine["gpus"])
        cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
        yield f"Machine: {machine['cpu']}, {cores}{gpus}.  "
    yield f"Runs ended on {' to '.join(dict.fromkeys((days[0], days[-1])))}.  "
    for versions in about["versions"]:
        yield f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items())}.  "


def _cells(row: Row) -> tuple[str, ...]:
    least, most, low, high = (
        f"{100 * value:.2f}" for value in (min(row.accuracies), max(row.accuracies), *row.interval)
    )
    return (
        f"{row.task}",
        f"{row.model}",
        f"{100 * row.accuracy:.2f}",
        f"{least} – {most}",
        f"{low} – {high}",
        row.standing,
        f"{100 * row.validation_accuracy:.2f}",
        f"{100 * row.expected_calibration_error:.1f}",
        f"{row.parameters:,}",
        f"{row.train_seconds:,.1f}",
        f"{row.epoch_seconds:,.1f}",
        ", ".join(map(str, row.seeds)),
    )


def write(
    jobs: Sequence[Job], root: Path, out: Path, command: str, results: Results | None = None
) -> list[Path]:
    """Writes `OUT.md`, `OUT.json` and, where matplotlib is installed, `OUT_….png`.

    Needs the runs' folders or their figures alone, neither data nor training.

    Args:
        jobs: whose runs are compared; those not finished are named.
        root: the leaderboard's folder.
        out: the files' name without its ending.
        command: what to type for the same again.
        results: the figures of runs whose folders may be gone.

    Returns:
        The files written.

    Raises:
        RunError: as `collect` does, or if they cannot be written.
    """
    from zoo.leaderboard_plots import draw  # it knows Row

    rows, about = collect(jobs, root, results)
    about, out = {"command": command} | about, ready(out)
    drawn = draw(rows, out)
    content = about | {"rows": [asdict(row) for row in rows]}
    text = markdown(rows, about, [(file.name, what) for file, what in drawn.items()])
    return [*write_texts(out, text, content), *drawn]


def ready(out: Path) -> Path:
    """A name of files to write, its folder made.

    Raises:
        RunError: if it cannot be.
    """
    out = expanded(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write to {out.parent}: {error.strerror or error}") from error
    return out


def write_texts(out: Path, page: str, content: dict[str, Any]) -> list[Path]:
    """Writes `OUT.md` and `OUT.json`.

    Raises:
        RunError: if they cannot be written; they are then what they were.
    """
    files = {".md": page, ".json": json.dumps(content, indent=2, allow_nan=False) + "\n"}
    for ending, text in files.items():
        with replacing(Path(f"{out}{ending}")) as beside:
            beside.write_text(text, "utf-8")
    return [Path(f"{out}{ending}") for ending in files]
