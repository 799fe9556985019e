"""Measures what pretraining buys: accuracy by labelled examples, from several beginnings.

    python trainers/label_efficiency.py --tasks=movie_reviews/rotten_tomatoes --seeds=0,1,2

Interrupted, even killed, the same command with --resume goes on where it was. The tasks' data must
be prepared; what recipes/ has for a task, and for MiniLM on it, is how it is trained.
"""

import sys
from pathlib import Path

import command
import planning
from absl import flags

from zoo.errors import RunError
from zoo.tasks import get_task

_HERE = Path(__file__).resolve().parent
_STARTS_KNOWN = ["scratch", "word_vectors", "language_model", "minilm"]

_TASKS = flags.DEFINE_list("tasks", ["movie_reviews/rotten_tomatoes"], "tasks of texts")
_STARTS = flags.DEFINE_list("starts", _STARTS_KNOWN, "what training begins with")
_LABELLED_EXAMPLES = flags.DEFINE_list(
    "labelled_examples",
    ["100:8", "500:4", "2000:2", "all:1"],
    "how many, and how often the recipe's epochs they are seen",
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds, one run each")
_WORKDIR = flags.DEFINE_string("workdir", "runs/label_efficiency", "folder of the runs")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "prepared data; left out: TFDS's own folder")
_RECIPES = flags.DEFINE_string("recipes", str(_HERE / "recipes"), "folder of the flag files")
_RESUME = flags.DEFINE_boolean("resume", False, "go on with the runs that are in the folder")
_TABLE_ONLY = flags.DEFINE_boolean("table_only", False, "train nothing: the table of what is there")
_RESULTS = flags.DEFINE_string("results", None, "file that keeps the figures of runs that ended")
_OUT = flags.DEFINE_string("out", None, "write OUT.md, .json, .png; else WORKDIR/label_efficiency")


def main(argv: list[str]) -> None:
    """Flags in, runs and a table out."""
    del argv
    seeds, root = planning.seeds(_SEEDS.value), Path(_WORKDIR.value).expanduser()
    for name in _TASKS.value:  # now: the import takes seconds
        get_task(name)
    with command.quiet():
        from zoo import label_efficiency, leaderboard
        from zoo.label_efficiency_table import write
        from zoo.leaderboard_results import Results

    labels = [label_efficiency.Labels.parse(text) for text in _LABELLED_EXAMPLES.value]
    recipes = Path(_RECIPES.value).expanduser()
    asked = (_TASKS.value, _STARTS.value, labels, seeds, recipes, root)
    cells, words, jobs = label_efficiency.plan(*asked, planning.config)
    results = Results(Path(_RESULTS.value).expanduser()) if _RESULTS.value else None
    data, failed = [f"--data_dir={_DATA_DIR.value}"] * (_DATA_DIR.value is not None), list[str]()
    if not _TABLE_ONLY.value:
        label_efficiency.pretrain(words, [sys.executable, str(_HERE / "pretrain.py"), *data])
        train = [sys.executable, str(_HERE / "train.py"), *data]
        failed = leaderboard.run(jobs, root, train, _RESUME.value, results)
    if len(failed) < len(jobs):
        named = (_TASKS, _STARTS, _LABELLED_EXAMPLES, _SEEDS, _WORKDIR, _RECIPES, _RESULTS)
        words_typed = planning.typed("label_efficiency.py", named)
        out = Path(_OUT.value or root / "label_efficiency")
        for file in write(cells, jobs, root, out, words_typed, results):
            print(f"written: {file}")
    if failed:
        raise RunError(f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}")


if __name__ == "__main__":
    command.run(main)
