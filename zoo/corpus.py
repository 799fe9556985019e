"""Text without labels: the training splits of tasks, and files of one text a line."""

import glob
import hashlib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from zoo import pipeline
from zoo.errors import RunError, UsageError, reason
from zoo.paths import expanded
from zoo.tasks import Task
from zoo.text import FIRST_WORD_ID, TextEncoder, TextSettings, learn_vocabulary

# Of the lines of files, one in about so many is kept for validation.
_VALIDATION_LINES = 20
_LINES_PER_CALL = 1_000


@dataclass(frozen=True)
class Corpus:
    """Texts as a model sees them.

    Args:
        settings: how they became ids.
        vocabulary: the tokens by id, the first one having the id 2; empty for bytes.
        splits: `"train"` and `"validation"`; their labels mean nothing.
        fingerprint: changes with the texts, the settings and the tokeniser's rules.
        num_features: `None`, as of texts.
    """

    settings: TextSettings
    vocabulary: tuple[str, ...]
    splits: dict[str, pipeline.Split]
    fingerprint: str
    num_features: None = None


def read_corpus(
    tasks: Sequence[Task],
    patterns: Sequence[str],
    settings: TextSettings,
    data_dir: Path | None = None,
    *,
    progress: bool = False,
) -> Corpus:
    """Reads the training and validation texts of tasks, and of files; never a test split.

    The vocabulary holds the most common words of all sources together.

    Args:
        tasks: tasks on texts.
        patterns: of file names, as a shell has them; a file has one text a line, of which one in
            twenty, as its bytes decide, is kept for validation.
        settings: how texts become ids.
        data_dir: where the tasks' records are; `None` for TensorFlow Datasets' own folder.
        progress: whether to show bars.

    Raises:
        UsageError: if there is no text, or a pattern names no file.
        RunError: if a task is not prepared, or a file cannot be read.
    """
    if not tasks and not patterns:
        raise UsageError("--tasks= --text_files= cannot work: give one of them, or both")
    lines = _read_lines(patterns)
    learnt = [pipeline.encode(task, data_dir, settings, progress=progress) for task in tasks]
    together = _vocabulary(learnt, lines.get("train", []), settings)
    parts = [
        data
        if data.vocabulary == together
        else pipeline.encode(task, data_dir, settings, together, progress=progress)
        for task, data in zip(tasks, learnt, strict=True)
    ]
    encoder = TextEncoder(together, settings)
    splits = {}
    for name in ("train", "validation"):
        found = [part.splits[name] for part in parts]
        if lines:
            found.append(_encode(lines[name], encoder))
        splits[name] = _joined(found)
    digest = hashlib.sha256("".join(part.fingerprint for part in parts).encode())
    for line in (line for name in sorted(lines) for line in lines[name]):
        digest.update(line + b"\n")
    digest.update(repr(settings).encode())
    return Corpus(settings, together, splits, digest.hexdigest()[:12])


def _read_lines(patterns: Sequence[str]) -> dict[str, list[bytes]]:
    if not patterns:
        return {}
    lines: dict[str, list[bytes]] = {"train": [], "validation": []}
    for path in _files(patterns):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RunError(f"{path} cannot be read: {reason(error)}") from error
        for line in filter(None, map(bytes.strip, content.split(b"\n"))):
            # A line that stands in several places must not stand on both sides.
            kept = zlib.crc32(line) % _VALIDATION_LINES == 0
            lines["validation" if kept else "train"].append(line)
    number = sum(map(len, lines.values()))
    if not all(lines.values()):
        raise UsageError(
            f"--text_files={','.join(patterns)} cannot work: of {number} lines of text none is "
            f"left for training or for validation; some hundreds are needed"
        )
    return lines


def _files(patterns: Sequence[str]) -> list[Path]:
    """The files that patterns name, each once."""
    paths: dict[Path, None] = {}
    for pattern in patterns:
        found = sorted(glob.glob(str(expanded(pattern)), recursive=True))
        if not found:
            raise UsageError(f"--text_files={pattern} cannot work: it names no file")
        paths |= dict.fromkeys(Path(path).resolve() for path in found)
    return list(paths)


def _vocabulary(
    learnt: Sequence[pipeline.EncodedTask], lines: Sequence[bytes], settings: TextSettings
) -> tuple[str, ...]:
    """The most common tokens of all sources together; of one task, the very ones that it has."""
    if settings.unit == "byte":
        return ()
    if len(learnt) == 1 and not lines:
        return learnt[0].vocabulary
    counts = Counter[str]()
    for data in learnt:
        ids, times = np.unique(data.splits["train"].values, return_counts=True)
        for place, count in zip(ids.tolist(), times.tolist(), strict=True):
            if place >= FIRST_WORD_ID:
                counts[data.vocabulary[place - FIRST_WORD_ID]] += count
    tokenizer = TextEncoder((), settings)
    for chunk in _chunks(lines):
        tokens, _, times = tf.unique_with_counts(tokenizer.split(chunk).flat_values)
        for token, count in zip(tokens.numpy(), times.numpy().tolist(), strict=True):
            counts[token.decode()] += count
    return learn_vocabulary(counts, settings.vocabulary_size)


def _encode(lines: Sequence[bytes], encoder: TextEncoder) -> pipeline.Split:
    rows = [encoder(chunk) for chunk in _chunks(lines)]
    lengths = np.concatenate([row.row_lengths().numpy() for row in rows])
    return pipeline.Split(
        np.concatenate([row.flat_values.numpy() for row in rows]),
        np.concatenate([[0], lengths]).cumsum().astype("int64"),
        np.zeros(len(lengths), "int32"),
    )


def _chunks(lines: Sequence[bytes]) -> Iterator[tf.Tensor]:
    remaining = iter(lines)
    while chunk := list(islice(remaining, _LINES_PER_CALL)):
        yield tf.constant(chunk)


def _joined(splits: Sequence[pipeline.Split]) -> pipeline.Split:
    """The rows of several splits, one after the other."""
    if len(splits) == 1:
        return splits[0]
    lengths = np.concatenate([split.lengths for split in splits])
    return pipeline.Split(
        np.concatenate([split.values for split in splits]),
        np.concatenate([[0], lengths]).cumsum().astype("int64"),
        np.zeros(len(lengths), "int32"),
    )
