"""Files that are written whole or not at all, whenever the writer is killed."""

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from zoo.errors import RunError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is written takes the place of `path` if all goes well.

    A link stays a link: the file that it leads to is replaced. A file keeps its mode. What is no
    file, such as a device or a named pipe, is not replaced but written to.

    Args:
        path: the file to make or to replace.

    Raises:
        RunError: if the file system refuses; a file is then what it was.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(pathlib.Path(folder, "a.txt")) as beside:
        ...         _ = beside.write_text("whole")
        ...     print([path.name for path in pathlib.Path(folder).iterdir()])
        ['a.txt']
    """
    beside = None
    try:
        mode = None
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode
        if mode is not None and not stat.S_ISREG(mode):
            yield path
            return
        real = path.resolve()
        _sweep_partial(real.parent)
        # A name that is no one else's. The suffix stays: Keras saves by it.
        beside = real.with_name(f"partial-{secrets.token_hex(16)}{path.suffix}")
        allowed = 0o666 if mode is None else stat.S_IMODE(mode) | stat.S_IWUSR
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, allowed), "wb") as held:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX)
            yield beside
            with open(beside, "rb+") as written:
                os.fsync(written.fileno())
            if mode is not None:
                beside.chmod(stat.S_IMODE(mode))
            os.replace(beside, real)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if beside is not None:
            with contextlib.suppress(OSError):
                beside.unlink()


def _sweep_partial(folder: Path) -> None:
    """Removes what processes that were killed have left half-written in a folder."""
    for path in folder.glob("partial-" + "[0-9a-f]" * 32 + "*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            # Refused while its writer lives.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
