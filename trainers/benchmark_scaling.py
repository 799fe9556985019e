"""Times a training step shared by several workers of this machine, and what they send.

python trainers/benchmark_scaling.py --model=bilstm --workers=1,2,4
"""

from datetime import date
from pathlib import Path

import command
from absl import flags

from zoo.errors import UsageError

_WORKERS = flags.DEFINE_list("workers", ["1", "2", "4"], "numbers of workers, one run each")
_MODEL = flags.DEFINE_string("model", "bilstm", "as trainers/train.py's")
_SIZE = flags.DEFINE_string("size", "small", "as trainers/train.py's")
_BATCH = flags.DEFINE_integer("batch_size", 64, "rows of a global batch", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 128, "tokens of a row", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "steps that are measured", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "write OUT.md and OUT.json; left out: print alone")


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    numbers = _WORKERS.value
    if not numbers or not all(one.isdecimal() and int(one) for one in numbers):
        raise UsageError(f"--workers={','.join(numbers)} cannot work: give numbers like 1,2")
    out = Path(_OUT.value).expanduser()
    if _OUT.value and (not out.name or not out.parent.is_dir()):  # now, not after all the runs
        raise UsageError(f"--out={_OUT.value} cannot work: it must name files in a folder")
    with command.quiet():
        from zoo import benchmark_scaling
        from zoo.benchmark import machine
    found = benchmark_scaling.measure(
        [int(one) for one in numbers],
        _MODEL.value,
        _SIZE.value,
        _BATCH.value,
        _LENGTH.value,
        _STEPS.value,
    )
    about = (
        f"{machine()}, {date.today()}; {_MODEL.value} {_SIZE.value}, batches of {_BATCH.value} "
        f"rows of {_LENGTH.value} tokens, {_STEPS.value} steps"
    )
    text = f"{about}\n\n{benchmark_scaling.table(found)}"
    print(text)
    if _OUT.value:
        out.with_name(f"{out.name}.md").write_text(f"{text}\n", "utf-8")
        out.with_name(f"{out.name}.json").write_text(benchmark_scaling.as_json(found), "utf-8")


if __name__ == "__main__":
    command.run(main)
