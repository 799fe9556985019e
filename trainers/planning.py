"""What the programs that train many models by recipes have in common."""

import shlex
from collections.abc import Sequence
from typing import Any

import command
from absl import flags

from zoo.config import Config
from zoo.errors import UsageError


def seeds(given: Sequence[str]) -> list[int]:
    """The numbers in a `--seeds`."""
    if not given or not all(seed.isascii() and seed.isdigit() for seed in given):
        raise UsageError(f"--seeds={','.join(given)} cannot work: give numbers like 0,1,2")
    return [int(seed) for seed in given]


def config(arguments: Sequence[str]) -> Config:
    """What these flags of train.py describe."""
    values = flags.FlagValues()
    command.define(Config, to=values)
    try:
        values(["train.py", *arguments])
    except (flags.Error, UnicodeDecodeError) as error:  # the latter from a recipe
        raise UsageError(str(error)) from error
    return command.read(Config, values)


def typed(program: str, named: Sequence[Any]) -> str:
    """What to type for the same again, by those of these flags that were given."""
    words = [flags.FLAGS[flag.name].serialize() for flag in named if flag.present]
    return shlex.join(["python", f"trainers/{program}", *words])
