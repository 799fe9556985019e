"""What a task's data are: counts, classes, lengths, vocabulary, and what stands in two splits."""

import unicodedata
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from zoo.errors import RunError
from zoo.pipeline import EncodedTask
from zoo.plots import draw_lengths
from zoo.prepared import damaged_records, open_records
from zoo.text import UNKNOWN_ID, TextEncoder

QUANTILES = (0, 5, 25, 50, 75, 95, 100)
_SHINGLE_CHARACTERS = 5
_PERMUTATIONS = 64
_TEXTS_PER_CALL = 1_000


@dataclass(frozen=True)
class Description:
    """What `describe` found.

    Args:
        data: the task, encoded.
        lengths: tokens, or steps, of each example before any is cut off, `int64[N]` by split.
        known: the share of tokens, after the cut, that are in the vocabulary, by split; `None` for
            tracks.
        exact: pairs of examples of two splits that have the same content: where the first stands
            and what it is, where the second stands and what it is.
        near: the same for texts that are nearly the same, the nearest first; `None` where it was
            not looked.
    """

    data: EncodedTask
    lengths: Mapping[str, np.ndarray]
    known: Mapping[str, float] | None
    exact: Sequence[tuple[str, Any, str, Any]]
    near: Sequence[tuple[str, str, str, str]] | None

    def __str__(self) -> str:
        """Tables of what was found."""
        return "\n".join([*_counts(self), "", *_lengths(self), "", *_repeats(self)])

    def draw(self) -> Path | None:
        """Draws the lengths in a file beside the ids; `None` without matplotlib."""
        settings = self.data.settings
        unit = "steps" if settings is None else f"{settings.unit}s"
        cut = None if settings is None else settings.max_length
        file = self.data.folder.parent / f"{self.data.folder.name}-lengths.png"
        return file if draw_lengths(self.lengths, self.data.task.name, unit, cut, file) else None

    def refuse_repeats(self) -> None:
        """Raises a `RunError` if an example of one split has the content of another's."""
        if self.exact:
            first, one, second, _ = self.exact[0]
            what = f", {_short(one)!r} in {first} and {second}" if isinstance(one, str) else ""
            raise RunError(
                f"{len(self.exact):,} examples of task {self.data.task.name!r} stand in two splits"
                f"{what}: what is measured on such data flatters"
            )


def describe(
    data: EncodedTask, data_dir: Path, *, threshold: float = 0.8, progress: bool = True
) -> Description:
    """Looks at every example of a task.

    Two texts have the same content if their letters and digits are the same, in lower case after
    NFKC. They are nearly the same if the Jaccard similarity of the sets of all five characters in a
    row of that content is at least `threshold`. Pairs to compare are found by MinHash (Broder 1997,
    "On the resemblance and containment of documents"; the library datasketch), which overlooks some
    of those that are just above it. Tracks are the same if all their values are.

    Args:
        data: the task, encoded.
        data_dir: where its records are.
        threshold: from 0 to 1.
        progress: whether to show bars.

    Raises:
        RunError: if the records cannot be read.
    """
    examples = {name: list(_examples(data, data_dir, name)) for name in data.splits}
    if data.task.kind == "features":
        lengths = {name: np.array([len(track) for track in s]) for name, s in examples.items()}
        contents = {name: [track.tobytes() for track in s] for name, s in examples.items()}
        return Description(data, lengths, None, _exact(examples, contents), None)
    assert data.settings is not None
    encoder = TextEncoder((), data.settings)
    lengths = {
        name: np.concatenate(
            [
                encoder.split(tf.constant(s[i : i + _TEXTS_PER_CALL])).row_lengths().numpy()
                for i in range(0, len(s), _TEXTS_PER_CALL)
            ]
        )
        for name, s in examples.items()
    }
    known = {name: float((s.values != UNKNOWN_ID).mean()) for name, s in data.splits.items()}
    contents = {name: [_content(text) for text in s] for name, s in examples.items()}
    near = _near(examples, contents, threshold, progress)
    return Description(data, lengths, known, _exact(examples, contents), near)


def show(data: EncodedTask, data_dir: Path, *, progress: bool = True) -> None:
    """Prints and draws what `describe` finds.

    Raises:
        RunError: besides, if an example of one split has the content of another's.
    """
    found = describe(data, data_dir, progress=progress)
    print("", found, sep="\n", flush=True)
    if (file := found.draw()) is not None:
        print(f"lengths drawn in {file}", flush=True)
    found.refuse_repeats()


