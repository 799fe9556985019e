"""Makes a task's data ready: its records on disk, and those as token ids.

    python trainers/prepare.py --task=movie_reviews/imdb

What is there already is used again. Give train.py the same --unit, --vocabulary_size and
--max_length, and it finds the ids at once.
"""

import dataclasses
import logging
import sys
import time
from pathlib import Path
from typing import Any

import command
from absl import flags

from zoo.config import Config

_DATASETS = Path(__file__).resolve().parents[1] / "datasets"
_SETTINGS = ("unit", "vocabulary_size", "max_length")
_FIELDS = {field.name: field for field in dataclasses.fields(Config)}

command.define(Config, skip=_FIELDS.keys() - _SETTINGS)
_TASK = flags.DEFINE_string(
    "task", None, _FIELDS["task"].metadata["help"], required=True, module_name="data flags"
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)

_DESCRIBE = flags.DEFINE_boolean(
    "describe", False, "print classes, lengths and repeats across splits, and draw the lengths"
)


def main(argv: list[str]) -> None:
    """Flags in, records and ids on disk."""
    del argv
    # Without a network each try again would be a warning of five lines; the last one is our error.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    with command.quiet():
        # For its checks: the same messages as train.py's.
        given: dict[str, Any] = {name: flags.FLAGS[name].value for name in _SETTINGS}
        config = Config(task=_TASK.value, **given)
        from zoo import pipeline
        from zoo.prepared import resolve
        from zoo.tasks import get_task
        from zoo.text import UNKNOWN_ID, TextSettings

    task, data_dir = get_task(config.task), resolve(_DATA_DIR.value)
    settings = None
    if task.kind == "text":
        unit: Any = config.unit
        settings = TextSettings(unit, config.vocabulary_size, config.max_length)
    progress = sys.stderr.isatty()
    made = pipeline.prepare(task, data_dir, _DATASETS, progress=progress)
    print(f"{task.name}: {'prepared' if made else 'already prepared'} in {data_dir}", flush=True)
    started = time.time()
    data = pipeline.encode(task, data_dir, settings, progress=progress)
    made = data.folder.stat().st_mtime > started
    print(f"token ids {'encoded' if made else 'already encoded'} in {data.folder}")
    print("examples: " + ", ".join(f"{len(s):,} {name}" for name, s in data.splits.items()))
    if settings is not None:
        unknown = (data.splits["validation"].values == UNKNOWN_ID).mean()
        words = f"{len(data.vocabulary):,} {config.unit}s learnt"
        print(f"vocabulary: {words}; {unknown:.2%} of validation unknown")
    lengths = data.splits["train"].lengths
    plan = pipeline.batch_plan(lengths, batch_tokens=config.batch_tokens, seed=0, epoch=0)
    share = pipeline.padding_share(lengths, plan)
    print(f"an epoch: {len(plan):,} batches of {config.batch_tokens:,} tokens, {share:.1%} padding")
    if _DESCRIBE.value:
        from zoo.describe import show

        show(data, data_dir, progress=progress)


if __name__ == "__main__":
    command.run(main)
