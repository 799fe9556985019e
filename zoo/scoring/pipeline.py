"""Files of any size, scored by Apache Beam: in order, restartable, and with nothing lost."""

import contextlib
import difflib
import functools
import io
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filebasedsource import ReadAllFiles
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners import create_runner

from zoo.errors import RunError, UsageError
from zoo.export import Loaded
from zoo.paths import expanded_text
from zoo.scoring.files import Asked, Input, claimed, find_inputs, fingerprint_of
from zoo.scoring.model import SavedModelHandler, load_once
from zoo.scoring.outputs import Counts, Table, remove
from zoo.scoring.rows import Columns, Row
from zoo.scoring.runs import Finish, WriteRuns
from zoo.scoring.sources import FORMATS, SPLITTABLE, Rows

# Beam's default looks for a program of its own on the network first.
_LOCAL = "FnApiRunner"
# The ranges in which a file is read. Fixed, for they decide what is scored together.
_RANGE_BYTES = 1 << 26
# On one machine a file is finished when its pipeline ends: after so much input there is another.
_PIPELINE_BYTES = 1 << 24


def parse_options(flags: Sequence[str], ours: Sequence[str] = ()) -> PipelineOptions:
    """Beam's options from its own flags; without `--runner`, this process runs the pipeline.

    Args:
        flags: as on a command line.
        ours: names of flags that are not Beam's, to be suggested.

    Raises:
        UsageError: for a value or a runner that Beam refuses, and for an unknown flag of a local
            runner; others pass on what only they know.

    Example:
        >>> parse_options(["--direct_num_workers=2"]).view_as(StandardOptions).runner
        'FnApiRunner'
    """
    unknown: list[str] = []
    known: list[str] = []

    def look(parser: Any) -> None:
        unknown.extend(parser.parse_known_args(list(flags))[1])
        known.extend(name for action in parser._actions for name in action.option_strings)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _no_log():
            options = PipelineOptions(list(flags))
            options.get_all_options(add_extra_args_fn=look)
    except SystemExit as stopped:
        raise UsageError(said.getvalue().rpartition("error: ")[2].strip()) from stopped
    standard = options.view_as(StandardOptions)
    standard.runner = standard.runner or _LOCAL
    try:
        create_runner(standard.runner)
    except (ValueError, ImportError, AttributeError) as error:
        raise UsageError(f"--runner={standard.runner} cannot work: {error}") from error
    if unknown and _is_local(options):
        name = unknown[0].partition("=")[0]
        near = difflib.get_close_matches(name, [*known, *(f"--{flag}" for flag in ours)], n=1)
        hint = f": did you mean {near[0]}?" if near else ""
        raise UsageError(f"unknown flag {name}, of Beam too{hint}")
    return options


def _is_local(options: PipelineOptions) -> bool:
    return options.view_as(StandardOptions).runner in StandardOptions.LOCAL_RUNNERS


def score(
    asked: Asked, model: str, output: str, options: PipelineOptions
) -> Iterator[tuple[Input, Counts, bool]]:
    """Scores every file that is not scored yet; each one's outputs appear whole or not at all.

    Args:
        asked: which files, and how.
        model: the SavedModel, as for `zoo.export.load_servable`.
        output: a folder; made if it is missing. Nothing else is to write to it meanwhile.
        options: Beam's.

    Yields:
        For each file what became of its rows, and whether that was known before; in order.

    Raises:
        UsageError: as `find_inputs`, or if no folder is named.
        RunError: if there is no model or no file, if outputs cannot be written, or if rows would be
            lost.
    """
    if not output:
        raise UsageError("--output= cannot work: it must name a folder")
    loaded = load_once(model)
    output = expanded_text(output).rstrip("/") or "/"
    inputs = find_inputs(asked, output, fingerprint_of(loaded.path))
    with claimed(output):
        unfinished = FileSystems.join(output, ".unfinished")
        remove(unfinished)  # of a process that was killed
        for group in _groups(inputs, _PIPELINE_BYTES if _is_local(options) else None):
            before = {item: item.outputs.counts_if_done(item.fingerprint) for item in group}
            left = [item for item, counts in before.items() if counts is None]
            try:
                if left:
                    _run(left, asked, loaded, unfinished, options)
            finally:
                remove(unfinished)
            for item in group:
                counts = before[item] or item.outputs.counts_if_done(item.fingerprint)
                if counts is None:
                    raise RunError(f"{item.metadata.path} was not finished")
                yield item, counts, before[item] is not None


