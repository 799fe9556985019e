"""What a run leaves on disk while it lasts, made so that it may be killed at any instant."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.errors import RunError, reason

_UNFINISHED = "unfinished"
# Of the time of training, what writing states may take.
_MOST_SHARE = 0.03


@dataclass
class Progress:
    """How far a run has come, but for the values of its variables.

    Args:
        epoch: epochs completed.
        step_in_epoch: batches of the epoch under way that are done.
        step: batches done in all.
        seconds: spent on training.
        saving_seconds: spent on writing states.
        step_factor: what the step size is multiplied by.
        rollbacks: how often the epoch under way has been begun again.
        sums: loss, correct answers, examples and seconds of the epoch under way.
        history: one row of figures for each epoch completed.
        best: the row of the best epoch.
    """

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    saving_seconds: float = 0.0
    step_factor: float = 1.0
    rollbacks: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


class _ProgressState(tf.train.experimental.PythonState):
    """Lets `tf.train.Checkpoint` carry a `Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def serialize(self) -> str:
        return json.dumps(dataclasses.asdict(self._progress))

    def deserialize(self, string_value: bytes) -> None:
        for name, value in json.loads(string_value).items():
            setattr(self._progress, name, value)


class Checkpoints:
    """The last states of a run, each with checksums; a damaged one is set aside.

    Args:
        folder: where they lie.
        variables: what is saved, as lists of variables by name.
        progress: saved with them, and filled in by `restore`.
        keep: states kept.
        check: called before a state is written; raises what speaks against it.
    """

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, Sequence[tf.Variable]],
        progress: Progress,
        keep: int = 2,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._keep = keep
        self._check = check
        self._written_at = time.monotonic()
        self._took_seconds = 0.0
        self._place: tuple[int, int] | None = None
        self._checkpoint = tf.train.Checkpoint(
            progress=_ProgressState(progress),
            **{name: list(values) for name, values in variables.items()},
        )

    def save(self) -> None:
        """Writes the present state, beside the others until it is whole, and drops the oldest one.

        Raises:
            RunError: if it cannot be written; the states before it are untouched.
        """
        started = time.monotonic()
        self._check()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._checkpoint.write(str(self._folder / _UNFINISHED))
            numbers = self.numbers()
            numbers.append(numbers[-1] + 1 if numbers else 1)
            # The index comes last, and is what `restore` looks for.
            for path in sorted(self._folder.glob(f"{_UNFINISHED}.*")):
                path.replace(path.with_name(f"ckpt-{numbers[-1]}{path.suffix}"))
            for number in numbers[: -self._keep]:
                for path in sorted(self._folder.glob(f"ckpt-{number}.*"), reverse=True):
                    path.unlink()
        except (OSError, tf.errors.OpError) as error:
            self._sweep()
            whole = "the one before is whole" if self.numbers() else "there is none before it"
            raise RunError(
                f"cannot write a checkpoint to {self._folder}: {reason(error)}; {whole}: "
                "make room, and give the same command again"
            ) from error
        self._place = self._present_place()
        self._written_at = time.monotonic()
        self._took_seconds = self._written_at - started
        self._progress.saving_seconds += self._took_seconds

    def is_due(self, seconds: float) -> bool:
        """Whether it is time for another state.

        Args:
            seconds: between two of them, or more, so that they take 3 % of the time at most; 0 for
                always.
        """
        interval = seconds and max(seconds, self._took_seconds / _MOST_SHARE)
        # A clock that was set back, or far ahead, costs one state and no more.
        return not 0 <= time.monotonic() - self._written_at < interval

    def is_current(self) -> bool:
        """Whether the newest state is the present one."""
        return self._place == self._present_place()

    def _present_place(self) -> tuple[int, int]:
        return self._progress.epoch, self._progress.step

    def restore(self) -> list[str]:
        """Brings back the newest state that is whole, if there is any.

        Returns:
            The names of the states that were damaged and set aside, newest first.

        Raises:
            RunError: if a state is whole but not of these variables.
        """
        self._sweep()
        damaged = []
        for number in reversed(self.numbers()):
            prefix = self._folder / f"ckpt-{number}"
            if _is_whole(prefix):
                try:
                    self._checkpoint.read(str(prefix)).assert_existing_objects_matched()
                except (AssertionError, ValueError, KeyError) as error:
                    raise RunError(
                        f"{prefix} holds other variables than this model has: it was written by "
                        "another version of this program; give another --workdir"
                    ) from error
                self._place = self._present_place()
                break
            damaged.append(prefix.name)
            for path in self._folder.glob(f"{prefix.name}.*"):
                path.replace(path.with_name(f"damaged-{path.name}"))
        return damaged

    def numbers(self) -> list[int]:
        """The numbers of the states in the folder, oldest first."""
        return sorted(int(path.stem[len("ckpt-") :]) for path in self._folder.glob("ckpt-*.index"))

    def _sweep(self) -> None:
        """Removes what a write left behind that did not come to its end."""
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_whole(prefix: Path) -> bool:
    """Reads all of a checkpoint, which compares its checksums."""
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    except Exception:  # there is no saying what a damaged file leads the reader to
        return False
    return True
