"""Times a training step shared by several workers of this machine, and what they send.

python trainers/benchmark_scaling.py --model=bilstm --workers=1,2,4
"""

from datetime import date

import command
import measuring
from absl import flags

flags.DEFINE_list("workers", ["1", "2", "4"], "numbers of workers, one run each")
_MODEL = flags.DEFINE_string("model", "bilstm", "as trainers/train.py's")
_SIZE = flags.DEFINE_string("size", "small", "as trainers/train.py's")
_BATCH = flags.DEFINE_integer("batch_size", 64, "rows of a global batch", lower_bound=1)
_LENGTH = flags.DEFINE_integer("length", 128, "tokens of a row", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 20, "steps that are measured", lower_bound=1)
flags.DEFINE_string("out", "", "write OUT.md and OUT.json; left out: print alone")


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    workers, out = measuring.numbers("workers", "1,2"), measuring.out()
    with command.quiet():
        from zoo import benchmark_scaling
        from zoo.benchmark import machine
    found = benchmark_scaling.measure(
        workers,
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
    measuring.tell(text, benchmark_scaling.as_json(found), out)


if __name__ == "__main__":
    command.run(main)
