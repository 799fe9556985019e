"""What a SavedModel takes with no one to talk to: the floor under a server's answers.

    python -m zoo.benchmark_floor saved_models/first/1 230 2

Run in a process of its own, with one thread an operation as `zoo-serve` has it: how many there are
is a process's to choose once, and before all else.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.benchmark_serving import sample_text
from zoo.errors import RunError
from zoo.export import load_servable

ROWS = (1, 4, 8, 16, 32, 64)
# Kinds of operations by how their names begin; all others are "other".
_KINDS = {
    "LSTM": ("BlockLSTM",),
    "products": ("MatMul", "_Mkl", "_FusedMatMul", "BatchMatMul", "Einsum"),
    "text": ("StaticRegex", "String", "Unicode", "LookupTable", "RaggedTensorToTensor"),
}
# Operations that hold others, which are counted themselves.
_HOLDING = frozenset({"While", "StatelessWhile", "If", "StatelessIf", "PartitionedCall"})
_PROFILED = 5
# So many that a call's own way through Python does not count.
_TOGETHER = 50
# As the profiler writes them: NODE:KIND, and there may be more behind a "#".
_OPERATION = re.compile(r"[^:#]+:(\w+)(?:#|$)")
_PICOSECONDS = 1e9  # in a millisecond


@dataclass(frozen=True)
class Floor:
    """What batches of so many rows take.

    Args:
        rows: of a batch.
        milliseconds: the 50th and the 99th percentile of a batch's time.
        at_once: texts a second when as many such batches run at once as there are cores.
        spent: milliseconds of a batch by the kind of operation, summed over the threads.
        products: milliseconds of one thread for the products of matrices in a batch's LSTMs, made
            by TensorFlow's own product one after the other; 0 if the model has no LSTM.
    """

    rows: int
    milliseconds: tuple[float, float]
    at_once: float
    spent: dict[str, float]
    products: float


def measure(model: Path, words: int, seconds: float) -> list[Floor]:
    """Measures batches of each of `ROWS`.

    Args:
        model: a SavedModel's folder, `NAME/VERSION` or `NAME`.
        words: of the text in every row.
        seconds: how long each size is asked.
    """
    module = load_servable(model).module
    serve = module.signatures["serving_default"]
    shapes = [tuple(variable.shape) for variable in serve.variables]
    found = []
    for rows in ROWS:
        batch = tf.constant([sample_text(words)] * rows)

        def ask(batch: tf.Tensor = batch) -> None:
            serve(text=batch)["label"].numpy()

        times = 1e3 * _timed(ask, seconds)
        low, high = np.percentile(times, (50, 99)).tolist()
        products = 1e3 * sum(
            words * float(np.median(_timed(_products(rows, *shape), seconds / 4))) / _TOGETHER
            for shape in lstm_shapes(shapes)
        )
        at_once = rows * _calls_per_second(ask, seconds)
        found.append(Floor(rows, (low, high), at_once, _spent(ask), products))
    return found


def in_own_process(model: Path, words: int, seconds: float) -> list[Floor]:
    """`measure`, with one thread an operation.

    Raises:
        RunError: if it fails there.
    """
    command = [sys.executable, "-m", "zoo.benchmark_floor", str(model), str(words), str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RunError(f"{model} could not be measured: {' '.join(last)}")
    return [Floor(**one) for one in json.loads(done.stdout.splitlines()[-1])]


def table(found: Sequence[Floor]) -> str:
    """The figures as Markdown.

    Example:
        >>> spent = {"LSTM": 6.0, "text": 1.0, "other": 1.0}
        >>> print(table([Floor(8, (4.0, 5.0), 3000.0, spent, 3.0)]))
        | rows | p50 (ms) | p99 | texts a second | at once | LSTM | its products | text | other |
        |--:|--:|--:|--:|--:|--:|--:|--:|--:|
        | 8 | 4.0 | 5.0 | 2,000 | 3,000 | 6.0 | 3.0 | 1.0 | 1.0 |
    """
    lines = [
        "| rows | p50 (ms) | p99 | texts a second | at once | LSTM | its products | text | other |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        low, high = one.milliseconds
        other = one.spent.get("other", 0.0) + one.spent.get("products", 0.0)
        times = (one.spent.get("LSTM", 0.0), one.products, one.spent.get("text", 0.0), other)
        rates = f"{1e3 * one.rows / low:,.0f}", f"{one.at_once:,.0f}"
        cells = (one.rows, f"{low:.1f}", f"{high:.1f}", *rates)
        lines.append(f"| {' | '.join(map(str, (*cells, *(f'{time:.1f}' for time in times))))} |")
    return "\n".join(lines)


def lstm_shapes(shapes: Iterable[tuple[int, ...]]) -> list[tuple[int, int]]:
    """The matrix of each LSTM, input and recurrent weights in one, among a model's weights.

    Example:
        >>> lstm_shapes([(20_000, 200), (200, 256), (64, 256), (256,), (128, 2)])
        [(264, 256)]
    """
    found, before = [], (0, 0)
    for shape in shapes:
        if len(shape) == 2 and shape[1] == 4 * shape[0] == before[1]:
            found.append((before[0] + shape[0], shape[1]))
        before = shape if len(shape) == 2 else (0, 0)
    return found


def _timed(work: Callable[[], Any], seconds: float) -> np.ndarray:
    for _ in range(3):
        work()
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        times.append(time.perf_counter() - start)
    return np.array(times)


def _calls_per_second(work: Callable[[], Any], seconds: float) -> float:
    """With as many threads at it as there are cores."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        times = pool.map(lambda _: _timed(work, seconds), range(cores))
        return sum(1 / float(each.mean()) for each in times)


def _products(rows: int, inner: int, columns: int) -> Callable[[], Any]:
    """`_TOGETHER` products, each with rows of its own, one after the other in one graph."""
    left, right = tf.ones([_TOGETHER, rows, inner]), tf.ones([inner, columns])

    @tf.function
    def multiply(left: tf.Tensor, right: tf.Tensor) -> list[tf.Tensor]:
        made: list[tf.Tensor] = []
        for one in tf.unstack(left):
            with tf.control_dependencies(made[-1:]):
                made.append(tf.matmul(one, right))
        return made  # all: TensorFlow leaves out what nobody is given

    return lambda: multiply(left, right)


def _spent(work: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds that TensorFlow's profiler saw, by the kind of operation."""
    # No public name leads to what the profiler wrote.
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        with tf.profiler.experimental.Profile(folder, options):
            for _ in range(_PROFILED):
                work()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = XSpace.FromString(path.read_bytes())
    spent: Counter[str] = Counter()
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                operation = _OPERATION.match(names[event.metadata_id])
                if operation and operation[1].removeprefix("Stateful") not in _HOLDING:
                    spent[_kind(operation[1])] += event.duration_ps / _PICOSECONDS / _PROFILED
    return dict(spent)


def _kind(operation: str) -> str:
    return next((kind for kind, starts in _KINDS.items() if operation.startswith(starts)), "other")


if __name__ == "__main__":
    tf.config.threading.set_intra_op_parallelism_threads(1)
    folder, words, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    print(json.dumps([asdict(one) for one in measure(folder, words, seconds)]))
