"""ListOps: nested operations on lists of digits, whose value is the class; made by a rule."""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import tensorflow_datasets as tfds

OPERATORS = ("[MIN", "[MAX", "[MED", "[SM")
DIGITS = tuple("0123456789")
END = "]"
# Of the whole tree: the root has depth 1, and what has depth 10 is a digit.
MAX_DEPTH = 10
MAX_ARGUMENTS = 10

_VALUES = {digit: value for value, digit in enumerate(DIGITS)}
# One draw decides a node. A quarter of its outcomes are operators, each as often with 2 as with 10
# arguments; the others are digits, and so are all 720 of them where the depth allows nothing else.
_OUTCOMES = 720
_OPERATIONS = [
    (operator, arguments)
    for operator in OPERATORS
    for arguments in range(2, MAX_ARGUMENTS + 1)
    for _ in range(5)
]
_BLOCK = 65_536


@dataclasses.dataclass(kw_only=True)
class ListOpsConfig(tfds.core.BuilderConfig):
    """How long expressions are, and how many of them a split holds.

    Attributes:
        min_tokens: tokens of the shortest expression; operators, digits and brackets count alike.
        max_tokens: tokens of the longest.
        splits: seed and number of expressions of each split. A text that two splits draw stays in
            the one named first. Drawing has no end if there are not so many of such lengths.
    """

    min_tokens: int
    max_tokens: int
    splits: dict[str, tuple[int, int]]


class Builder(tfds.core.GeneratorBasedBuilder):
    """The data set `listops`."""

    # The card and the citations lie beside this file, which is in no package.
    pkg_dir_path = tfds.core.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads it off the class)
    BUILDER_CONFIGS = [  # noqa: RUF012 (the same)
        ListOpsConfig(
            name="short",
            description="24,000 expressions of 10 to 200 tokens.",
            min_tokens=10,
            max_tokens=200,
            splits={"test": (11, 2_000), "validation": (12, 2_000), "train": (13, 20_000)},
        ),
        ListOpsConfig(
            name="lra",
            description="100,000 expressions of 501 to 1,999 tokens, as Long Range Arena has it.",
            # Its generator takes what is longer than 500 and shorter than 2,000.
            min_tokens=501,
            max_tokens=1_999,
            splits={"test": (21, 2_000), "validation": (22, 2_000), "train": (23, 96_000)},
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(DIGITS)),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://github.com/google-research/long-range-arena",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        return {name: self._generate_examples(name) for name in self.builder_config.splits}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
        for number, (text, label) in enumerate(examples(self.builder_config, split)):
            yield f"{number:06d}", {"text": text, "label": label}


def examples(config: ListOpsConfig, split: str) -> Iterator[tuple[str, int]]:
    """The expressions of a split with their values; the same ones whenever it is asked.

    Args:
        config: lengths, seeds and numbers of expressions.
        split: one of `config.splits`.

    Returns:
        `(text, value)`, tokens being separated by single spaces. No text occurs twice, nor in a
        split that the configuration names before this one.

    Raises:
        ValueError: if the configuration has no such split.
    """
    names = list(config.splits)
    taken: set[bytes] = set()
    # The splits before it are drawn again, so that no split depends on another's having run.
    for name in names[: names.index(split) + 1]:
        seed, rows = config.splits[name]
        wanted = len(taken) + rows
        drawn = expressions(seed, config.min_tokens, config.max_tokens)
        while len(taken) < wanted:
            text = next(drawn)
            digest = hashlib.sha256(text.encode()).digest()
            if digest in taken:
                continue
            taken.add(digest)
            if name == split:
                yield text, evaluate(text)


def expressions(seed: int, min_tokens: int, max_tokens: int) -> Iterator[str]:
    """Draws expressions without end, and keeps those of the lengths asked for.

    Args:
        seed: of NumPy's PCG64.
        min_tokens: tokens of the shortest.
        max_tokens: tokens of the longest.

    Returns:
        Texts such as `[MAX 4 3 [MIN 2 3 ] ]`; one may come again.
    """
    draws = _draws(seed)
    while True:
        tokens = draw_expression(draws, max_tokens)
        if min_tokens <= len(tokens) <= max_tokens:
            yield " ".join(tokens)


def draw_expression(draws: Iterator[int], max_tokens: int) -> list[str]:
    """Draws one expression of any length, as Long Range Arena's `generate_tree` does.

    Args:
        draws: whole numbers from 0 to 719, of equal probability.
        max_tokens: where to stop, for trees that grow far beyond any use.

    Returns:
        Its tokens; if they are more than `max_tokens`, some first part of it.
    """
    tokens: list[str] = []
    missing: list[int] = []  # arguments yet to come, of each operation that is open
    while len(tokens) <= max_tokens:
        draw = next(draws)
        if draw < len(_OPERATIONS) and len(missing) < MAX_DEPTH - 1:
            operator, arguments = _OPERATIONS[draw]
            tokens.append(operator)
            missing.append(arguments)
            continue
        tokens.append(DIGITS[draw % 10])
        while missing:
            missing[-1] -= 1
            if missing[-1]:
                break
            missing.pop()
            tokens.append(END)
        if not missing:
            break
    return tokens


def _draws(seed: int) -> Iterator[int]:
    generator = np.random.Generator(np.random.PCG64(seed))
    while True:
        # By random() alone: how integers() meets a bound is what NumPy may rather change.
        yield from (generator.random(_BLOCK) * _OUTCOMES).astype(np.int64).tolist()


def evaluate(text: str) -> int:
    """The value of an expression, 0 to 9.

    `[MIN`, `[MAX`: least and greatest argument. `[SM`: the sum modulo 10. `[MED`: the median; of an
    even number of arguments the mean of the middle two, rounded down.

    Raises:
        ValueError: if it is no expression.

    Example:
        >>> evaluate("[MAX 2 [MED 4 7 ] [SM 9 2 ] ]")
        5
    """
    tokens = iter(text.split(" "))
    first = next(tokens)
    value = _VALUES[first] if first in _VALUES else _operation(first, tokens)
    rest = next(tokens, None)
    if rest is not None:
        raise ValueError(f"{rest!r} comes after the end of an expression")
    return value


def _operation(operator: str, rest: Iterator[str]) -> int:
    """Applies an operator to the arguments that come up to its closing bracket."""
    if operator not in OPERATORS:
        raise ValueError(f"{operator!r} is neither a digit nor one of {', '.join(OPERATORS)}")
    arguments: list[int] = []
    for token in rest:
        if token in _VALUES:
            arguments.append(_VALUES[token])
        elif token == END and arguments:
            return _apply(operator, arguments)
        else:
            arguments.append(_operation(token, rest))
    raise ValueError(f"{operator} has no closing {END}")


def _apply(operator: str, arguments: list[int]) -> int:
    if operator == "[MIN":
        return min(arguments)
    if operator == "[MAX":
        return max(arguments)
    if operator == "[SM":
        return sum(arguments) % 10
    ordered = sorted(arguments)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) // 2
