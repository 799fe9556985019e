"""The figures of a leaderboard's finished runs, in one file that outlives the runs' folders.

A line is a run: `{"run": "TASK MODEL seed SEED", "ended": "2026-11-26", "figures": …}`, sorted by
its name, the figures as in the run's `metrics.json`, but for what `Job.beginning` says. Kept in the
repository, the file lets a leaderboard be made in several sittings, and its table be made anew
without training.
"""

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.prepared import locked
from zoo.whole_files import replacing

if TYPE_CHECKING:
    from zoo.leaderboard import Job


class Results:
    """The file.

    Args:
        path: where it is, or will be.

    Raises:
        RunError: if there is one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = _read(path)

    def of(self, job: "Job") -> dict[str, Any] | None:
        """What is known of a job: its `figures`, and the day on which it `ended`.

        Figures of other settings, of a recipe that has changed since, are none of it.
        """
        line = self._lines.get(str(job))
        if line is None:
            return None
        try:
            # What was no setting yet then is what it is by default.
            then = Config.from_json(line["figures"]["config"])
        except UsageError:
            return None
        return line if not then.differences(job.known_as) else None

    def add(self, job: "Job", figures: dict[str, Any]) -> None:
        """Writes down what a job came to, in the place of what it came to before.

        Raises:
            RunError: if the file cannot be written; it is then what it was.
        """
        figures = figures | {"config": figures["config"] | {"pretrained": job.known_as.pretrained}}
        line = {"ended": date.today().isoformat(), "figures": figures}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write {self._path}: {error.strerror}") from error
        with locked(self._path.with_name(f".{self._path.name}.lock")):
            # Another leaderboard may have written since.
            self._lines = _read(self._path) | {str(job): line}
            with replacing(self._path) as beside, beside.open("w", encoding="utf-8") as file:
                for run, known in sorted(self._lines.items()):
                    file.write(json.dumps({"run": run, **known}, allow_nan=False) + "\n")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    lines = {}
    try:
        for text in path.read_text("utf-8").splitlines() if path.exists() else ():
            line = json.loads(text)
            lines[line["run"]] = {"ended": line["ended"], "figures": line["figures"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    return lines
