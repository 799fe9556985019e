"""Trains every model on every task over several seeds, and writes a table of what came of it.

    python trainers/leaderboard.py --tasks=movie_reviews/imdb --seeds=0,1,2 --resume

Interrupted, even killed, the same command goes on where it was; a job that fails stops no other.
The tasks' data must be prepared. What recipes/ has for a task and a model is how it is trained.
"""

import command
import planning
from absl import flags

from zoo.tasks import get_task

_TASKS = flags.DEFINE_list("tasks", [], "tasks; left out: all with a test split and no network")
_MODELS = flags.DEFINE_list("models", [], "models; left out: all that fit a task")
planning.define("leaderboard")


def main(argv: list[str]) -> None:
    """Flags in, runs and a table out."""
    del argv
    seeds, root = planning.asked()
    for name in _TASKS.value:  # now: the import takes seconds
        get_task(name)
    with command.quiet():
        from zoo import leaderboard
        from zoo.leaderboard_results import Results
        from zoo.leaderboard_table import write

    asked = (_TASKS.value, _MODELS.value, seeds, planning.folder("recipes"))
    jobs = leaderboard.plan(*asked, planning.config)
    results = Results(planning.folder("results")) if flags.FLAGS.results else None
    failed = list[str]()
    if not flags.FLAGS.table_only:
        train = planning.program("train.py")
        failed = leaderboard.run(jobs, root, train, flags.FLAGS.resume, results)
    planning.finish(
        "leaderboard",
        ("tasks", "models"),
        len(jobs),
        failed,
        lambda out, typed: write(jobs, root, out, typed, results),
    )


if __name__ == "__main__":
    command.run(main)
