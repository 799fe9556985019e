"""A task's records to ids on disk, made once and memory-mapped from then on.

prepare    a data set to records, in zoo/prepared.py
encode     records to ids, here
batches    ids to batches cut by length, in zoo/batching.py
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from zoo.array_files import GrowingArray, save_array
from zoo.batching import (
    Split,
    batch_plan,
    batches,
    count_steps,
    epoch_plan,
    in_order_plan,
    padding_share,
)
from zoo.errors import RunError, reason
from zoo.prepared import (
    damaged_records,
    locked,
    open_records,
    prepare,
    prepare_command,
    records_dir,
    resolve,
)
from zoo.tasks import Task
from zoo.text import RULES_VERSION, TextEncoder, TextSettings, learn_vocabulary
from zoo.wordpiece import make_encoder

__all__ = [
    "EncodedTask",
    "Split",
    "batch_plan",
    "batches",
    "count_steps",
    "encode",
    "epoch_plan",
    "in_order_plan",
    "padding_share",
    "prepare",
]

_EXAMPLES_PER_CALL = 1_000
_CRC_CHUNK_BYTES = 2**20
_ARRAYS = ("values", "offsets", "labels")
_MANIFEST = "manifest.json"
_VOCABULARY = "vocabulary.txt"
# What reading damaged ids raises.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class EncodedTask:
    """A task as a model sees it.

    Args:
        task: the task.
        settings: how its texts became ids; `None` for features.
        vocabulary: its tokens by id, the first one having the id 2, of word pieces the id 0; empty
            for features and bytes.
        splits: by name, `"train"`, `"validation"` and, where the task has one, `"test"`.
        num_features: D of its features; `None` for texts.
        fingerprint: changes with the data, the settings and the tokeniser's rules, and with
            nothing else: the same data prepared anew have the same one.
        folder: where its ids are.
    """

    task: Task
    settings: TextSettings | None
    vocabulary: tuple[str, ...]
    splits: dict[str, Split]
    num_features: int | None
    fingerprint: str
    folder: Path = Path()


def encode(
    task: Task,
    data_dir: Path | None = None,
    settings: TextSettings | None = None,
    vocabulary: tuple[str, ...] | None = None,
    *,
    progress: bool = True,
) -> EncodedTask:
    """Reads a prepared task as ids; what was encoded before is read back, unless it is damaged.

    Args:
        task: which one.
        data_dir: where its records are; `None` for TensorFlow Datasets' own folder.
        settings: how texts become ids; `None` for the defaults, and for features.
        vocabulary: the tokens by id, from the id 2 on, word pieces from the id 0; `None` to learn
            them of the training split, which word pieces cannot be.
        progress: whether to show bars.

    Returns:
        The task, its arrays memory-mapped.

    Raises:
        RunError: if the task is not prepared, or its records are damaged, saying which command
            helps, or if the disk refuses.
    """
    data_dir = resolve(data_dir)
    if task.kind == "text":
        settings = settings or TextSettings()
    builder = open_records(task, data_dir)
    folder = _cache_dir(task, data_dir, builder, settings, vocabulary)
    if folder.is_dir():
        try:
            return _read(folder, task, settings)
        except _DAMAGE as error:
            said = f"the ids in {folder} are damaged ({reason(error)}): making them anew"
            tqdm.write(said, file=sys.stderr)
    _write_beside(folder, task, builder, settings, vocabulary, data_dir, progress)
    try:
        return _read(folder, task, settings)
    except _DAMAGE as error:
        raise RunError(
            f"the ids in {folder} cannot be read back ({reason(error)}): see to that disk"
        ) from error


def _cache_dir(
    task: Task,
    data_dir: Path,
    builder: Any,
    settings: TextSettings | None,
    vocabulary: tuple[str, ...] | None = None,
) -> Path:
    """The folder of a task's ids."""
    # Records prepared again with other examples must not meet the ids of the old ones. Their bytes
    # are not the fingerprint: an example's features are written in an order that is chance's.
    try:
        records = [
            [path.name, _crc(path)]
            for _, split in sorted(builder.info.splits.items())
            for path in map(Path, split.filepaths)
            if path.is_file()
        ]
    except OSError as error:
        raise damaged_records(task, data_dir, error) from error
    key = _digest(task, settings, records if vocabulary is None else [records, vocabulary])
    return data_dir / "encoded" / task.name.replace("/", "-") / f"{task.version}-{key}"


