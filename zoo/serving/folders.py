"""The folders of a model's versions, as another process writes them."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

# What the protocol's int64 can say.
_MOST = 2**63 - 1


@dataclass(frozen=True)
class Stamp:
    """What a folder held at one time.

    Args:
        files: name, size and time of change of all below it.
        newest: the latest of these times, in seconds.
    """

    files: tuple[tuple[str, int, int], ...]
    newest: float

    def age(self) -> float:
        """The seconds for which nothing has changed."""
        return time.time() - self.newest


def versions_in(base_path: Path) -> dict[int, Path]:
    """The versions that have a folder: as in TensorFlow Serving, those named by a number.

    Args:
        base_path: the folder above them.

    Raises:
        OSError: if it cannot be read.
    """
    found = {}
    with os.scandir(base_path) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.isascii() and entry.name.isdigit() and entry.is_dir():
                number = int(entry.name)
                if number <= _MOST:
                    found[number] = Path(entry.path)
    return found


def stamp_of(folder: Path) -> Stamp:
    """What a version's folder holds now."""
    files = []
    for place, _, names in os.walk(folder):
        for name in (".", *names):
            path = os.path.join(place, name)
            try:
                found = os.stat(path)
            except OSError:  # it went between the two looks
                continue
            # Of a copy that keeps the times, the time of change is still that of the copying.
            files.append((path, found.st_size, found.st_ctime_ns))
    return Stamp(tuple(sorted(files)), max((time for _, _, time in files), default=0) / 1e9)
