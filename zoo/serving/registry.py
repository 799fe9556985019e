"""Which versions are served: watches their folders, and swaps them so that no request is lost."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import grpc
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from zoo.errors import reason
from zoo.serving.failure import Failure, invalid, quoted
from zoo.serving.folders import Stamp, stamp_of, versions_in
from zoo.serving.model_config import ServedModel

# Files that have not changed for so long are taken for whole.
_SETTLE_SECONDS = 1.0
# Of versions that have left, so many are remembered in the status.
_MOST_ENDED = 16

START = ModelVersionStatus.START
LOADING = ModelVersionStatus.LOADING
AVAILABLE = ModelVersionStatus.AVAILABLE
UNLOADING = ModelVersionStatus.UNLOADING
END = ModelVersionStatus.END


class Closable(Protocol):
    """What `load` returns, as far as the registry knows it."""

    def close(self) -> None:
        """Gives back the memory."""


@dataclass
class Version:
    """A version and how far it has come.

    Attributes:
        number: the name of its folder.
        folder: the folder.
        state: as TensorFlow Serving counts them.
        why: why it was refused.
        loaded: what answers, while it is in memory.
        stamp: what its folder held when it was last looked at.
        callers: requests that it is answering.
    """

    number: int
    folder: Path
    state: int = START
    why: str = ""
    loaded: Closable | None = None
    stamp: Stamp | None = None
    callers: int = 0


@dataclass
class _Model:
    config: ServedModel
    versions: dict[int, Version] = field(default_factory=dict)


class Registry:
    """The models that are served, each with its versions.

    Args:
        models: what is to be served.
        load: loads a version's folder; raises if it cannot be served.
        poll_seconds: how often the folders are looked at. A version whose files have changed within
            that time, or within the last second, is taken for one that is still being copied, and
            looked at again soon.
        say: told one line of each version that comes, is refused or leaves.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        load: Callable[[Path], Closable],
        poll_seconds: float,
        say: Callable[[str], None],
    ) -> None:
        self._models = {model.name: _Model(model) for model in models}
        self._load = load
        self._poll_seconds = poll_seconds
        self._settle_seconds = min(poll_seconds, _SETTLE_SECONDS)
        self._unsettled = False
        self._say = say
        # Held for moments only, never while a model loads or runs.
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)
        self._listeners: list[Callable[[], None]] = []

    @property
    def names(self) -> list[str]:
        """The models' names."""
        return sorted(self._models)

    def start(self) -> None:
        """Begins to watch the folders."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the watching; versions stay as they are."""
        self._stopped.set()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Has a function called after each change of a version's state."""
        self._listeners.append(listener)

    def ready(self) -> bool:
        """Whether every model has a version that answers."""
        with self._lock:
            return all(_newest(model) is not None for model in self._models.values())

    def status(self, name: str, number: int | None = None, label: str = "") -> list[Version]:
        """A model's versions, highest first.

        Args:
            name: the model's.
            number: this version alone.
            label: the version of this label alone.

        Raises:
            Failure: if there is no such model or version.
        """
        with self._lock:
            model = self._model(name)
            number = self._number(model, number, label)
            found = sorted(model.versions.values(), key=lambda v: v.number, reverse=True)
        if number is not None:
            found = [version for version in found if version.number == number]
            if not found:
                raise _no_version(name, number)
        return found

    @contextlib.contextmanager
    def lease(self, name: str, number: int | None = None, label: str = "") -> Iterator[Version]:
        """A version that stays in memory until it is given back.

        Args:
            name: the model's.
            number: the version's; `None` for the highest.
            label: the version's label, instead of its number.

        Raises:
            Failure: if there is no such model or version, or none yet.
        """
        with self._lock:
            model = self._model(name)
            number = self._number(model, number, label)
            version = _newest(model) if number is None else model.versions.get(number)
            if version is None or version.state != AVAILABLE:
                if number is not None and (version is None or version.state == END):
                    raise _no_version(name, number)
                message = f"no version of model {quoted(name)} is ready to answer"
                raise Failure(grpc.StatusCode.UNAVAILABLE, message)
            version.callers += 1
        try:
            yield version
        finally:
            with self._lock:
                version.callers -= 1
                left = version.state == UNLOADING and not version.callers
            if left:
                # It takes a second, and the last caller may be an event loop, which serves all.
                threading.Thread(target=self._close_if_left, args=[version], daemon=True).start()

    def poll(self) -> None:
        """Looks at the folders once: loads what is new, and lets go what is no more wanted."""
        for model in self._models.values():
            with contextlib.suppress(OSError):  # a file system that is away for a while
                self._poll(model, versions_in(model.config.base_path))

    def _watch(self) -> None:
        while True:
            self._unsettled = False
            self.poll()
            pause = self._settle_seconds if self._unsettled else self._poll_seconds
            if self._stopped.wait(pause):
                return

    def _poll(self, model: _Model, folders: dict[int, Path]) -> None:
        candidates, served = model.config.wanted(list(folders))
        chosen: list[int] = []
        unsettled = False
        for number in candidates:
            if len(chosen) == served or self._stopped.is_set():
                break
            if self._serve(model, number, folders[number]):
                chosen.append(number)
            else:
                unsettled = True
        for version in list(model.versions.values()):
            if version.state != AVAILABLE or version.number in chosen:
                continue
            # While those that should take its place cannot, an older version stays.
            if not chosen and unsettled:
                continue
            self._retire(model, version)
        self._forget(model, folders)

    def _serve(self, model: _Model, number: int, folder: Path) -> bool:
        version = model.versions.get(number)
        if version is not None and version.state == AVAILABLE:
            return True
        stamp = stamp_of(folder)
        if version is None or version.state == UNLOADING:
            version = Version(number, folder)
        elif version.state == END and version.why and version.stamp == stamp:
            return False
        seen, version.stamp = version.stamp, stamp
        with self._lock:
            model.versions[number] = version
            if version.state == END:
                version.state, version.why = START, ""
        if seen != stamp and stamp.age() < self._settle_seconds:
            self._unsettled = True
            return False
        self._change(version, LOADING)
        try:
            loaded = self._load(folder)
        except Exception as error:  # whatever it is, the watching has to go on
            version.why = reason(error)
            self._change(version, END)
            self._say(f"{model.config.name} {number} is refused: {version.why}")
            return False
        if stamp_of(folder) != stamp:  # what was loaded may be half of what is there now
            loaded.close()
            self._unsettled = True
            self._change(version, START)
            return False
        version.loaded = loaded
        self._change(version, AVAILABLE)
        self._say(f"{model.config.name} {number} is served")
        return True

    def _retire(self, model: _Model, version: Version) -> None:
        self._change(version, UNLOADING)
        self._close_if_left(version)
        self._say(f"{model.config.name} {version.number} leaves")

    def _close_if_left(self, version: Version) -> None:
        with self._lock:
            if version.state != UNLOADING or version.callers or version.loaded is None:
                return
            loaded, version.loaded = version.loaded, None
        loaded.close()
        self._change(version, END)

    def _forget(self, model: _Model, folders: dict[int, Path]) -> None:
        with self._lock:
            gone = [v for n, v in sorted(model.versions.items()) if n not in folders]
            ended = [version for version in gone if version.state == END]
            never = [version for version in gone if version.state == START]
            for version in ended[: max(0, len(ended) - _MOST_ENDED)] + never:
                del model.versions[version.number]

    def _change(self, version: Version, state: int) -> None:
        with self._lock:
            version.state = state
        for listener in self._listeners:
            listener()

    def _model(self, name: str) -> _Model:
        if name not in self._models:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"no model is named {quoted(name)}")
        return self._models[name]

    def _number(self, model: _Model, number: int | None, label: str) -> int | None:
        if not label:
            return number
        if label not in model.config.labels:
            known = ", ".join(map(quoted, sorted(model.config.labels))) or "none"
            raise invalid(f"no version is labelled {quoted(label)}. Known: {known}")
        return model.config.labels[label]


def _newest(model: _Model) -> Version | None:
    available = [v for v in model.versions.values() if v.state == AVAILABLE]
    return max(available, key=lambda version: version.number, default=None)


def _no_version(name: str, number: int) -> Failure:
    message = f"model {quoted(name)} has no version {number}"
    return Failure(grpc.StatusCode.NOT_FOUND, message)
