"""The records of a CSV file, where one that is broken costs no more than its own first line.

A quote that is never closed makes all that follows one field. Here such a record ends at a limit:
its first line is set aside, and reading goes on at its second.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

# Field size is bounded by the bytes of a record, and not once more by the library.
csv.field_size_limit(2**31 - 1)


@dataclass(frozen=True)
class Line:
    """A line of a file.

    Args:
        number: from 1.
        raw: its bytes, with its end; the start of them if it is too long.
        too_long: whether it is.
    """

    number: int
    raw: bytes
    too_long: bool = False


@dataclass(frozen=True)
class Record:
    """What one or more lines hold.

    Args:
        number: of its first line.
        fields: `None` if it is broken.
        raw: its bytes, as far as they are kept.
        error: what is wrong with it.
    """

    number: int
    fields: list[str] | None
    raw: bytes
    error: str | None = None


class _TooLong(Exception):
    pass


class _Feed:
    """Gives `csv.reader` the lines of a record, and takes back those that it had no use for."""

    def __init__(self, lines: Iterator[Line], limit: int) -> None:
        self._lines = lines
        self._limit = limit
        self._again: list[Line] = []
        self._size = 0
        self.taken: list[Line] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._lines)
        self.taken.append(line)
        self._size += len(line.raw)
        if line.too_long or self._size > self._limit:
            raise _TooLong
        # Bytes that are no UTF-8 stay what they are; the library would end a record at a lone "\r".
        return line.raw.decode("utf-8", "surrogateescape")

    def begin(self) -> None:
        """A record begins."""
        self._size = 0
        self.taken.clear()

    def give_back(self) -> None:
        """All but the first line of the record are to be read as if for the first time."""
        self._again += reversed(self.taken[1:])
        del self.taken[1:]


def records(lines: Iterator[Line], limit: int) -> Iterator[Record]:
    """The records of a CSV file, as RFC 4180 has them.

    Args:
        lines: the file's.
        limit: the most bytes of a record.

    Yields:
        Each record once, in order; a broken one with an error: `too long`, or the library's.

    Example:
        >>> lines = [b'1,"a film', b'in two lines"', b'2,"x"y', b'3,z']
        >>> for record in records((Line(n, raw + b"\\n") for n, raw in enumerate(lines, 1)), 99):
        ...     print(record.number, record.fields, record.error)
        1 ['1', 'a film\\nin two lines'] None
        3 None ',' expected after '"'
        4 ['3', 'z'] None
    """
    feed = _Feed(lines, limit)
    reader = csv.reader(feed, strict=True)
    while True:
        feed.begin()
        fields, error = None, None
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _TooLong:
            error = "too long"
        except csv.Error as broken:
            error = str(broken)
        if error is not None:
            feed.give_back()
            reader = csv.reader(feed, strict=True)
        first = feed.taken[0]
        raw = b"".join(line.raw for line in feed.taken)
        yield Record(first.number, fields, raw.removesuffix(b"\n").removesuffix(b"\r"), error)
