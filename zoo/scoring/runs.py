"""An external merge sort: whatever order a runner brings answers in, outputs are in order.

Answers are held until there are many, sorted, and written as a run; a run is a file of JSON lines.
The runs of an input are merged into its outputs. No more than the names of runs is grouped by
Beam, so that a runner which groups in memory can take files of any size.
"""

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.window import GlobalWindows

from zoo.scoring.model import Answer
from zoo.scoring.outputs import Outputs, Table, new_path
from zoo.scoring.rows import Aside

_PLAIN = CompressionTypes.UNCOMPRESSED
# What a worker holds before it writes a run, in characters of text.
_HELD = 32_000_000
# What a row weighs beside its text.
_WEIGHT = 200

# What rows are sorted by: the key if asked for, and the position.
Order = tuple[str, int]


@dataclass(frozen=True)
class Run:
    """A sorted part of an input's answers.

    Args:
        path: of the file.
        first: the order of its first line.
        last: the order of its last line.
    """

    path: str
    first: Order
    last: Order


class WriteRuns(beam.DoFn):
    """(path, answer) -> (path, `Run`).

    Args:
        folder: where runs are written.
        with_text: whether the text is kept.
        by_key: whether the key is sorted by, and not the position alone.
        held: what is held before a run is written.
    """

    def __init__(self, folder: str, with_text: bool, by_key: bool, held: int = _HELD) -> None:
        self._folder = folder
        self._with_text = with_text
        self._by_key = by_key
        self._limit = held

    def start_bundle(self) -> None:
        """Nothing is held."""
        self._held: dict[str, list[tuple[Order, str, list[Any]]]] = {}
        self._weight = 0

    def process(self, element: Any) -> Iterator[Any]:
        """Holds an answer, and writes runs if there are enough."""
        path, answer = element
        order, kind, values = self._line(answer)
        self._held.setdefault(path, []).append((order, kind, values))
        self._weight += _WEIGHT + sum(len(v) for v in values if isinstance(v, str))
        if self._weight >= self._limit:
            yield from self._written()

    def finish_bundle(self) -> Iterator[Any]:
        """Writes what is left."""
        for found in self._written():
            yield GlobalWindows.windowed_value(found)

    def _line(self, answer: Answer | Aside) -> tuple[Order, str, list[Any]]:
        if isinstance(answer, Aside):
            return ("", answer.position), "aside", [answer.position, answer.reason, answer.row]
        row = answer.row
        order = (row.key if self._by_key else "", row.position)
        text = [row.text] if self._with_text else []
        return order, "row", [row.key, *text, answer.label, answer.probabilities]

    def _written(self) -> Iterator[tuple[str, Run]]:
        for path, lines in self._held.items():
            lines.sort(key=lambda line: line[0])
            place = new_path(self._folder)
            with FileSystems.create(place, compression_type=_PLAIN) as stream:
                for line in lines:
                    stream.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            yield path, Run(place, lines[0][0], lines[-1][0])
        self.start_bundle()


def merged(runs: Sequence[Run]) -> Iterator[tuple[str, Any]]:
    """The lines of runs in order: `row` or `aside`, and what it holds.

    Runs that do not overlap are opened one after the other, so that there may be thousands.
    """
    group: list[Run] = []
    for run in sorted(runs, key=lambda run: run.first):
        if group and run.first > max(other.last for other in group):
            yield from _merge(group)
            group = []
        group.append(run)
    yield from _merge(group)


def _merge(runs: Iterable[Run]) -> Iterator[tuple[str, Any]]:
    lines = (_lines(run) for run in runs)
    for _, kind, values in heapq.merge(*lines, key=lambda line: line[0]):
        yield kind, values


def _lines(run: Run) -> Iterator[tuple[Order, str, Any]]:
    with FileSystems.open(run.path, compression_type=_PLAIN) as stream:
        for line in iter(stream.readline, b""):
            (key, position), kind, values = json.loads(line)
            yield (key, position), kind, values


class Finish(beam.DoFn):
    """(path, {`read`: counts, `runs`: runs}) -> nothing; writes an input's outputs.

    Args:
        inputs: the outputs of each path, and its fingerprint.
        format: of the rows.
        table: what a row has.
        folder: for what is not finished.
    """

    def __init__(
        self, inputs: dict[str, tuple[Outputs, str]], format: str, table: Table, folder: str
    ) -> None:
        self._inputs = inputs
        self._format = format
        self._table = table
        self._folder = folder

    def process(self, element: Any) -> None:
        """Merges an input's runs.

        Raises:
            RuntimeError: if the file was not read, or not all of its rows came out.
        """
        path, found = element
        runs, read = list(found["runs"]), list(found["read"])
        if not read:
            raise RuntimeError(f"{path} was there, and was not read")
        outputs, fingerprint = self._inputs[path]
        beside = new_path(self._folder)
        counts = outputs.write(merged(runs), self._format, self._table, beside)
        if counts.rows_in != sum(read):
            told = f"{sum(read)} rows were read, {counts.rows_in} came out"
            raise RuntimeError(f"{path}: {told}")
        outputs.publish(beside, self._format, counts, fingerprint)
