"""Time our layers against Keras's on a GPU, under JAX or PyTorch.

KERAS_BACKEND=jax python trainers/benchmark_gpu.py --out=benchmark_gpu_jax

A time is the least of all rounds; a ratio is Keras's time over ours.
"""

from datetime import date

import command
from absl import flags

from zoo.errors import RunError, UsageError
from zoo.paths import expanded

_CASES = flags.DEFINE_string("cases", "", "run the cases whose name holds this; left out: all")
_ROUNDS = flags.DEFINE_integer("rounds", 15, "how many times each is timed", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "write OUT.txt and OUT.json; left out: print alone")


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    out = _OUT.value and expanded(_OUT.value)
    with command.quiet():
        import keras

        from zoo import benchmark_gpu, benchmark_table

    if keras.backend.backend() not in ("jax", "torch"):
        raise UsageError("KERAS_BACKEND must be jax or torch here")
    cases = [name for name in benchmark_gpu.CASES if _CASES.value in name]
    if not cases:
        known = "; ".join(benchmark_gpu.CASES)
        raise UsageError(f"--cases={_CASES.value!r} is in the name of none of {known}")
    if not benchmark_gpu.has_gpu():
        raise RunError("the backend finds no GPU")
    results = {}
    for case in cases:
        results[case] = {"gpu": benchmark_gpu.seconds(case, _ROUNDS.value)}
        print(benchmark_table.table({case: results[case]}), flush=True)
    if out:
        title = f"{benchmark_gpu.machine()}, {date.today()}"
        benchmark_table.save(out, results, title, picture=False)


if __name__ == "__main__":
    command.run(main)
