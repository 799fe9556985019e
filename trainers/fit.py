"""Trains a model by Keras's own fit, on JAX or PyTorch, where TensorFlow need not be.

    KERAS_BACKEND=jax python trainers/fit.py --data=lra.npz --model=lstm --workdir=runs/lra-lstm

trainers/archive.py writes what --data reads. The folder is a run's like those of train.py, and is
exported by trainers/export.py. Interrupted, the same command begins anew.
"""

import dataclasses

import command
from absl import flags

from zoo.config import FIT_FIELDS, Config
from zoo.paths import expanded

command.define(Config, skip={field.name for field in dataclasses.fields(Config)} - set(FIT_FIELDS))
_DATA = flags.DEFINE_string("data", None, "a file that archive.py wrote", required=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run", required=True)
_SCORE_TEST = flags.DEFINE_boolean("score_test", True, "look at the test split, once, at the end")


def main(argv: list[str]) -> None:
    """Flags in, a run's folder out."""
    del argv
    config: Config = command.read(Config)
    with command.quiet():
        from zoo import archive, fitting

    data = archive.load(expanded(_DATA.value))
    config = dataclasses.replace(config, task=data.task, **data.settings)
    fitting.fit(data, config, _WORKDIR.value, score_test=_SCORE_TEST.value)


if __name__ == "__main__":
    command.run(main)
