"""Trains every model on every task over several seeds, and writes a table of what came of it.

    python trainers/leaderboard.py --tasks=movie_reviews/imdb --seeds=0,1,2 --resume

Interrupted, even killed, the same command goes on where it was; a job that fails stops no other.
The tasks' data must be prepared. What recipes/ has for a task and a model is how it is trained.
"""

import sys
from pathlib import Path

import command
import planning
from absl import flags

from zoo.errors import RunError
from zoo.tasks import get_task

_HERE = Path(__file__).resolve().parent

_TASKS = flags.DEFINE_list("tasks", [], "tasks; left out: all with a test split and no network")
_MODELS = flags.DEFINE_list("models", [], "models; left out: all that fit a task")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds, one run each")
_WORKDIR = flags.DEFINE_string("workdir", "runs/leaderboard", "folder of the runs and their logs")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "prepared data; left out: TFDS's own folder")
_RECIPES = flags.DEFINE_string("recipes", str(_HERE / "recipes"), "folder of the flag files")
_RESUME = flags.DEFINE_boolean("resume", False, "go on with the runs that are in the folder")
_TABLE_ONLY = flags.DEFINE_boolean("table_only", False, "train nothing: the table of what is there")
_RESULTS = flags.DEFINE_string("results", None, "file that keeps the figures of runs that ended")
_OUT = flags.DEFINE_string("out", None, "write OUT.md, .json, _….png; else WORKDIR/leaderboard")


def main(argv: list[str]) -> None:
    """Flags in, runs and a table out."""
    del argv
    seeds, root = planning.seeds(_SEEDS.value), Path(_WORKDIR.value).expanduser()
    for name in _TASKS.value:  # now: the import takes seconds
        get_task(name)
    with command.quiet():
        from zoo import leaderboard
        from zoo.leaderboard_results import Results
        from zoo.leaderboard_table import write

    recipes = Path(_RECIPES.value).expanduser()
    jobs = leaderboard.plan(_TASKS.value, _MODELS.value, seeds, recipes, planning.config)
    results = Results(Path(_RESULTS.value).expanduser()) if _RESULTS.value else None
    train, failed = [sys.executable, str(_HERE / "train.py")], list[str]()
    if not _TABLE_ONLY.value:
        train += [f"--data_dir={_DATA_DIR.value}"] * (_DATA_DIR.value is not None)
        failed = leaderboard.run(jobs, root, train, _RESUME.value, results)
    if len(failed) < len(jobs):
        named = (_TASKS, _MODELS, _SEEDS, _WORKDIR, _RECIPES, _RESULTS)
        words = planning.typed("leaderboard.py", named)
        out = Path(_OUT.value or root / "leaderboard")
        print(*(f"written: {file}" for file in write(jobs, root, out, words, results)), sep="\n")
    if failed:
        raise RunError(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}")


if __name__ == "__main__":
    command.run(main)
