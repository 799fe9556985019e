"""Tracks of features out of `.ts` files, the format of the time series archives.

A data set's builder loads this file by its path, for `datasets/` is no package.
"""

import collections
import pathlib
import re
from collections.abc import Mapping

import numpy as np

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(E[-+]?\d+)?", re.ASCII | re.IGNORECASE)
_QUOTED = 40  # characters of a malformed value that its error repeats


def read_cases(
    path: pathlib.Path, channels: int, classes: Mapping[str, str]
) -> list[tuple[np.ndarray, str]]:
    """Reads a file whose cases are tracks of several channels without gaps, and have a class.

    Comments start with `#` and headers with `@`; after `@data` every line is a case, channels
    separated by `:`, their values by `,`, the class last.

    Args:
        path: of the file.
        channels: how many the file must have, D.
        classes: the classes as the file names them, in its header's order, and as labels here.

    Returns:
        `(track, label)` of each case in the order of the file; a track is `float32[T, D]`.

    Raises:
        ValueError: if the file is not as described, naming it and the line.
    """
    header: dict[str, str] = {}
    cases: list[tuple[np.ndarray, str]] = []
    in_data, steps, number = False, None, 0
    # What is not ASCII is left to the checks of a header's or a case's content.
    with path.open(encoding="ascii", errors="backslashreplace") as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip("\n")
            try:
                if in_data:
                    cases.append(_case(line, channels, classes, steps))
                elif line == "@data":
                    in_data, steps = True, _steps(header, channels, classes)
                elif line.startswith("@"):
                    key, _, value = line[1:].partition(" ")
                    if key in header:
                        raise ValueError(f"a second header @{key}")
                    header[key] = value
                elif not line.startswith("#"):
                    raise ValueError("before @data, and neither a comment nor a header")
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    if not cases:
        raise ValueError(f"{path}, line {number}: ends before {'a case' if in_data else '@data'}")
    return cases


def _steps(header: dict[str, str], channels: int, classes: Mapping[str, str]) -> int | None:
    """Checks the header; returns the length of all tracks, or `None` where they differ."""
    wanted = {
        "timeStamps": "false",
        "missing": "false",
        "univariate": "false",
        "dimensions": str(channels),
        "classLabel": " ".join(["true", *classes]),
    }
    for key, value in wanted.items():
        if header.get(key) != value:
            raise ValueError(f"the header's @{key} is {_quote(header.get(key))}, not {value!r}")
    equal, steps = header.get("equalLength"), header.get("seriesLength")
    if equal == "false" and steps is None:
        return None
    if equal == "true" and steps is not None and re.fullmatch("[1-9][0-9]*", steps):
        return int(steps)
    raise ValueError(
        f"the header's @equalLength is {_quote(equal)} and its @seriesLength {_quote(steps)}"
    )


def _case(
    line: str, channels: int, classes: Mapping[str, str], steps: int | None
) -> tuple[np.ndarray, str]:
    *texts, name = line.split(":")
    if len(texts) != channels:
        raise ValueError(f"{len(texts)} channels and a class, not {channels} and a class")
    if name not in classes:
        raise ValueError(f"the class {_quote(name)} is none of {', '.join(classes)}")
    values = [[_value(text) for text in channel.split(",")] for channel in texts]
    lengths = sorted({len(channel) for channel in values})
    if len(lengths) > 1:
        raise ValueError(f"channels of {' and '.join(map(str, lengths))} steps")
    if steps is not None and lengths != [steps]:
        raise ValueError(f"{lengths[0]} steps, not the header's {steps}")
    with np.errstate(over="ignore"):
        track = np.array(values, np.float32).T
    if not np.isfinite(track).all():
        raise ValueError("a number beyond float32")
    return track, classes[name]


def _value(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{_quote(text)} is no number")
    return float(text)


def _quote(text: str | None) -> str:
    return "missing" if text is None else f"{text!r:.{_QUOTED}}"


def split_cases(
    train: list[tuple[np.ndarray, str]], test: list[tuple[np.ndarray, str]], held_out: int
) -> dict[str, list[tuple[str, np.ndarray, str]]]:
    """Cuts the validation split from the end of each class's training cases.

    Args:
        train: cases of the training file, in its order.
        test: cases of the test file, which is the test split.
        held_out: how many of each class are for validation.

    Returns:
        For each split, `(key, track, label)` of its cases in their order. The key is the label and
        the case's number within its class and file.
    """
    splits: dict[str, list[tuple[str, np.ndarray, str]]] = {"train": [], "validation": []}
    totals = collections.Counter(label for _, label in train)
    for key, track, label in _numbered(train):
        last = int(key.rpartition("_")[2]) >= totals[label] - held_out
        splits["validation" if last else "train"].append((key, track, label))
    return {**splits, "test": _numbered(test)}


def _numbered(cases: list[tuple[np.ndarray, str]]) -> list[tuple[str, np.ndarray, str]]:
    seen: collections.Counter[str] = collections.Counter()
    numbered = []
    for track, label in cases:
        numbered.append((f"{label}_{seen[label]:02d}", track, label))
        seen[label] += 1
    return numbered
