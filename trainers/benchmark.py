"""Time our layers against Keras's, and PyTorch's where it is installed.

python trainers/benchmark.py --cases=forward --out=benchmark
python trainers/benchmark.py --cases=generate --rounds=1 --threads=2x2

Each case runs in a fresh process for each thread setting. A time is the least of all rounds, for
whatever else the machine does only adds; a ratio is the peer's best setting over ours.
"""

import re
from datetime import date

import command
from absl import flags

from zoo.errors import UsageError
from zoo.paths import expanded

_CASES = flags.DEFINE_string("cases", "", "run the cases whose name holds this; left out: all")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "how many times each is timed", lower_bound=1)
_THREADS = flags.DEFINE_list(
    "threads", ["1x2", "2x2"], "settings to try, each of threads within x across operations"
)
_OUT = flags.DEFINE_string("out", "", "write OUT.txt, OUT.json and OUT.png; left out: print alone")


def _counts(setting: str) -> tuple[int, int]:
    found = re.fullmatch("([1-9][0-9]*)x([1-9][0-9]*)", setting)
    if found is None:
        raise UsageError(f"--threads must be settings like 1x2,2x2, not {setting!r}")
    return int(found[1]), int(found[2])


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    out = _OUT.value and expanded(_OUT.value)
    for setting in _THREADS.value:
        _counts(setting)
    with command.quiet():
        from zoo import benchmark, benchmark_table

    known = [*benchmark.CASES, *benchmark.MEMORY]
    cases = [name for name in known if _CASES.value in name]
    if not cases:
        raise UsageError(f"--cases={_CASES.value!r} is in the name of none of {'; '.join(known)}")
    results: dict[str, dict[str, dict[str, float]]] = {}
    for case in cases:
        results[case] = {}
        settings = _THREADS.value if case in benchmark.CASES else _THREADS.value[:1]
        for setting in benchmark.THREADS.get(case, settings):
            with command.quiet():  # TensorFlow greets every process
                found = benchmark.measure(case, _counts(setting), _ROUNDS.value)
            results[case][setting] = found
        print(benchmark_table.table({case: results[case]}), flush=True)
    for line in benchmark_table.means(results):
        print(line)
    if out:
        title = f"{benchmark.machine()}, {date.today()}"
        benchmark_table.save(out, results, title)


if __name__ == "__main__":
    command.run(main)
