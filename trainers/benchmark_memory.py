"""Measure what a run holds in memory as its task grows.

python trainers/benchmark_memory.py --examples=50000,500000,5000000
"""

import sys
from datetime import date

import command
import measuring
from absl import flags

from zoo.errors import UsageError

flags.DEFINE_list("examples", ["50000", "500000"], "sizes of tasks, one run each")
_STEPS = flags.DEFINE_integer("steps", 300, "steps of training", lower_bound=1)
flags.DEFINE_string("out", "", "write OUT.md and OUT.json; left out: print alone")


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    sizes, out = measuring.numbers("examples", "50000,500000"), measuring.out()
    if sizes != sorted(set(sizes)) or sizes[0] <= 1_000:
        raise UsageError("--examples cannot work: give rising numbers above 1000")
    with command.quiet():
        from zoo import benchmark_memory
        from zoo.benchmark import machine
    found: list[benchmark_memory.Measured] = []
    for size in sizes:
        with command.quiet():  # TensorFlow greets every process
            found += benchmark_memory.measure([size], _STEPS.value)
        # A large task takes long, and might never end: what is known by then is not lost.
        print(benchmark_memory.row(found[-1]), file=sys.stderr, flush=True)
    about = f"{machine()}, {date.today()}; bag small, {_STEPS.value} steps"
    text = f"{about}\n\n{benchmark_memory.table(found)}"
    measuring.tell(text, benchmark_memory.as_json(found), out)


if __name__ == "__main__":
    command.run(main)
