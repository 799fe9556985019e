"""What is written for an input: its rows, what was set aside of it, and that both are whole."""

import contextlib
import csv
import hashlib
import io
import json
import posixpath
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote

import pyarrow
import pyarrow.parquet
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

_PARQUET_ROWS = 10_000
# File systems allow 255 bytes of a name, and there stands something around it.
_MOST_BYTES = 240


@dataclass(frozen=True)
class Table:
    """What a row of the output has.

    Args:
        classes: the model's.
        with_text: whether the text is among it.
    """

    classes: tuple[str, ...]
    with_text: bool

    @property
    def head(self) -> list[str]:
        """The names of the columns in front of the probabilities."""
        return ["key", *(["text"] if self.with_text else []), "label"]


Write = Callable[[list[Any]], None]


@contextlib.contextmanager
def _jsonl(stream: BinaryIO, table: Table) -> Iterator[Write]:
    def write(row: list[Any]) -> None:
        *head, scores = row
        by_name = dict(zip(table.classes, scores, strict=True))
        stream.write(_line(dict(zip(table.head, head, strict=True), probabilities=by_name)))

    yield write


@contextlib.contextmanager
def _csv(stream: BinaryIO, table: Table) -> Iterator[Write]:
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    try:
        writer.writerow([*table.head, *table.classes])
        yield lambda row: writer.writerow([*row[:-1], *row[-1]])
        text.flush()
    finally:  # the stream is closed by who opened it
        text.detach()


@contextlib.contextmanager
def _parquet(stream: BinaryIO, table: Table) -> Iterator[Write]:
    fields = [pyarrow.field(name, pyarrow.string()) for name in table.head]
    fields += [pyarrow.field(name, pyarrow.float64()) for name in table.classes]
    schema = pyarrow.schema(fields)
    held: list[list[Any]] = []
    with pyarrow.parquet.ParquetWriter(stream, schema) as writer:

        def flush() -> None:
            columns = list(zip(*held, strict=True)) or [()] * len(fields)
            arrays = [pyarrow.array(c, f.type) for c, f in zip(columns, fields, strict=True)]
            writer.write_table(pyarrow.table(arrays, schema))
            held.clear()

        def write(row: list[Any]) -> None:
            held.append([*row[:-1], *row[-1]])
            if len(held) == _PARQUET_ROWS:
                flush()

        yield write
        flush()


WRITERS = {"jsonl": _jsonl, "csv": _csv, "parquet": _parquet}


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True)
class Counts:
    """What became of an input's rows.

    Args:
        rows_in: how many were read.
        rows_out: how many were scored.
        aside: how many were not, by reason.
    """

    rows_in: int
    rows_out: int
    aside: dict[str, int]


def _written(name: str) -> str:
    """An input's name in the name of a file, for no two inputs the same.

    Example:
        >>> _written("deep/a 1*.txt"), _written("影评.txt")
        ('deep%2Fa 1%2A.txt', '影评.txt')
        >>> _written("x" * 300)[-45:]
        'xxxxxxxxxxx%-0d4e2ca9e9cbced7a7a5380eb29e1a37'
    """
    # A folder's "/" is written another way too: all outputs lie side by side. What Beam removes it
    # takes for patterns. Letters of other scripts would be three times as long, and illegible.
    kept = (c if not c.isascii() and c.isprintable() else quote(c, safe=" ") for c in name)
    whole = "".join(kept)
    if len(whole.encode()) <= _MOST_BYTES:
        return whole
    # No escape is "%-": what is cut short cannot be what another name is written as.
    end = f"%-{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    start = whole.encode()[: _MOST_BYTES - len(end)].decode("utf-8", "ignore")
    return start + end


@dataclass(frozen=True)
class Outputs:
    """The files of one input in the folder of all outputs.

    Args:
        folder: of all outputs.
        name: of the input, below the part of the pattern that has no wildcard.
        path: of the input.
    """

    folder: str
    name: str
    path: str

    def _place(self, kind: str, suffix: str) -> str:
        return FileSystems.join(self.folder, f"{kind}.{_written(self.name)}.{suffix}")

    def rows(self, suffix: str) -> str:
        """Where the rows are, in the format that the suffix says."""
        return self._place("rows", suffix)

    @property
    def aside(self) -> str:
        """Where what was set aside is."""
        return self._place("aside", "jsonl")

    @property
    def done(self) -> str:
        """Where it says that the others are whole, and of what they were made."""
        return self._place("done", "json")

    def counts_if_done(self, fingerprint: str) -> Counts | None:
        """What became of the rows, if that is known of an input of this fingerprint."""
        try:
            with FileSystems.open(self.done, compression_type=_PLAIN) as stream:
                found = json.loads(stream.read())
            if found["fingerprint"] != fingerprint:
                return None
            return Counts(found["rows_in"], found["rows_out"], found["aside"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(
        self, items: Iterator[tuple[str, Any]], format: str, table: Table, beside: str
    ) -> Counts:
        """Writes rows, and what was set aside, beside; `publish` brings them into place.

        Args:
            items: in their order: `row` and a row, or `aside`, and position, reason and row.
            format: of the rows, a key of `WRITERS`.
            table: what a row has.
            beside: a folder.

        Returns:
            How many there were; `rows_in` is their sum.
        """
        rows, reasons = 0, Counter[str]()
        with (
            _create(f"{beside}/rows") as answers,
            WRITERS[format](answers, table) as write,
            _create(f"{beside}/aside") as others,
        ):
            for kind, value in items:
                if kind == "row":
                    write(value)
                    rows += 1
                    continue
                position, reason, row = value
                reasons[reason.partition(": ")[0]] += 1
                told = {"input": self.path, "position": position, "reason": reason, "row": row}
                others.write(_line(told))
        return Counts(rows + reasons.total(), rows, dict(sorted(reasons.items())))

    def publish(self, beside: str, format: str, counts: Counts, fingerprint: str) -> None:
        """Brings what `write` has written into place, and says that it is whole.

        Args:
            beside: as for `write`.
            format: as for `write`.
            counts: what became of the rows.
            fingerprint: of what the files were made.
        """
        old = [self.done, *(self.rows(suffix) for suffix in WRITERS if suffix != format)]
        if not counts.aside:
            old.append(self.aside)
        for path in old:
            remove(path)
        moves = [(f"{beside}/rows", self.rows(format))]
        if counts.aside:
            moves.append((f"{beside}/aside", self.aside))
        with _create(f"{beside}/done") as stream:
            stream.write(_line({"input": self.path, "fingerprint": fingerprint, **vars(counts)}))
        # Last, for it vouches for the others.
        moves.append((f"{beside}/done", self.done))
        for source, target in moves:
            FileSystems.rename([source], [target])
        remove(beside)


_PLAIN = CompressionTypes.UNCOMPRESSED


def _create(path: str) -> Any:
    return FileSystems.create(path, compression_type=_PLAIN)


def remove(path: str) -> None:
    """Removes a file or folder, if there is one."""
    with contextlib.suppress(BeamIOError, FileNotFoundError):
        if FileSystems.exists(path):
            FileSystems.delete([path])


def new_path(folder: str) -> str:
    """A path in a folder that no one else has."""
    return posixpath.join(folder, secrets.token_hex(16))
