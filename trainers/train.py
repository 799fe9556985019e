"""Trains a classifier, scores it on data it never saw, and exports it if asked to.

    python trainers/train.py --task=movie_reviews/imdb --model=bilstm --workdir=runs/first

Interrupted, even killed, the same command goes on where it was, to the very same result.
"""

import command
from absl import flags
from rejoin import rejoining

from zoo.config import Config
from zoo.errors import UsageError

command.define(Config)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run: state, figures, best model", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "folder for a SavedModel of the best epoch; left out: none is made"
)
_EXPORT_NAME = flags.DEFINE_string(
    "export_name", None, "the SavedModel's name; left out: made of task and model"
)
_SCORE_TEST = flags.DEFINE_boolean(
    "score_test", True, "look at the test split at the end; not while choices are made"
)


def main(argv: list[str]) -> None:
    """Flags in, files out."""
    del argv
    config = command.read(Config)
    if _EXPORT_NAME.value is not None and _EXPORT_DIR.value is None:
        raise UsageError(f"--export_name={_EXPORT_NAME.value} needs --export_dir: where to?")
    name = _EXPORT_NAME.value or f"{config.task}-{config.model}".replace("/", "-")
    with command.quiet():
        from zoo.training import load_trained, train_and_evaluate
    if _EXPORT_DIR.value is not None:
        from zoo.export import check_target, export

        check_target(name, _EXPORT_DIR.value)  # now, not after all the training

    with rejoining():
        found = train_and_evaluate(
            config, _WORKDIR.value, _DATA_DIR.value, score_test=_SCORE_TEST.value
        )
    if found and _EXPORT_DIR.value is not None:  # the chief alone finds anything
        print(f"exported to {export(load_trained(_WORKDIR.value), name, _EXPORT_DIR.value)}")


if __name__ == "__main__":
    command.run(main)
