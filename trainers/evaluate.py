"""Scores a finished run anew on one split of its task, and prints the figures as JSON.

python trainers/evaluate.py --workdir=runs/first --split=test
"""

import json

import command
from absl import flags

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run", required=True)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)
_SPLIT = flags.DEFINE_string("split", "test", "split to score: train, validation or test")


def main(argv: list[str]) -> None:
    """Flags in, figures out."""
    del argv
    with command.quiet():
        from zoo.training import evaluate, load_trained

    figures = evaluate(load_trained(_WORKDIR.value), _SPLIT.value, _DATA_DIR.value)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    command.run(main)
