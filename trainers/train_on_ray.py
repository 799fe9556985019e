"""Trains a classifier with several workers that Ray Train starts, and starts again if one is lost.

    python trainers/train_on_ray.py --workers=4 --model=transformer --workdir=/shared/first

Needs Ray, which sequence-zoo does not bring: pip install 'ray[train]>=2.60'. All nodes need
sequence-zoo, and the prepared data in the same folder; --workdir has to be one that every node
sees. A worker that is lost is waited for; missing data, or a loss that diverges, ends it.
"""

import contextlib
import os
from typing import Any

import command
from absl import flags

from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.paths import expanded

command.define(Config, skip=("strategy",))
_WORKERS = flags.DEFINE_integer("workers", 2, "workers that share each step", lower_bound=1)
_GPUS = flags.DEFINE_boolean("gpus", False, "give each worker a GPU")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "prepared data; left out: TFDS's own folder")


def work(settings: dict[str, Any]) -> None:
    """One worker, for which Ray has set TF_CONFIG: flags in, files out."""
    # Here: it runs in a process of its own, on another machine.
    from zoo.distribution import PeerLost
    from zoo.training import train_and_evaluate

    # Ray works in a folder of its own; --pretrained and --warm_start may be relative to ours.
    with contextlib.suppress(OSError):
        os.chdir(settings["started_in"])
    config = Config.from_json(settings["config"])
    try:
        train_and_evaluate(config, settings["workdir"], settings["data_dir"])
    except PeerLost as error:  # that alone, of ours, another attempt may mend
        raise ConnectionError(str(error)) from error


def main(argv: list[str]) -> None:
    """Flags in, workers out."""
    del argv
    settings = {
        "config": command.read(Config).to_json() | {"strategy": "multi_worker"},
        "started_in": os.getcwd(),
        "workdir": _WORKDIR.value and os.path.abspath(expanded(_WORKDIR.value)),
        "data_dir": _DATA_DIR.value and os.path.abspath(expanded(_DATA_DIR.value)),
    }
    try:
        from ray import train
        from ray.train.tensorflow import TensorflowTrainer
    except ImportError as error:
        told = f"Ray Train cannot be imported ({error}): pip install 'ray[train]>=2.60'"
        raise UsageError(told) from error

    class Ending(train.UserCallback):
        """What our own exceptions tell, Ray does not try again."""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Any]) -> None:
            for error in worker_exceptions.values():
                cause = getattr(error, "_base_exc", error)
                if isinstance(cause, (RunError, UsageError)):
                    raise cause

    # All workers begin anew when one is lost, and go on from the last checkpoint.
    scaling = train.ScalingConfig(num_workers=_WORKERS.value, use_gpu=_GPUS.value)
    run = train.RunConfig(failure_config=train.FailureConfig(max_failures=-1), callbacks=[Ending()])
    given: Any = {"train_loop_config": settings, "scaling_config": scaling, "run_config": run}
    try:
        TensorflowTrainer(work, **given).fit()
    except train.ControllerError as error:
        raise error.controller_failure from error


if __name__ == "__main__":
    command.run(main)
