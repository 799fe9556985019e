"""Files as Beam reads them: in ranges where a format allows it, in batches of rows everywhere."""

import bz2
import functools
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pyarrow
import pyarrow.parquet
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.io.iobase import BoundedSource, SourceBundle

from zoo.errors import UsageError, reason
from zoo.scoring.csv_records import Line, Record, records
from zoo.scoring.rows import Aside, Columns, Row, aside

# What is batched together is decided by the file alone, so that another run gives equal numbers.
BATCH_ROWS = 1_024
_BATCH_BYTES = 1 << 20
# A byte order mark, as UTF-8 has it; no part of the first line.
_MARK = b"\xef\xbb\xbf"
# What libraries raise for a file that is damaged.
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException)


def _zstd(stream: BinaryIO) -> BinaryIO:
    # The reader of `zstandard` takes a truncated file for a whole one.
    file = pyarrow.PythonFile(stream, mode="r")
    return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))


_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    CompressionTypes.UNCOMPRESSED: lambda stream: stream,
    CompressionTypes.GZIP: lambda stream: gzip.GzipFile(fileobj=stream),
    CompressionTypes.BZIP2: bz2.BZ2File,
    CompressionTypes.LZMA: lzma.LZMAFile,
    CompressionTypes.ZSTD: _zstd,
}


def format_of(path: str) -> str:
    """The format that a file's name tells, the suffix of its compression left aside.

    Raises:
        UsageError: if it tells none.

    Example:
        >>> format_of("reviews/a.csv.gz"), format_of("b.ndjson"), format_of("c.txt")
        ('csv', 'jsonl', 'text')
    """
    stem, last = os.path.splitext(path.lower())
    if CompressionTypes.detect_compression_type(path) != CompressionTypes.UNCOMPRESSED:
        last = os.path.splitext(stem)[1]
    for name, (suffixes, _) in FORMATS.items():
        if last in suffixes:
            return name
    raise UsageError(f"{path} does not tell its format: give --format={'|'.join(FORMATS)}")


def check_compression(path: str) -> None:
    """Whether a file's compression is known.

    Raises:
        UsageError: if it is not.
    """
    kind = CompressionTypes.detect_compression_type(path)
    if kind not in _OPENERS:
        known = ".gz, .bz2, .xz, .lzma and .zst"
        raise UsageError(f"{path} is compressed as {kind}, which cannot be read: {known} can be")


class Rows(BoundedSource):
    """Rows of a file, in batches; a file that is damaged ends with a row that says so.

    Args:
        path: of the file. Beam's own sources take a pattern, which a name can look like.
        name: of the file, for its keys.
        columns: how a row becomes a text.
    """

    def __init__(self, path: str, name: str, columns: Columns) -> None:
        super().__init__()
        self._path = path
        self._name = name
        self._columns = columns

    def split(
        self, desired_bundle_size: Any, start_position: Any = None, stop_position: Any = None
    ) -> Iterator[SourceBundle]:
        """The file as a whole: who reads it brings the range."""
        yield SourceBundle(1, self, start_position, stop_position)

    def read(self, range_tracker: Any) -> Iterator[list[Row | Aside]]:
        """Batches of the rows that begin in a range of the file.

        Args:
            range_tracker: of bytes; of the whole file for a format that is not `SPLITTABLE`.

        Raises:
            OSError: if the file cannot be read, and that is not the fault of what it holds.
        """
        batch: list[Row | Aside] = []
        size, position = 0, range_tracker.start_position()
        opener = _OPENERS[CompressionTypes.detect_compression_type(self._path)]
        # Beam's own decompression takes a truncated file for a whole one.
        plain = CompressionTypes.UNCOMPRESSED
        with FileSystems.open(self._path, compression_type=plain) as raw:
            try:
                with opener(raw) as stream:
                    for behind, row in self._read(stream, range_tracker):
                        position = behind
                        batch.append(row)
                        size += len(row.text if isinstance(row, Row) else row.row)
                        if len(batch) == BATCH_ROWS or size >= _BATCH_BYTES:
                            yield batch
                            batch, size = [], 0
            except _DAMAGE as error:
                if getattr(error, "errno", None):  # the disk's, or the network's
                    raise
                batch.append(aside(position, f"damaged from here on: {reason(error)}", b""))
        # An empty one too: it tells that the range was read.
        yield batch

    def _read(self, stream: Any, tracker: Any) -> Iterator[tuple[int, Row | Aside]]:
        """The rows, each with the position behind it."""
        raise NotImplementedError


