"""Text without labels: the training splits of tasks, and files of one text a line."""

import glob
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import tensorflow as tf

from zoo import pipeline
from zoo.errors import RunError, UsageError, reason
from zoo.tasks import Task
from zoo.text import TextEncoder, TextSettings, learn_vocabulary

# Of a file's lines, one in so many is kept for validation.
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

    The vocabulary is the first source's, most common words first, then what the others add.

    Args:
        tasks: tasks on texts.
        patterns: of file names, as a shell has them; a file has one text a line, of which every
            twentieth is kept for validation.
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
    vocabularies = [data.vocabulary for data in learnt]
    if lines and settings.unit != "byte":
        vocabularies.append(_vocabulary(lines["train"], settings))
    together = tuple(dict.fromkeys(token for tokens in vocabularies for token in tokens))
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
    number = 0
    for pattern in patterns:
        paths = sorted(glob.glob(str(Path(pattern).expanduser()), recursive=True))
        if not paths:
            raise UsageError(f"--text_files={pattern} cannot work: it names no file")
        for path in paths:
            try:
                content = Path(path).read_bytes()
            except OSError as error:
                raise RunError(f"{path} cannot be read: {reason(error)}") from error
            for line in filter(None, map(bytes.strip, content.split(b"\n"))):
                number += 1
                lines["train" if number % _VALIDATION_LINES else "validation"].append(line)
    if not lines["validation"]:
        raise UsageError(
            f"--text_files={','.join(patterns)} cannot work: {number} lines of text are too few, "
            f"at least {_VALIDATION_LINES} are needed"
        )
    return lines


def _vocabulary(lines: Sequence[bytes], settings: TextSettings) -> tuple[str, ...]:
    tokenizer, counts = TextEncoder((), settings), Counter[str]()
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
