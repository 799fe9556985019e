"""Which files there are to score, and what tells that they have been scored already."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from zoo import __version__
from zoo.errors import RunError, UsageError, reason
from zoo.paths import expanded_text
from zoo.scoring.outputs import Outputs
from zoo.scoring.sources import check_compression, format_of


@dataclass(frozen=True)
class Asked:
    """What is to be scored, and how: all that decides what the outputs hold.

    Args:
        input: a file, or a pattern with `*`, `?` and `[...]`; `**` goes into folders.
        text_column: the column with the text.
        key_column: the column that names a row; `None`: its file and position do.
        format: of the inputs, a key of `FORMATS`; `None`: what their names tell.
        output_format: of the rows, a key of `WRITERS`.
        with_text: whether the text is written too.
        sort: `position`, or `key`.
        max_bytes: the most bytes of a row.
        batch_size: most rows that are scored together.
    """

    input: str
    text_column: str = "text"
    key_column: str | None = None
    format: str | None = None
    output_format: str = "jsonl"
    with_text: bool = False
    sort: str = "position"
    max_bytes: int = 1_000_000
    batch_size: int = 256


@dataclass(frozen=True)
class Input:
    """A file to score.

    Args:
        metadata: Beam's: path, size, time of change.
        format: a key of `FORMATS`.
        outputs: where its outputs are.
        fingerprint: of the file, the model and what was asked.
    """

    metadata: FileMetadata
    format: str
    outputs: Outputs
    fingerprint: str


def find_inputs(asked: Asked, output: str, model: str) -> list[Input]:
    """The files that a pattern names, in the order of their names.

    Args:
        asked: what is to be scored.
        output: folder of all outputs.
        model: the fingerprint of the model.

    Raises:
        UsageError: if a file's format or compression is unknown, or outputs would be inputs.
        RunError: if there is no file, or one whose path is not UTF-8.
    """
    pattern = expanded_text(asked.input)
    if os.path.isdir(pattern):
        raise UsageError(f"--input={pattern} is a folder: give a pattern, {pattern.rstrip('/')}/*")
    fixed = re.split(r"[*?\[]", pattern)[0]
    try:
        if os.path.isfile(pattern):  # whatever characters its name has
            fixed, files = pattern, [FileSystems.get_filesystem(pattern).metadata(pattern)]
        else:
            files = _matched(pattern, fixed)
    except (BeamIOError, ValueError) as error:
        raise RunError(f"--input={pattern} cannot be looked for: {reason(error)}") from error
    if not files:
        raise RunError(f"--input={pattern} names no file")
    above = FileSystems.join(os.path.dirname(fixed), "") if os.path.dirname(fixed) else ""
    written = FileSystems.join(_place(output), "")
    inputs = []
    for metadata in sorted(files, key=lambda metadata: metadata.path):
        path = metadata.path
        if _place(path).startswith(written):
            raise UsageError(f"--input={pattern} finds what is written to --output={output}")
        if not _is_text(path):
            shown = repr(os.fsencode(path))
            raise RunError(f"--input={pattern} finds {shown}, which is not UTF-8: rename it")
        kind = asked.format or format_of(path)
        check_compression(path)
        name = path.removeprefix(above)
        told = [__version__, model, asdict(asked), name, kind]
        told += [metadata.size_in_bytes, metadata.last_updated_in_seconds]
        fingerprint = hashlib.sha256(json.dumps(told).encode()).hexdigest()
        inputs.append(Input(metadata, kind, Outputs(output, name, path), fingerprint))
    return inputs


def _matched(pattern: str, fixed: str) -> list[FileMetadata]:
    """The files that match a pattern, which begins with `fixed`.

    Raises:
        BeamIOError: if they cannot be listed.
    """
    # Beam lists the folder in front of the first wildcard, and "" is none.
    here = "" if "/" in fixed or FileSystems.get_scheme(pattern) else "./"
    [found] = FileSystems.match([here + pattern])
    for metadata in found.metadata_list:
        metadata.path = metadata.path.removeprefix(here)
    return list(found.metadata_list)


def _place(path: str) -> str:
    """The one name of a place on this machine, however it is written; an address is what it is."""
    return path if FileSystems.get_scheme(path) else os.path.realpath(path)


def _is_text(path: str) -> bool:
    """Whether a path can be written down; others can neither be told nor sent to a worker."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def fingerprint_of(folder: Path) -> str:
    """A fingerprint of all that the files below a folder hold."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\n{digest}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def claimed(folder: str) -> Iterator[None]:
    """Keeps a folder of outputs for one process, where it is a folder of this machine.

    Raises:
        RunError: if it cannot be made, or another process has it.
    """
    if FileSystems.get_scheme(folder) is not None:
        yield
        return
    try:
        os.makedirs(folder, exist_ok=True)
        held = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        # The system lets go of it when the process ends, however it ends.
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise RunError(f"another process is scoring into {folder}") from error
    finally:
        os.close(held)