def _groups(inputs: Sequence[Input], most: int | None) -> Iterator[list[Input]]:
    group: list[Input] = []
    size = 0
    for item in inputs:
        if group and most is not None and size + item.metadata.size_in_bytes > most:
            yield group
            group, size = [], 0
        group.append(item)
        size += item.metadata.size_in_bytes
    yield group


def _run(
    inputs: Sequence[Input], asked: Asked, loaded: Loaded, folder: str, options: PipelineOptions
) -> None:
    pipeline = beam.Pipeline(options=options)
    table = Table(loaded.classes, asked.with_text)
    read, runs = [], []
    for splittable in (True, False):
        items = [item for item in inputs if (item.format in SPLITTABLE) == splittable]
        if not items:
            continue
        name = "in ranges" if splittable else "as wholes"
        by_path = {item.metadata.path: (item.outputs.name, item.format) for item in items}
        columns = Columns(asked.text_column, asked.key_column, asked.max_bytes)
        source = functools.partial(_source, by_path, columns)
        sorted_out = (
            pipeline
            | f"Files {name}" >> beam.Create([item.metadata for item in items])
            | f"Read {name}"
            >> ReadAllFiles(
                splittable, CompressionTypes.AUTO, _RANGE_BYTES, 0, source, with_filename=True
            )
            | f"Sort out {name}" >> beam.ParDo(_SortOut()).with_outputs(main="rows")
        )
        handler = SavedModelHandler(str(loaded.path), asked.batch_size)
        answers = sorted_out.rows | f"Score {name}" >> RunInference(handler)
        read.append(sorted_out.read)
        # No more than names goes on from here: what a local runner groups it holds.
        write = WriteRuns(folder, asked.with_text, asked.sort == "key")
        runs.append(answers | f"Runs of rows {name}" >> beam.ParDo(write))
        runs.append(sorted_out.aside | f"Runs set aside {name}" >> beam.ParDo(write))
    by_path_done = {item.metadata.path: (item.outputs, item.fingerprint) for item in inputs}
    paths = [(item.metadata.path, 0) for item in inputs if not item.metadata.size_in_bytes]
    read.append(pipeline | "Empty files" >> beam.Create(paths))
    _ = (
        {
            "read": tuple(read) | "All read" >> beam.Flatten() | beam.CombinePerKey(sum),
            "runs": tuple(runs) | "All runs" >> beam.Flatten(),
            "there": pipeline | beam.Create([(path, None) for path in by_path_done]),
        }
        | beam.CoGroupByKey()
        | beam.ParDo(Finish(by_path_done, asked.output_format, table, folder))
    )
    try:
        with _no_log() if _is_local(options) else contextlib.nullcontext():
            pipeline.run().wait_until_finish()
    except Exception as error:  # whatever a runner makes of what a worker raised
        raise RunError(f"the pipeline failed: {_last_line(error)}") from error


def _source(by_path: dict[str, tuple[str, str]], columns: Columns, path: str) -> Rows:
    name, format = by_path[path]
    return FORMATS[format][1](path, name, columns)


class _SortOut(beam.DoFn):
    """(path, batch of a file) -> batches to score; side outputs `aside`, and `read`, counts."""

    def process(self, element: Any) -> Iterator[Any]:
        path, batch = element
        yield beam.pvalue.TaggedOutput("read", (path, len(batch)))
        rows = []
        for row in batch:
            if isinstance(row, Row):
                rows.append((path, row))
            else:
                yield beam.pvalue.TaggedOutput("aside", (path, row))
        if rows:
            yield rows


@contextlib.contextmanager
def _no_log() -> Iterator[None]:
    # A worker in this process logs the stack of what it also raises.
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = re.sub(r"\[while running .*", "", lines[-1] if lines else type(error).__name__)
    return re.sub(r"^[\w.]+(Error|Exception): ", "", found).strip()
