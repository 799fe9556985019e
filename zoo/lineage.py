"""What a run has read before it began, so that no test text of its task is among it."""

import contextlib

from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.paths import expanded
from zoo.pretraining_config import PretrainingConfig
from zoo.tasks import get_task
from zoo.workdir import Workdir


def refuse_test_texts(config: Config) -> None:
    """Refuses to begin with a run that has read what the task is tested on.

    Runs that began with others are followed as far as their folders are still there.

    Raises:
        UsageError: naming the task that holds such texts.
    """
    for flag in ("warm_start", "pretrained"):
        for read in sorted(_tasks_read(getattr(config, flag))):
            if config.task in get_task(read).holds_test_of:
                raise UsageError(
                    f"--{flag}={getattr(config, flag)} cannot work: that run has read {read}, "
                    f"which holds test texts of {config.task}"
                )


def _tasks_read(path: str) -> set[str]:
    folder = expanded(path)
    # A BERT is no run of ours, and whatever is missing is told by what loads it.
    if not path or not (folder / "config.json").is_file():
        return set()
    with contextlib.suppress(RunError):
        if Workdir(folder).is_of_pretraining:
            return set(Workdir(folder, PretrainingConfig).config().task_names)
        before = Workdir(folder).config()
        return {before.task} | _tasks_read(before.warm_start) | _tasks_read(before.pretrained)
    return set()
