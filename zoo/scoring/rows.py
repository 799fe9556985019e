"""A row to be scored, and one that cannot be: with the reason, and as far as it could be read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# As much of a row as is shown with the reason why it is set aside.
_SHOWN = 1_000


@dataclass(frozen=True)
class Row:
    """A row that can be scored.

    Args:
        position: where it stands in its file.
        key: what names it in the output.
        text: what is scored; it can be written as UTF-8.
    """

    position: int
    key: str
    text: str


@dataclass(frozen=True)
class Aside:
    """A row that cannot be scored.

    Args:
        position: where it stands in its file.
        reason: why, what is counted standing before the first colon.
        row: what could be read of it.
    """

    position: int
    reason: str
    row: str


@dataclass(frozen=True)
class Columns:
    """How a row becomes a key and a text.

    Args:
        text: the column, or member, with the text.
        key: the one with the key; `None`: a row is named by its file and position.
        max_bytes: the most that a row may have.
    """

    text: str
    key: str | None
    max_bytes: int

    def too_long(self, position: int, start: bytes) -> Aside:
        """What is said of a row over the limit, of which no more than its start was kept."""
        return aside(position, f"over --max_bytes={self.max_bytes}", start)

    def of_line(self, name: str, position: int, line: bytes) -> Row | Aside:
        """The row that is a line of a text file.

        Args:
            name: of the file, for a key.
            position: of the line.
            line: without its end.

        Example:
            >>> columns = Columns("text", None, 100)
            >>> columns.of_line("a.txt", 7, b"a film")
            Row(position=7, key='a.txt:000000000007', text='a film')
            >>> columns.of_line("a.txt", 7, b"caf\\xe9")
            Aside(position=7, reason='invalid UTF-8: at byte 3', row='caf�')
        """
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            return aside(position, f"invalid UTF-8: at byte {error.start}", line)
        return self._checked(name, position, None, text, line)

    def of_json(self, name: str, position: int, line: bytes) -> Row | Aside:
        """The row that is a line of a JSON lines file; arguments as in `of_line`.

        Example:
            >>> columns = Columns("text", "id", 100)
            >>> columns.of_json("a.jsonl", 0, b'{"id": 3, "text": "a film"}')
            Row(position=0, key='3', text='a film')
            >>> columns.of_json("a.jsonl", 0, b'{"id": 3, "text": null}').reason
            "not a string: 'text' is null"
        """
        try:
            found = json.loads(line.decode())
        except UnicodeDecodeError as error:
            return aside(position, f"invalid UTF-8: at byte {error.start}", line)
        except (ValueError, RecursionError) as error:
            return aside(position, f"broken JSON: {error}", line)
        if not isinstance(found, dict):
            return aside(position, "broken JSON: no object", line)
        return self.of_members(name, position, found, line)

    def of_members(
        self, name: str, position: int, members: Mapping[str, Any], shown: bytes
    ) -> Row | Aside:
        """The row that has columns with names.

        Args:
            name: of the file, for a key.
            position: of the row.
            members: the columns.
            shown: the row as it is shown if it has to be set aside.

        Example:
            >>> Columns("text", None, 100).of_members("a.csv", 2, {"review": "a film"}, b"a film")
            Aside(position=2, reason="no column 'text': there are review", row='a film')
        """
        for column in filter(None, (self.text, self.key)):
            if column not in members:
                there = ", ".join(map(str, members)) or "none"
                return aside(position, f"no column {column!r}: there are {there}", shown)
        text = members[self.text]
        if not isinstance(text, str):
            return aside(position, f"not a string: {self.text!r} is {_kind(text)}", shown)
        key = None if self.key is None else members[self.key]
        if key is not None and (isinstance(key, bool) or not isinstance(key, str | int)):
            return aside(position, f"no key: {self.key!r} is {_kind(key)}", shown)
        if self.key is not None and key in (None, ""):
            return aside(position, f"no key: {self.key!r} is empty", shown)
        return self._checked(name, position, key, text, shown)

    def _checked(
        self, name: str, position: int, key: str | int | None, text: str, shown: bytes
    ) -> Row | Aside:
        # Zeros before it: sorted as text, the keys of a file are in the order of its rows.
        key = f"{name}:{position:012}" if key is None else str(key)
        try:
            size = len(text.encode())
            key.encode()
        except UnicodeEncodeError:  # JSON can name one half of a character
            return aside(position, "invalid UTF-8: half a surrogate pair", shown)
        if size > self.max_bytes:
            return self.too_long(position, shown)
        if not text.strip():
            return aside(position, "empty text", shown)
        return Row(position, key, text)


def aside(position: int, reason: str, row: bytes) -> Aside:
    """A row set aside, with as much of it as is shown.

    Args:
        position: of the row.
        reason: why.
        row: what is known of it.
    """
    # The reason may cite what the file holds, half characters included.
    told = reason.encode("utf-8", "replace")[:_SHOWN].decode("utf-8", "ignore")
    return Aside(position, " ".join(told.split()), row[:_SHOWN].decode("utf-8", "replace"))


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a truth value", int: "a number", float: "a number"}
    return names.get(type(value), f"of type {type(value).__name__}")
