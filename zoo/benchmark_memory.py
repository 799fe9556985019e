"""What a run holds in memory as its task grows: records, ids, the plan of an epoch, its batches.

A task is written to disk in TFDS's own format, of short texts made by a formula, and goes the way
of every task: records to ids, a plan of a shuffled epoch, steps of a small model, and the rest of
the epoch read through. Each size has a process of its own, which is asked for its memory all the
while.

Files that are mapped, as the ids are, count as resident as well where they have been read. The
system takes those pages back when it needs them, so that they are told apart from what is held.
"""

import itertools
import json
import resource
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds

from zoo.batching import epoch_plan
from zoo.benchmark import fresh
from zoo.config import Config
from zoo.distribution import make_team
from zoo.errors import RunError
from zoo.interrupts import Signals
from zoo.learner import Learner
from zoo.models import TokenInputs
from zoo.pipeline import encode
from zoo.prepared import records_dir
from zoo.tasks import Task
from zoo.text import TextSettings

_STATUS = Path("/proc/self/status")
_EVERY_SECONDS = 0.02
_VALIDATION = 1_000
_WORDS = 5_003
# So many texts differ; from there on they come again.
_TEXTS = 9_973
_PER_FILE = 500_000
_TASK = Task(
    name="synthetic",
    builder="synthetic",
    version="1.0.0",
    feature="text",
    label="label",
    classes=("even", "odd"),
    train=f"train[{_VALIDATION}:]",
    validation=f"train[:{_VALIDATION}]",
    test=None,
)
PHASES = ("encoding", "planning", "training", "reading")


@dataclass(frozen=True)
class Measured:
    """One task.

    Args:
        examples: how many it has.
        writing_seconds: for its records.
        seconds: of each of `PHASES`.
        held_bytes: by phase, the most that was held then, besides mapped files.
        resident_bytes: the most that was in memory at any time, with them.
    """

    examples: int
    writing_seconds: float
    seconds: dict[str, float]
    held_bytes: dict[str, int]
    resident_bytes: int


def measure(sizes: Sequence[int], steps: int) -> Iterator[Measured]:
    """Measures a task of each size, one after another.

    Args:
        sizes: numbers of examples, each above 1,000, which are the validation split.
        steps: of training.

    Raises:
        RunError: where the system does not tell a process's memory, or has too little of it.
    """
    if not _STATUS.exists():
        raise RunError(f"memory is read from {_STATUS}, and there is none")
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            try:
                writing = fresh(write, Path(folder), size)
                measured = Measured(size, writing, *fresh(run, Path(folder), steps))
            except BrokenProcessPool as error:
                raise RunError(f"{size:,} examples were too many: {error}") from error
        yield measured


def write(data_dir: Path, size: int) -> float:
    """Writes the records of a task of `size` examples, and returns the seconds."""
    begun = time.monotonic()
    folder = records_dir(_TASK, data_dir)
    folder.mkdir(parents=True)
    label = tfds.features.ClassLabel(names=list(_TASK.classes))
    features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": label})
    examples = [
        features.serialize_example(features.encode_example({"text": _text(row), "label": row % 2}))
        for row in range(min(size, _TEXTS))
    ]
    template = tfds.core.ShardedFileTemplate(folder, dataset_name="synthetic", split="train")
    template = template.replace(filetype_suffix="tfrecord")
    starts = range(0, size, _PER_FILE)
    lengths = [min(_PER_FILE, size - start) for start in starts]
    for shard, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        path = template.sharded_filepath(shard_index=shard, num_shards=len(starts))
        with tf.io.TFRecordWriter(str(path)) as file:
            for row in range(start, start + length):
                file.write(examples[row % _TEXTS])
    written = sum(path.stat().st_size for path in folder.iterdir())
    split = tfds.core.SplitInfo(
        name="train", shard_lengths=lengths, num_bytes=written, filename_template=template
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, split_infos=[split], filename_template=template
    )
    return time.monotonic() - begun


