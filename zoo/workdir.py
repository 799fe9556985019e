"""The folder of a run: what lies in it, and whose it is."""

import contextlib
import csv
import dataclasses
import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import keras

from zoo.config import Config
from zoo.errors import RunError, UsageError, reason
from zoo.machine import versions
from zoo.paths import expanded
from zoo.settings import Settings
from zoo.whole_files import replacing

# What TensorFlow's reader of checkpoints does not take for itself.
_OF_PATTERNS = "[]*?\\"
# Names under which a run writes, and replaces what was there.
_OWN_FILES = (
    "config.json",
    "vocabulary.txt",
    "model.keras",
    "metrics.json",
    "log.csv",
    "checkpoints",
    "tensorboard/events.out.tfevents.*",
    "learning_curve.png",
    "confusion_matrix.png",
    "reliability.png",
)


class Workdir:
    """The files of one run, each written whole or not at all.

    Args:
        path: the folder.
        kind: of its configuration.
    """

    def __init__(self, path: str | os.PathLike[str], kind: type[Settings] = Config) -> None:
        if not os.fspath(path):
            raise UsageError("--workdir= cannot work: it must name a folder")
        self._kind = kind
        self._fields = {field.name for field in dataclasses.fields(kind)}
        self.path = expanded(path)
        self.model = self.path / "model.keras"
        self.checkpoints = self.path / "checkpoints"
        self._lock = self.path / ".lock"
        self._config = self.path / "config.json"
        self._metrics = self.path / "metrics.json"
        self._vocabulary = self.path / "vocabulary.txt"

    @contextlib.contextmanager
    def claimed(self, config: Settings) -> Iterator[None]:
        """Keeps the folder for one run of `config`, before any time is spent on it.

        Raises:
            UsageError: if the folder is of a run of another configuration, or holds files of the
                names that a run writes but is no run's; or if TensorFlow cannot be told its path.
            RunError: if it cannot be written to, or if another process is at work in it.
        """
        self._check_path()
        made = not self.path.exists()
        with self._locked():
            try:
                # A run that never came to a state worth keeping stands in no one's way.
                if self._metrics.exists() or any(self.checkpoints.glob("ckpt-*")):
                    self._compare(config)
                else:
                    self._check_ownership()
                yield
            finally:
                if made and not self._config.exists():  # nothing has begun here
                    with contextlib.suppress(OSError):
                        self._lock.unlink()
                        self.path.rmdir()

    def _check_path(self) -> None:
        try:
            os.fspath(self.path).encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                f"--workdir={os.fsencode(self.path)!r} cannot work: TensorFlow takes paths in "
                "UTF-8 alone: give another folder"
            ) from error
        # It would write states there, and find none of them when the run goes on.
        if set(os.fspath(self.path)) & set(_OF_PATTERNS):
            raise UsageError(
                f"--workdir={self.path} cannot work: TensorFlow takes it for a pattern: give a "
                f"folder without {' '.join(_OF_PATTERNS)} in its path"
            )

    def _check_ownership(self) -> None:
        try:
            if {"config", "fingerprint", "versions"} <= set(self._read_json(self._config)):
                return
        except (RunError, TypeError):
            pass
        taken = [name for name in _OWN_FILES if any(self.path.glob(name))]
        if taken:
            raise UsageError(
                f"{self.path} is no run's folder, and its {', '.join(taken)} would be lost: give "
                "another --workdir, a new or empty folder"
            )

    def _compare(self, config: Settings) -> None:
        differences = self.config().differences(config)
        if differences:
            raise UsageError(
                f"{self.path} is of a run of another configuration ({'; '.join(differences)}): "
                "ask for the same, or give another --workdir"
            )

    def _locked(self) -> IO[str]:
        while True:
            with contextlib.ExitStack() as undo:
                try:
                    self.path.mkdir(parents=True, exist_ok=True)
                    lock = undo.enter_context(open(self._lock, "w"))
                    # The system lets go of it when the process ends, however it ends.
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    raise RunError(f"another process is training in {self.path}") from error
                except OSError as error:
                    told = error.strerror or error
                    raise RunError(f"cannot write to {self.path}: {told}") from error
                # A run that failed as it began may have just removed file and folder.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock.fileno()), self._lock.stat()):
                        undo.pop_all()
                        return lock

    def begin(self, config: Any, fingerprint: str, vocabulary: Sequence[str]) -> None:
        """Writes down what this run is of."""
        with replacing(self._vocabulary) as beside:
            beside.write_text("".join(f"{word}\n" for word in vocabulary), "utf-8")
        content = {
            "config": config.to_json(),
            "fingerprint": fingerprint,
            "vocabulary_sha256": _digest(self._vocabulary),
            "versions": versions(),
        }
        self._write_json(self._config, content)

    def resume(self, config: Any, fingerprint: str) -> None:
        """Makes sure that a run can go on.

        Raises:
            RunError: if it began with other data, or its vocabulary is not what it was.
        """
        if self._read_json(self._config).get("fingerprint") != fingerprint:
            raise RunError(
                f"the data of {config.task} have changed since the run in {self.path} began: "
                "give another --workdir"
            )
        self.vocabulary()

    def load_model(self) -> keras.Model:
        """The best epoch's averaged weights, float32.

        Raises:
            RunError: if the file is missing or damaged.
        """
        try:
            return keras.models.load_model(self.model, compile=False)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{self.model} cannot be read, being damaged or cut short: {reason(error)}; "
                "train in another --workdir"
            ) from error

    def config(self) -> Any:
        """The configuration of the run, of the kind that it was asked for."""
        try:
            values = self._read_json(self._config)["config"]
            ours, theirs = (_program(names) for names in (self._fields, values))
            if ours != theirs:
                raise UsageError(f"{self.path} is of a run of trainers/{theirs}, not of {ours}")
        except (KeyError, TypeError) as error:
            raise RunError(f"{self._config} is not of this version: {error}") from error
        try:
            return self._kind.from_json(values)
        except (KeyError, TypeError, UsageError) as error:
            raise RunError(f"{self._config} is not of this version: {error}") from error

    @property
    def is_of_pretraining(self) -> bool:
        """Whether the run is one of `zoo.pretraining`; false where there is none."""
        try:
            return _program(self._read_json(self._config)["config"]) == "pretrain.py"
        except (RunError, KeyError, TypeError):
            return False

    def vocabulary(self) -> tuple[str, ...]:
        """The tokens of the run by id, the first one having the id 2, of word pieces the id 0.

        Raises:
            RunError: if the file is not the one that the run wrote.
        """
        try:
            digest = _digest(self._vocabulary)
        except OSError as error:
            raise RunError(f"{self._vocabulary} cannot be read: {error.strerror}") from error
        if self._read_json(self._config).get("vocabulary_sha256") != digest:
            raise RunError(f"{self._vocabulary} has changed since the run began")
        return tuple(self._vocabulary.read_text("utf-8").split("\n")[:-1])

    def metrics(self) -> dict[str, Any] | None:
        """The figures of a finished run; `None` if it has not finished."""
        return self._read_json(self._metrics) if self._metrics.exists() else None

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Writes the figures, which says that the run has finished."""
        self._write_json(self._metrics, metrics)

    def write_log(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Writes `log.csv` anew, one row an epoch, so that no row is ever doubled."""
        with (
            replacing(self.path / "log.csv") as beside,
            beside.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, history[0] if history else [])
            writer.writeheader()
            writer.writerows(history)

    def read_log(self) -> list[dict[str, float]]:
        """The rows of `log.csv`.

        Raises:
            RunError: if it is missing or damaged.
        """
        try:
            with (self.path / "log.csv").open(newline="", encoding="utf-8") as file:
                return [
                    {name: float(value) for name, value in row.items()}
                    for row in csv.DictReader(file)
                ]
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{self.path / 'log.csv'} cannot be read: {error}") from error

    def _read_json(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {error}") from error

    def _write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        with replacing(path) as beside:
            beside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")


def _program(fields: Container[str]) -> str:
    """What makes runs of a configuration that has these fields."""
    return ("train.py", "pretrain.py")["objective" in fields]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
