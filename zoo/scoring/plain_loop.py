"""The loop that anyone would write, for the pipeline's speed to be held against."""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence

import tensorflow as tf
from apache_beam.io.range_trackers import OffsetRangeTracker

from zoo.errors import RunError
from zoo.export import load_servable, predict
from zoo.scoring.files import Asked, Input
from zoo.scoring.model import why_refused
from zoo.scoring.rows import Columns, Row
from zoo.scoring.sources import FORMATS


def time_plain_loop(asked: Asked, model: str, inputs: Sequence[Input]) -> tuple[int, float]:
    """Scores the same files with a loop: batches as they come, lines of JSON to a file.

    Args:
        asked: how they are scored.
        model: as for `zoo.export.load_servable`; it is loaded anew, which is part of the time.
        inputs: the files.

    Returns:
        How many rows were scored, and the seconds.

    Raises:
        RunError: if the model refuses a row.
    """
    start = time.perf_counter()
    servable = load_servable(model)
    rows = 0
    with tempfile.TemporaryFile("w", encoding="utf-8") as target:
        try:
            for found in predict(servable, _texts(asked, inputs), asked.batch_size):
                told = {"label": found.label, "probabilities": found.probabilities}
                target.write(f"{json.dumps(told)}\n")
                rows += 1
        except tf.errors.OpError as error:
            why = f"a plain loop ends where the model refuses: {why_refused(error)}"
            raise RunError(why) from error
    return rows, time.perf_counter() - start


def _texts(asked: Asked, inputs: Sequence[Input]) -> Iterator[str]:
    columns = Columns(asked.text_column, asked.key_column, asked.max_bytes)
    for item in inputs:
        path = item.metadata.path
        source = FORMATS[item.format][1](path, item.outputs.name, columns)
        everything = OffsetRangeTracker(0, OffsetRangeTracker.OFFSET_INFINITY)
        for batch in source.read(everything):
            yield from (row.text for row in batch if isinstance(row, Row))