def _text(row: int) -> str:
    """Two to ten words; no two rows below `_TEXTS` are alike."""
    return " ".join(f"word{row * (place + 3) % _WORDS}" for place in range(2 + row % 9))


def run(data_dir: Path, steps: int) -> tuple[dict[str, float], dict[str, int], int]:
    """Goes the whole way in this process, and returns the last three fields of `Measured`."""
    seconds: dict[str, float] = {}
    held: dict[str, int] = {}

    @contextmanager
    def phase(name: str) -> Iterator[None]:
        begun = time.monotonic()
        with _most_held() as most:
            yield
        seconds[name], held[name] = time.monotonic() - begun, max(most)

    settings = TextSettings("word", vocabulary_size=20_000, max_length=16)
    config = Config(model="bag", max_length=settings.max_length)
    with phase("encoding"):
        data = encode(_TASK, data_dir, settings, progress=False)
    split = data.splits["train"]
    with phase("planning"):
        plan = epoch_plan(config, split, 0)
    with phase("training"):
        team = make_team("none", Signals())
        inputs = TokenInputs(2 + len(data.vocabulary))
        learner = Learner(config, inputs, len(_TASK.classes), len(plan), team)
        for batch in team.batches(split, plan[:steps]):
            learner.step(*batch)
    with phase("reading"):
        rows = sum(len(batch[0]["ids"]) for batch in team.batches(split, plan[steps:]))
    if rows + sum(map(len, plan[:steps])) != len(split):
        raise RunError(f"an epoch has {len(split):,} examples, and other ones were read")
    return seconds, held, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _most_held() -> Iterator[list[int]]:
    """The bytes that this process held at any time within, in a list, none of them a file's."""
    ended = threading.Event()
    found = [_held_bytes()]

    def watch() -> None:
        while not ended.wait(_EVERY_SECONDS):
            found[:] = [max(*found, _held_bytes())]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.append(_held_bytes())


def _held_bytes() -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text("utf-8").splitlines())
    return 1024 * int(lines["RssAnon"].split()[0])


def bytes_per_example(smaller: Measured, larger: Measured) -> float:
    """How much more is held for each example that a task has more, at the most.

    Example:
        >>> smaller, larger = (Measured(n, 0.0, {}, {"reading": 3 * n}, 0) for n in (5, 9))
        >>> bytes_per_example(smaller, larger)
        3.0
    """
    more = max(larger.held_bytes.values()) - max(smaller.held_bytes.values())
    return more / (larger.examples - smaller.examples)


def table(found: Sequence[Measured]) -> str:
    """The figures as Markdown, and how they grow."""
    titles = (f"{name}: s, MB held" for name in PHASES)
    lines = [
        f"| examples | writing: s | {' | '.join(titles)} | MB resident, files and all |",
        "|---" * (len(PHASES) + 3) + "|",
    ]
    lines += map(row, found)
    for smaller, larger in itertools.pairwise(found):
        lines += [
            "",
            f"From {smaller.examples:,} to {larger.examples:,} examples: "
            f"{bytes_per_example(smaller, larger):.1f} bytes more for each.",
        ]
    return "\n".join(lines)


def row(one: Measured) -> str:
    """A line of the table.

    Example:
        >>> seconds, held = dict.fromkeys(PHASES, 0.5), dict.fromkeys(PHASES, 7_000_000)
        >>> row(Measured(2_000, 3.0, seconds, held, 9_000_000))
        '| 2,000 | 3.0 | 0.5, 7 | 0.5, 7 | 0.5, 7 | 0.5, 7 | 9 |'
    """
    phases = (f"{one.seconds[name]:.1f}, {one.held_bytes[name] / 1e6:.0f}" for name in PHASES)
    return (
        f"| {one.examples:,} | {one.writing_seconds:.1f} | {' | '.join(phases)} | "
        f"{one.resident_bytes / 1e6:.0f} |"
    )


def as_json(found: Sequence[Measured]) -> str:
    """The figures for programs."""
    return json.dumps([asdict(one) for one in found], indent=2) + "\n"
