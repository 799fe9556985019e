"""Paths as they are typed: `~` is a home folder, also where no shell has seen to it."""

import os
from pathlib import Path

from zoo.errors import UsageError


def expanded_text(path: str | os.PathLike[str]) -> str:
    """A path, a pattern or an address with the home folder it begins with, and else as it is.

    Raises:
        UsageError: if there is no such home folder.

    Example:
        >>> expanded_text("gs://films/~a/*.txt"), expanded_text("./~a/")
        ('gs://films/~a/*.txt', './~a/')
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        home = found.partition("/")[0]
        raise UsageError(
            f"{found} cannot work: there is no home folder {home}; what really has that name, "
            "give with all of its path"
        )
    return found


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder it begins with.

    Raises:
        UsageError: if there is no such home folder.
    """
    return Path(expanded_text(path))