def _digest(task: Task, settings: TextSettings | None, content: Any) -> str:
    # The characters' foldings come with Python.
    rules = [RULES_VERSION, unicodedata.unidata_version, asdict(settings)] if settings else None
    text = json.dumps([asdict(task), content, rules], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        try:
            while chunk := file.read(_CRC_CHUNK_BYTES):
                crc = zlib.crc32(chunk, crc)
        except OSError as error:  # which names no file, other than that of `open`
            raise OSError(error.errno, error.strerror, str(path)) from error
    return crc


def _chunks(
    task: Task,
    builder: Any,
    split: str,
    data_dir: Path,
    function: Callable[[tf.Tensor], Any],
) -> Iterator[tuple[Any, np.ndarray]]:
    """Yields `function` of up to a thousand features and their labels, in the records' order."""

    def both(features: tf.Tensor, labels: tf.Tensor) -> tuple[Any, tf.Tensor]:
        return function(features), tf.cast(labels, tf.int32)

    try:
        # A cache in memory would be thrown away with the data set, after one pass.
        data = builder.as_dataset(split=split, read_config=tfds.ReadConfig(try_autocache=False))
        data = data.map(lambda example: (example[task.feature], example[task.label]))
        # Thousands at a time: to fetch one example takes longer than to tokenise it.
        data = data.ragged_batch(_EXAMPLES_PER_CALL).map(both, num_parallel_calls=tf.data.AUTOTUNE)
        for results, labels in data.prefetch(2):
            yield results, labels.numpy()
    except (tf.errors.OpError, OSError, ValueError, NotImplementedError) as error:
        raise damaged_records(task, data_dir, _located(builder, error)) from error


def _located(builder: Any, error: Exception) -> Exception:
    """The error, with the name of the first file of records that is not whole."""
    for split in builder.info.splits.values():
        for path, expected in zip(map(str, split.filepaths), split.shard_lengths, strict=True):
            found = 0
            try:
                for _ in tf.data.TFRecordDataset(path):
                    found += 1
            except tf.errors.OpError as why:
                return ValueError(f"{path}: {reason(why)}")
            if found != expected:
                return ValueError(f"{path} holds {found:,} of {expected:,} records")
    return error


def _write_beside(
    folder: Path, task: Task, builder: Any, settings: TextSettings | None, *what: Any
) -> None:
    """Writes a folder of ids under another name, and renames it: it is whole or it is not there."""
    beside = folder.parent / f".unfinished-{folder.name}"
    try:
        with locked(folder.parent / ".lock"):
            if folder.is_dir():
                with contextlib.suppress(*_DAMAGE):
                    _read(folder, task, settings)
                    return  # whoever held the lock has written the very same
                shutil.rmtree(folder)
            for left in folder.parent.glob(".unfinished-*"):  # by a process that was killed
                shutil.rmtree(left)
            try:
                beside.mkdir()
                _write(beside, task, builder, settings, *what)
                os.replace(beside, folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise RunError(f"cannot write ids to {folder.parent}: {reason(error)}") from error


def _write(
    target: Path,
    task: Task,
    builder: Any,
    settings: TextSettings | None,
    vocabulary: tuple[str, ...] | None,
    data_dir: Path,
    progress: bool,
) -> None:
    """Encodes every split into `target`, and writes down what was written."""

    def chunks(
        name: str, doing: str, function: Callable[[tf.Tensor], Any]
    ) -> Iterator[tuple[Any, np.ndarray]]:
        split = task.splits[name]
        total = builder.info.splits[split].num_examples
        with tqdm(total=total, desc=f"{doing} {name}", unit="ex", disable=not progress) as bar:
            for results, labels in _chunks(task, builder, split, data_dir, function):
                yield results, labels
                bar.update(len(labels))

    learnt = vocabulary is None
    vocabulary = vocabulary or ()
    rows: Callable[[tf.Tensor], tf.RaggedTensor] = _tracks
    if settings is not None:
        if learnt and settings.unit != "byte":
            tokenizer = TextEncoder((), settings)
            counts: Counter[str] = Counter()

            def count(texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                tokens, _, times = tf.unique_with_counts(tokenizer.split(texts).flat_values)
                return tokens, times

            for (tokens, times), _ in chunks("train", f"counting {settings.unit}s of", count):
                for token, number in zip(tokens.numpy(), times.numpy().tolist(), strict=True):
                    counts[token.decode()] += number
            vocabulary = learn_vocabulary(counts, settings.vocabulary_size)
        # As a graph that is traced once, not once a split.
        rows = tf.function(
            make_encoder(vocabulary, settings).__call__, [tf.TensorSpec([None], tf.string)]
        )
    examples = {}
    for name in task.splits:
        lengths, labels = [], []
        # The values may be more than memory holds; a number or two a row are not.
        with GrowingArray(target / f"{name}.values.npy") as values:
            for ragged, classes in chunks(name, "encoding", rows):
                values.append(ragged.flat_values.numpy())
                lengths.append(ragged.row_lengths().numpy())
                labels.append(classes)
        if not labels:
            raise RunError(f"split {name!r} of task {task.name!r} is empty")
        arrays = {
            "offsets": np.concatenate([[0], *lengths]).cumsum().astype("int64"),
            "labels": np.concatenate(labels),
        }
        examples[name] = len(arrays["labels"])
        if not 0 <= arrays["labels"].min() <= arrays["labels"].max() < len(task.classes):
            raise RunError(
                f"split {name!r} of task {task.name!r} has labels beyond its {len(task.classes)} "
                f"classes: {prepare_command(task, data_dir)} makes other records, once "
                f"{records_dir(task, data_dir)} is deleted"
            )
        for kind, array in arrays.items():
            save_array(target / f"{name}.{kind}.npy", array)
    (target / _VOCABULARY).write_text("".join(f"{word}\n" for word in vocabulary), "utf-8")
    manifest = {
        "task": asdict(task),
        "settings": asdict(settings) if settings else None,
        "examples": examples,
        "num_words": len(vocabulary),
        "files": {path.name: _checksum(path) for path in sorted(target.iterdir())},
    }
    (target / _MANIFEST).write_text(json.dumps(manifest, indent=2), "utf-8")


def _tracks(features: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
    """Tracks of features as `float32[B, (T), D]`."""
    if not isinstance(features, tf.RaggedTensor):  # tracks that are all of one length
        features = tf.RaggedTensor.from_tensor(features)
    return tf.cast(features, tf.float32)


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path, task: Task, settings: TextSettings | None) -> EncodedTask:
    """Reads a folder of ids back; one of `_DAMAGE` says how it is not as it was written."""
    content = (folder / _MANIFEST).read_bytes()
    try:
        files = json.loads(content)["files"]
        names = set(files)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{_MANIFEST} has changed") from error
    if names != {f"{name}.{array}.npy" for name in task.splits for array in _ARRAYS} | {
        _VOCABULARY
    }:
        raise ValueError(f"{_MANIFEST} names other files")
    for name, checksum in files.items():
        if _checksum(folder / name) != checksum:
            raise ValueError(f"{name} has changed")
    splits = {
        name: Split(*(np.load(folder / f"{name}.{a}.npy", mmap_mode="r") for a in _ARRAYS))
        for name in task.splits
    }
    words = (folder / _VOCABULARY).read_text("utf-8").split("\n")[:-1]
    features = splits["train"].values
    return EncodedTask(
        task=task,
        settings=settings,
        vocabulary=tuple(words),
        splits=splits,
        num_features=features.shape[1] if task.kind == "features" else None,
        fingerprint=_digest(task, settings, files),
        folder=folder,
    )
