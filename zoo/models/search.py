"""What is worth trying: between which values the settings of a family are searched.

Each family declares its own `SEARCH`, beside its sizes; `zoo.tuning` draws from it. A name is a
field of `zoo.config.Config`, or `size.` and a number or choice of the family's size.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Every number from `low` to `high`.

    Args:
        low: the least.
        high: the most.
        log: whether to search orders of magnitude instead of differences.

    Raises:
        ValueError: unless `low` is below `high`, and above 0 for orders of magnitude.

    Example:
        >>> Range(3.0, 2.0)
        Traceback (most recent call last):
        ValueError: a range from 3.0 to 2.0 holds nothing
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"a range from {self.low} to {self.high} holds nothing")
        if self.log and self.low <= 0:
            raise ValueError(f"a range from {self.low} has no order of magnitude: begin above 0")


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Args:
        values: what may be chosen.

    Example:
        >>> Choice((32, 64)).values
        (32, 64)
    """

    values: tuple[int | float | str, ...]


Space = Mapping[str, Range | Choice]

# What every family that has an embedding may be tried with.
COMMON: Space = {
    "learning_rate": Range(5e-4, 1e-2, log=True),
    "dropout_rate": Range(0.1, 0.6),
    "word_dropout_rate": Range(0.0, 0.4),
    "weight_decay": Range(1e-3, 0.3, log=True),
    "label_smoothing_rate": Range(0.0, 0.15),
    "embedding_step_rate": Range(0.05, 1.0, log=True),
    "word_vectors": Choice(("none", "ppmi")),
    "batch_tokens": Choice((1000, 2000, 4000, 8000, 16000)),
}
