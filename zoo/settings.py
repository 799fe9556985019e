"""Records of settings that are checked when they are made, and whose fields are flags.

A field's metadata hold its help, with the unit, its group and its bounds; the flags of a program
are made of them, so that a flag and its check cannot drift apart.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from zoo.errors import UsageError, unknown_name

# What TensorFlow counts steps and sizes in has 32 bits.
_MOST = 2**31 - 1


def setting(default: Any, group: str, about: str, **rules: Any) -> Any:
    """A field of `Settings`.

    Args:
        default: its value where none is given; its type is the field's.
        group: under which its flag is listed.
        about: what it is, with its unit.
        **rules: `at_least`, `at_most`, `above`, `below`; `choices`, of words; `instead_of`, the
            number besides which it must be 0, or above; `free`, if no result depends on it.
    """
    return dataclasses.field(default=default, metadata={"help": about, "group": group, **rules})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all such records can do; a field of one is made by `setting`.

    Raises:
        UsageError: naming the field as a flag, its value, and what would work.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))
        for field in dataclasses.fields(self):
            other = field.metadata.get("instead_of", field.name)
            value, instead = getattr(self, field.name), getattr(self, other)
            if other != field.name and (value > 0) == (instead > 0):
                raise UsageError(
                    f"--{field.name}={value} --{other}={instead} cannot work: exactly one of them "
                    "must be above 0, so give the other one as 0"
                )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON has them.

        Example:
            >>> from zoo.config import Config
            >>> Config.from_json(Config(seed=3).to_json()) == Config(seed=3)
            True
        """
        return dataclasses.asdict(self)

    def to_flags(self) -> list[str]:
        """What tells a program so: the fields that are not what they are by default.

        Example:
            >>> from zoo.config import Config
            >>> Config(task="tweets", batch_tokens=0, batch_size=32).to_flags()
            ['--task=tweets', '--batch_tokens=0', '--batch_size=32']
        """
        return [
            f"--{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The configuration that `to_json` gave; what it lacks has its default.

        Raises:
            UsageError: for a field that is unknown, or a value that cannot work.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise unknown_name("field", name, names)
        return cls(**values)

    def differences(self, other: "Settings") -> list[str]:
        """How a run with `other` would come to another result, one line a field.

        Example:
            >>> from zoo.config import Config
            >>> Config(batch_tokens=4096).differences(Config(checkpoint_seconds=5.0))
            ['batch_tokens: 4096 there, 8192 asked']
        """
        return [
            f"{field.name}: {getattr(self, field.name)} there, {getattr(other, field.name)} asked"
            for field in dataclasses.fields(self)
            if not field.metadata.get("free")
            and getattr(self, field.name) != getattr(other, field.name)
        ]


def _checked(field: dataclasses.Field, value: Any) -> Any:
    """The value as its field's type, or a `UsageError`."""
    flag = f"--{field.name}={value}"
    if field.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not field.type:
        raise UsageError(
            f"{flag} cannot work: it must be of type {getattr(field.type, '__name__', field.type)}"
        )
    if isinstance(value, str):
        choices = field.metadata.get("choices")
        if choices and value not in choices:
            raise unknown_name(field.name, value, choices)
        return value
    rules = field.metadata
    if field.type is int and "at_most" not in rules and value > _MOST:
        raise UsageError(f"{flag} cannot work: it must be at most {_MOST}")
    bounds = {
        "at least": ("at_least", lambda limit: value >= limit),
        "at most": ("at_most", lambda limit: value <= limit),
        "above": ("above", lambda limit: value > limit),
        "below": ("below", lambda limit: value < limit),
    }
    wanted = [f"{words} {rules[key]}" for words, (key, _) in bounds.items() if key in rules]
    holds = all(check(rules[key]) for key, check in bounds.values() if key in rules)
    if not holds or not math.isfinite(value):
        raise UsageError(f"{flag} cannot work: it must be {' and '.join(wanted) or 'finite'}")
    return value