class Lines(Rows):
    """A row a line: of text, or of JSON. A position is the byte at which a line begins.

    Args:
        parse: makes the row of a line.
        path, name, columns: as for every source.
    """

    def __init__(self, parse: Any, path: str, name: str, columns: Columns) -> None:
        super().__init__(path, name, columns)
        self._parse = parse

    def _read(self, stream: Any, tracker: Any) -> Iterator[tuple[int, Row | Aside]]:
        position = tracker.start_position()
        if position:
            # The line that this byte is in began in the range before, unless it is a line's end.
            stream.seek(position - 1)
            position += _skip_line(stream) - 1
        limit = self._columns.max_bytes
        while tracker.try_claim(position):
            line = stream.readline(_room(limit, first=position == 0))
            if not line:
                return
            start, length = position, len(line)
            kept = line.removesuffix(b"\n").removesuffix(b"\r")
            if not line.endswith(b"\n"):
                length += _skip_line(stream)
            position += length
            if start == 0:
                kept = kept.removeprefix(_MARK)
            row = (
                self._columns.too_long(start, kept)
                if len(kept) > limit
                else self._parse(self._columns, self._name, start, kept)
            )
            yield position, row


def _room(limit: int, first: bool) -> int:
    """As much as a line may have, its end, and one more; of the first line, the mark before it."""
    return limit + 3 + (len(_MARK) if first else 0)


def _skip_line(stream: Any) -> int:
    """Reads to the end of a line, and says how many bytes that were."""
    length = 0
    while piece := stream.readline(1 << 16):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length


class Csv(Rows):
    """A row a record, after one that names the columns. A position is the number of a line."""

    def _read(self, stream: Any, tracker: Any) -> Iterator[tuple[int, Row | Aside]]:
        limit = self._columns.max_bytes
        found = records(_numbered(stream, limit), limit)
        head = next(found, Record(1, [], b""))
        if head.fields is None:
            yield 2, self._row([], head)
        for record in found:
            behind = record.number + record.raw.count(b"\n") + 1
            yield behind, self._row(head.fields or [], record)

    def _row(self, header: list[str], record: Record) -> Row | Aside:
        number, raw, fields = record.number, record.raw, record.fields
        if record.error == "too long":
            return self._columns.too_long(number, raw)
        if fields is None:
            return aside(number, f"broken CSV: {record.error}", raw)
        if not fields:
            return aside(number, "empty line", raw)
        if len(fields) != len(header):
            there = f"{len(fields)}, where the first line has {len(header)}"
            return aside(number, f"wrong number of columns: {there}", raw)
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return aside(number, f"invalid UTF-8: at byte {error.start}", raw)
        for name in (self._columns.text, self._columns.key):
            if name and header.count(name) > 1:  # neither is more right than the other
                return aside(number, f"ambiguous column: several are named {name}", raw)
        members = dict(zip(header, fields, strict=True))
        return self._columns.of_members(self._name, number, members, raw)


def _numbered(stream: Any, limit: int) -> Iterator[Line]:
    number = 0
    while raw := stream.readline(_room(limit, first=number == 0)):
        number += 1
        if number == 1:
            raw = raw.removeprefix(_MARK)
        too_long = len(raw) > limit and not raw.endswith(b"\n")
        if too_long:
            _skip_line(stream)
        yield Line(number, raw, too_long)


class Parquet(Rows):
    """A row a row, the columns that are needed alone. A position is its number, from 0."""

    def _read(self, stream: Any, tracker: Any) -> Iterator[tuple[int, Row | Aside]]:
        file = pyarrow.parquet.ParquetFile(stream)
        names = file.schema_arrow.names
        needed = [name for name in (self._columns.text, self._columns.key) if name is not None]
        # Where one is missing each row is told what there is, and none needs to be read.
        known = needed if set(needed) <= set(names) else []
        position = 0
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=known):
            values = zip(*map(_plain, batch.columns), strict=True) if known else [()] * len(batch)
            for row in values:
                members = dict(zip(known, row, strict=True)) or dict.fromkeys(names)
                yield position + 1, self._row(position, members)
                position += 1

    def _row(self, position: int, members: dict[str, Any]) -> Row | Aside:
        shown = members.get(self._columns.text)
        shown = shown if isinstance(shown, bytes) else str(shown).encode()
        for name, value in members.items():
            if isinstance(value, bytes):
                try:
                    members[name] = value.decode()
                except UnicodeDecodeError as error:
                    return aside(position, f"invalid UTF-8: at byte {error.start}", shown)
        return self._columns.of_members(self._name, position, members, shown)


def _plain(column: pyarrow.Array) -> list[Any]:
    """A column's values; strings as bytes, for nothing has looked whether they are UTF-8."""
    if pyarrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pyarrow.types.is_string(column.type):
        column = column.cast(pyarrow.binary())
    elif pyarrow.types.is_large_string(column.type):
        column = column.cast(pyarrow.large_binary())
    return column.to_pylist()


Make = Callable[[str, str, Columns], Rows]

# The suffixes of each format, and what makes a source from a path, a name and columns.
FORMATS: dict[str, tuple[tuple[str, ...], Make]] = {
    "text": ((".txt", ".text"), functools.partial(Lines, Columns.of_line)),
    "jsonl": ((".jsonl", ".ndjson"), functools.partial(Lines, Columns.of_json)),
    "csv": ((".csv",), Csv),
    "parquet": ((".parquet", ".pq"), Parquet),
}
# Those that are read in ranges.
SPLITTABLE = ("text", "jsonl")