def _examples(data: EncodedTask, data_dir: Path, name: str) -> Iterator[Any]:
    """Texts, or tracks `float[T, D]`, of a split."""
    task = data.task
    records = open_records(task, data_dir).as_dataset(
        split=task.splits[name], read_config=tfds.ReadConfig(try_autocache=False)
    )
    try:
        for example in records.as_numpy_iterator():
            value = example[task.feature]
            yield value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    except (tf.errors.OpError, OSError) as error:
        raise damaged_records(task, data_dir, error) from error


def _content(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def _exact(
    examples: Mapping[str, Sequence[Any]], contents: Mapping[str, Sequence[Any]]
) -> list[tuple[str, Any, str, Any]]:
    first: dict[Any, tuple[str, Any]] = {}
    found = []
    for name, keys in contents.items():
        for example, key in zip(examples[name], keys, strict=True):
            where, other = first.setdefault(key, (name, example))
            if where != name:
                found.append((where, other, name, example))
    return found


def _near(
    examples: Mapping[str, Sequence[str]],
    contents: Mapping[str, Sequence[str]],
    threshold: float,
    progress: bool,
) -> list[tuple[str, str, str, str]] | None:
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        return None
    index = MinHashLSH(threshold=threshold, num_perm=_PERMUTATIONS)
    rows = [(name, i) for name, keys in contents.items() for i in range(len(keys))]
    found = []
    for name, i in tqdm(rows, desc="comparing texts", unit="ex", disable=not progress):
        content = contents[name][i]
        mine = _shingles(content)
        sketch = MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=zlib.crc32)
        sketch.update_batch([shingle.encode() for shingle in mine])
        for other, j in index.query(sketch):
            theirs = _shingles(contents[other][j])
            similarity = len(mine & theirs) / len(mine | theirs)
            if other != name and content != contents[other][j] and similarity >= threshold:
                pair = (other, examples[other][j], name, examples[name][i])
                found.append((similarity, pair))
        index.insert((name, i), sketch)
    found.sort(key=lambda pair: -pair[0])
    return [pair for _, pair in found]


def _shingles(content: str) -> set[str]:
    last = max(1, len(content) - _SHINGLE_CHARACTERS + 1)
    return {content[i : i + _SHINGLE_CHARACTERS] for i in range(last)}


def _counts(found: Description) -> Iterator[str]:
    classes = found.data.task.classes
    widths = [max(len(name), 7) for name in classes]
    names = "".join(f"  {name:>{width}}" for name, width in zip(classes, widths, strict=True))
    yield f"{'split':12}{'examples':>9}{names}{'' if found.known is None else '    known'}"
    for name, split in found.data.splits.items():
        shares = np.bincount(split.labels, minlength=len(classes)) / len(split)
        cells = "".join(f"  {s:>{width}.1%}" for s, width in zip(shares, widths, strict=True))
        known = "" if found.known is None else f"{found.known[name]:>9.1%}"
        yield f"{name:12}{len(split):>9,}{cells}{known}"


def _lengths(found: Description) -> Iterator[str]:
    settings = found.data.settings
    unit = "steps" if settings is None else f"{settings.unit}s"
    heads = ("least", *(f"{q} %" for q in QUANTILES[1:-1]), "most")
    cut = "" if settings is None else f"  beyond {settings.max_length:,}"
    yield f"{unit:12}" + "".join(f"{head:>8}" for head in heads) + cut
    for name, lengths in found.lengths.items():
        values = np.percentile(lengths, QUANTILES, method="inverted_cdf").astype(int)
        share = ""
        if settings is not None:
            share = f"{(lengths > settings.max_length).mean():>{len(cut)}.1%}"
        yield f"{name:12}" + "".join(f"{value:>8,}" for value in values) + share


def _repeats(found: Description) -> Iterator[str]:
    yield f"same content in two splits: {len(found.exact):,} pairs"
    if found.near is not None:
        yield f"nearly the same content in two splits: {len(found.near):,} pairs"
        for first, text, second, other in found.near[:3]:
            yield f"  {first}: {_short(text)}"
            yield f"  {second}: {_short(other)}"
    elif found.known is not None:
        yield "nearly the same: pip install 'sequence-zoo[describe]' brings what looks for it"


def _short(text: str, characters: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= characters else f"{line[: characters - 1]}…"
