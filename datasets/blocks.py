"""Texts without repeats, cut into blocks of their file's order.

A data set's builder loads this file by its path, for `datasets/` is no package.
"""

import collections
from collections.abc import Callable, Iterable

_BLOCK_ROWS = 50
_SHORTEST_KEY = 2
_SPLITS = ("train", "validation", "test")


def split_of(number: int) -> str:
    """The split of a class's row of that number: of ten blocks of 50, 7 : 1 : 2."""
    block = number // _BLOCK_ROWS % 10
    return "test" if block in (4, 9) else "validation" if block == 7 else "train"


def split_texts(
    rows: Iterable[tuple[str, str]], key_of: Callable[[str], str]
) -> dict[str, list[tuple[str, str, str]]]:
    """Drops repeats, and puts what is left into splits by its number within its class.

    Texts that stand near each other in a file are often of one source, so splits are blocks.

    Args:
        rows: `(text, label)` in the order of the file.
        key_of: what of a text tells whether another one repeats it. Of texts of one key the first
            is kept, none if their labels differ or the key is shorter than two characters.

    Returns:
        For each split, `(name, text, label)` of its rows; the name is stable.
    """
    rows = [(key_of(text), text, label) for text, label in rows]
    labels: dict[str, set[str]] = collections.defaultdict(set)
    for key, _, label in rows:
        labels[key].add(label)
    splits: dict[str, list[tuple[str, str, str]]] = {name: [] for name in _SPLITS}
    seen: collections.Counter[str] = collections.Counter()
    taken: set[str] = set()
    for key, text, label in rows:
        if len(key) < _SHORTEST_KEY or len(labels[key]) > 1 or key in taken:
            continue
        taken.add(key)
        splits[split_of(seen[label])].append((f"{label}_{seen[label]:05d}", text, label))
        seen[label] += 1
    return splits
