"""Trains a classifier with several workers that Ray Train starts, and starts again if one is lost.

    python trainers/train_on_ray.py --workers=4 --model=transformer --workdir=/shared/first

Needs Ray, which sequence-zoo does not bring: pip install 'ray[train]'. All nodes need sequence-zoo,
and the prepared data in the same folder; --workdir has to be one that every node sees.
"""

from typing import Any

import command
from absl import flags

from zoo.config import Config
from zoo.errors import UsageError

command.define(Config, skip=("strategy",))
_WORKERS = flags.DEFINE_integer("workers", 2, "workers that share each step", lower_bound=1)
_GPUS = flags.DEFINE_boolean("gpus", False, "give each worker a GPU")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run: state, figures, best model", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)


def work(settings: dict[str, Any]) -> None:
    """One worker, for which Ray has set TF_CONFIG: flags in, files out."""
    # Here: it runs in a process of its own, on another machine.
    from zoo.config import Config
    from zoo.training import train_and_evaluate

    config = Config.from_json(settings["config"])
    train_and_evaluate(config, settings["workdir"], settings["data_dir"])


def main(argv: list[str]) -> None:
    """Flags in, workers out."""
    del argv
    config = command.read(Config).to_json() | {"strategy": "multi_worker"}
    try:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer
    except ImportError as error:
        raise UsageError(f"Ray Train cannot be imported ({error}): pip install 'ray[train]'") from (
            error
        )
    TensorflowTrainer(
        work,
        train_loop_config={
            "config": config,
            "workdir": _WORKDIR.value,
            "data_dir": _DATA_DIR.value,
        },
        scaling_config=ScalingConfig(num_workers=_WORKERS.value, use_gpu=_GPUS.value),
        # All workers begin anew when one is lost, and go on from the last checkpoint.
        run_config=RunConfig(failure_config=FailureConfig(max_failures=-1)),
    ).fit()


if __name__ == "__main__":
    command.run(main)
