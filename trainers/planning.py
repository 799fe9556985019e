"""What the programs that train many models by recipes have in common."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import command
from absl import flags

from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.paths import expanded

_HERE = Path(__file__).resolve().parent
# What of them is typed again for the same table.
_LASTING = ("seeds", "workdir", "recipes", "results")


def define(name: str) -> None:
    """The flags of a program whose runs lie in runs/NAME."""
    where: Any = {"module_name": "run flags"}
    text, switch = flags.DEFINE_string, flags.DEFINE_boolean
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds, one run each", **where)
    text("workdir", f"runs/{name}", "folder of the runs and their logs", **where)
    text("data_dir", None, "prepared data; left out: TFDS's own folder", **where)
    text("recipes", str(_HERE / "recipes"), "folder of the flag files", **where)
    switch("resume", False, "go on with the runs that are in the folder", **where)
    switch("table_only", False, "train nothing: the table of what is there", **where)
    text("results", None, "file that keeps the figures of runs that ended", **where)
    text("out", None, f"write OUT.md, .json and pictures; else WORKDIR/{name}", **where)


def folder(flag: str) -> Path:
    """The path that a flag gives."""
    return expanded(str(flags.FLAGS[flag].value))


def asked() -> tuple[list[int], Path]:
    """The numbers in --seeds, and the folder of the runs; a path that is empty is refused."""
    for name in ("workdir", "data_dir", "recipes", "results", "out"):
        if flags.FLAGS[name].value == "":  # Path("") would be the current folder
            raise UsageError(f"--{name}= cannot work: give a path, or leave it out")
    given = flags.FLAGS.seeds
    if not given or not all(seed.isascii() and seed.isdigit() for seed in given):
        raise UsageError(f"--seeds={','.join(given)} cannot work: give numbers like 0,1,2")
    return [int(seed) for seed in given], folder("workdir")


def config(arguments: Sequence[str]) -> Config:
    """What these flags of train.py describe."""
    values = flags.FlagValues()
    command.define(Config, to=values)
    try:
        values(["train.py", *arguments])
    except (flags.Error, UnicodeDecodeError) as error:  # the latter from a recipe
        raise UsageError(str(error)) from error
    return command.read(Config, values)


def program(name: str) -> list[str]:
    """A program beside this one, on the same data."""
    data = flags.FLAGS.data_dir
    return [sys.executable, str(_HERE / name), *[f"--data_dir={data}"] * (data is not None)]


def finish(
    name: str, kinds: Sequence[str], count: int, failed: list[str], write: Callable[..., Any]
) -> None:
    """Calls `write(out, typed)` if a job of `count` is left, and tells which have failed."""
    if len(failed) < count:
        given = [flags.FLAGS[flag] for flag in (*kinds, *_LASTING)]
        words = [flag.serialize() for flag in given if flag.present]
        out = Path(flags.FLAGS.out or folder("workdir") / name)
        for file in write(out, shlex.join(["python", f"trainers/{name}.py", *words])):
            print(f"written: {file}")
    if failed:
        raise RunError(f"{len(failed)} of {count} jobs failed: {', '.join(failed)}")
