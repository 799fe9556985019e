"""Searches for settings that do better on validation; the test split is not looked at.

    python trainers/tune.py --task=tweets --model=lstm --trials=20 --workdir=runs/tune

A flag that is given is fixed; what the model's family declares besides is searched. Interrupted,
even killed, the same command goes on where it was, to the very same end. WORKDIR/best.flags is a
recipe: python trainers/train.py --flagfile=WORKDIR/best.flags --workdir=...
"""

import sys
from dataclasses import fields
from pathlib import Path

import command
from absl import flags

from zoo.config import Config
from zoo.errors import UsageError
from zoo.paths import expanded

command.define(Config)
_TRIALS = flags.DEFINE_integer("trials", 20, "runs of training, those that are finished included")
_SEARCH = flags.DEFINE_list(
    "search", [], "settings to search: fields, or size.NAME; left out: all that are not given"
)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the search", required=True)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)


def main(argv: list[str]) -> None:
    """Flags in, trials and a recipe out."""
    del argv
    base = command.read(Config)
    if not _WORKDIR.value:
        raise UsageError("--workdir= cannot work: it must name a folder")
    with command.quiet():
        import tensorflow as tf

        from zoo import training, tuning

    tf.config.set_visible_devices([], "GPU")  # the trials need them, and TensorFlow takes all
    given = {field.name for field in fields(Config) if flags.FLAGS[field.name].present}
    space = tuning.space_of(base, _SEARCH.value, given)
    train = [sys.executable, str(Path(__file__).resolve().with_name("train.py"))]
    train += ["--noscore_test"]
    train += [f"--data_dir={_DATA_DIR.value}"] * (_DATA_DIR.value is not None)
    root = expanded(_WORKDIR.value)
    trials = tuning.tune(
        base, space, _TRIALS.value, root, train, lambda: training.check(base, _DATA_DIR.value)
    )
    best = tuning.best_of(trials)
    print(f"best: trial {trials.index(best) + 1}: {root / 'best.flags'}")
    print("\n".join(best.config.to_flags()))


if __name__ == "__main__":
    command.run(main)
