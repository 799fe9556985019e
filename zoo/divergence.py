"""What a run does once its numbers are not finite: it ends, or goes back with a smaller step.

What counts is what can be told for sure: a loss, a weight, or an answer on validation that is
infinite or not a number. How high a finite loss may be, nobody knows beforehand.

A run goes back to where the epoch began, not to its newest state: when that was written is the
clock's doing, and a result must not be. A run that was cut, and diverges, so ends as one that was
not cut.
"""

from typing import Any

from zoo.checkpoint import Checkpoints, Progress
from zoo.errors import Diverged, RunError
from zoo.workdir import Workdir

_FACTOR = 0.5
_MOST_ROLLBACKS = 5


class Divergence:
    """The way back of a run that has diverged.

    Args:
        config: what is trained, and how; its `on_nan` decides.
        folder: the run's.
        learner: the `zoo.twins.Twins` that are trained.
        progress: how far they are.
    """

    def __init__(self, config: Any, folder: Workdir, learner: Any, progress: Progress) -> None:
        self._config = config
        self._folder = folder
        self._learner = learner
        self._progress = progress
        self._states = Checkpoints(
            folder.checkpoints / "epoch", learner.variables, progress, keep=1
        )

    def mark(self) -> None:
        """Keeps the state with which an epoch begins, if there may be a way back to it.

        Raises:
            RunError: if it cannot be written.
        """
        progress = self._progress
        if self._config.on_nan == "rollback" and not (progress.step_in_epoch or progress.rollbacks):
            self._states.save()

    def go_back(self, error: Diverged) -> str:
        """Brings back the state with which the epoch began, with half the step size.

        Args:
            error: what has diverged, and when.

        Returns:
            What was done, in one line.

        Raises:
            RunError: if that is not wanted, has been done too often, or cannot be done.
        """
        config, progress = self._config, self._progress
        if config.on_nan == "stop":
            raise self._ended(f"{error}: stopped", ", or with --on_nan=rollback") from error
        rollbacks, epoch = progress.rollbacks + 1, progress.epoch
        if rollbacks > _MOST_ROLLBACKS:
            raise self._ended(f"{error}: stopped after {_MOST_ROLLBACKS} rollbacks") from error
        step_factor, saving_seconds = progress.step_factor * _FACTOR, progress.saving_seconds
        seconds = progress.seconds + progress.sums["seconds"]
        self._states.restore()
        if not self._states.numbers() or progress.epoch != epoch:
            raise self._ended(
                f"{error}: stopped, because the state of the beginning of epoch {epoch + 1} is "
                "missing or damaged"
            ) from error
        # All but these is as it was then.
        progress.rollbacks, progress.step_factor = rollbacks, step_factor
        progress.seconds, progress.saving_seconds = seconds, saving_seconds
        return (
            f"{error}: going back to step {progress.step} and on with half the step size, as with "
            f"--learning_rate={config.learning_rate * step_factor:g} (rollback {rollbacks} of "
            f"{_MOST_ROLLBACKS} in epoch {epoch + 1})"
        )

    def _ended(self, what: str, other: str = "") -> RunError:
        kept = {
            "the last good checkpoint": any(self._folder.checkpoints.glob("ckpt-*.index")),
            "the best epoch so far": self._progress.best is not None,
        }
        left = " and ".join(name for name, exists in kept.items() if exists)
        return RunError(
            f"{what}; "
            + (f"kept in {self._folder.path}: {left}; " if left else "")
            + "begin again in another --workdir with a smaller --learning_rate, with a smaller "
            f"--clip_norm above 0{other}"
        )
