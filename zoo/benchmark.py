"""Times of our layers against their peers, taken in turns in one process.

A case is a function that returns what to time: a dict of names and functions without arguments, the
peer first. Nothing here decides anything; `trainers/benchmark.py` prints what it measures.
"""

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from zoo.plots import draw_ratios

Contest = dict[str, Callable[[], Any]]
SHAPES = (
    (32, 128, 64),
    (32, 256, 128),
    (64, 256, 128),
    (128, 256, 128),
    (32, 512, 256),
    (128, 256, 256),
)


def train_lstm(rows: int, steps: int, size: int, policy: str = "float32") -> Contest:
    """One gradient of an LSTM's outputs, for its input and weights; Keras's is in float32."""
    x, upstream = (_noise(rows, steps, size, seed=seed) for seed in (1, 2))
    return {
        "keras": _gradients(_lstm("keras", size), x, upstream),
        "zoo": _gradients(_lstm("zoo", size, policy), x, upstream),
    }


def train_lstm_on_reviews(rows: int = 64, cap: int = 512, size: int = 128) -> Contest:
    """The same with lengths like those of film reviews: log-normal, mean about 220, capped."""
    lengths = np.random.default_rng(3).lognormal(5.2, 0.65, rows).astype("int32").clip(10, cap)
    x, upstream = (_noise(rows, cap, size, seed=seed) for seed in (1, 2))
    mask = np.arange(cap) < lengths[:, None]
    return {
        name: _gradients(_lstm(name, size), x, upstream, mask=mask) for name in ("keras", "zoo")
    }


def run_lstm(rows: int, steps: int = 256, size: int = 128) -> Contest:
    """An LSTM's outputs, without a gradient."""
    import tensorflow as tf

    x = tf.constant(_noise(rows, steps, size, seed=1))
    contest: Contest = {}
    for name in ("keras", "zoo"):
        run = tf.function(_lstm(name, size), autograph=False)
        contest[name] = partial(run, x)
    return contest


def train_attention(
    rows: int = 16, steps: int = 512, size: int = 256, heads: int = 8, policy: str = "float32"
) -> Contest:
    """One gradient of self-attention, for its input and weights; Keras's is in float32."""
    x, upstream = (_noise(rows, steps, size, seed=seed) for seed in (1, 2))
    ours = _attention("zoo", heads, size, policy)
    return {
        "keras": _gradients(_attention("keras", heads, size), x, upstream, twice=True),
        "zoo": _gradients(ours, x, upstream, twice=True),
    }


def train_torch_lstm(rows: int = 64, steps: int = 256, size: int = 128) -> Contest:
    """One gradient of an LSTM under PyTorch, against PyTorch's own."""
    import torch

    x = torch.tensor(_noise(rows, steps, size, seed=1), requires_grad=True)
    ours = _lstm("zoo", size)
    ours(x)
    theirs = torch.nn.LSTM(size, size, batch_first=True)

    def step(run: Callable) -> None:
        run(x).sum().backward()

    return {"torch": partial(step, lambda x: theirs(x)[0]), "zoo": partial(step, ours)}


CASES: dict[str, Callable[[], Contest]] = {
    **{
        f"lstm training {'x'.join(map(str, shape))} {policy}": partial(train_lstm, *shape, policy)
        for policy in ("float32", "mixed_bfloat16")
        for shape in SHAPES
    },
    "lstm training, review lengths": train_lstm_on_reviews,
    **{f"lstm forward, batch {rows}": partial(run_lstm, rows) for rows in (1, 8, 32)},
    "attention training float32": train_attention,
    "attention training mixed_bfloat16": partial(train_attention, policy="mixed_bfloat16"),
    "lstm training under torch": train_torch_lstm,
}


def seconds(case: str, rounds: int = 7) -> dict[str, float]:
    """The median of each contestant's times, taken in turns after two runs that are not counted.

    Args:
        case: a key of `CASES`.
        rounds: how many times each is timed.

    Returns:
        Seconds by name, the peer first.

    Raises:
        KeyError: for another case.
    """
    contest = CASES[case]()
    times: dict[str, list[float]] = {name: [] for name in contest}
    for turn in range(rounds + 2):
        for name, run in contest.items():
            start = time.perf_counter()
            run()
            if turn > 1:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def attention_memory(name: str, rows: int, steps: int, size: int = 256, heads: int = 8) -> float:
    """MiB that one gradient of self-attention adds to this process's peak; for a fresh process."""
    x, upstream = (_noise(rows, steps, size, seed=seed) for seed in (1, 2))
    step = _gradients(_attention(name, heads, size), x, upstream, twice=True)
    _gradients(_attention(name, heads, size), x[:1, :32], upstream[:1, :32], twice=True)()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def ratio(settings: dict[str, dict[str, float]]) -> float:
    """The peer's best time over ours, each at the setting that is best for it.

    Example:
        >>> ratio({"1x2": {"keras": 3.0, "zoo": 2.0}, "2x2": {"keras": 4.0, "zoo": 1.5}})
        2.0
    """
    peer, ours = next(iter(settings.values()))
    best = {name: min(times[name] for times in settings.values()) for name in (peer, ours)}
    return best[peer] / best[ours]


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """A line a case: its times by setting, and the ratio.

    Args:
        results: seconds by case, thread setting and name.
    """
    lines = []
    for case, settings in results.items():
        times = "  ".join(
            f"{threads}: " + ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in by_name.items())
            for threads, by_name in settings.items()
        )
        lines.append(f"{case:<46} {ratio(settings):5.2f}  {times}")
    return "\n".join(lines)


def save(out: Path, results: dict[str, dict[str, dict[str, float]]], title: str) -> None:
    """Writes `out` with `.txt`, `.json` and, where matplotlib is installed, `.png` at its end."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".txt").write_text(f"{title}\n\n{table(results)}\n", "utf-8")
    ratios = {case: ratio(settings) for case, settings in results.items()}
    content = {"machine and date": title, "seconds": results, "ratios": ratios}
    out.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    draw_ratios(ratios, title, out.with_suffix(".png"))


def machine() -> str:
    """This machine's processor, in words."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        return platform.processor() or platform.machine()
    return f"{len(names)} cores of {names[0]}"


def _noise(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def _lstm(name: str, size: int, policy: str = "float32") -> keras.layers.Layer:
    from zoo.layers import LSTM

    cls = keras.layers.LSTM if name == "keras" else LSTM
    return cls(size, return_sequences=True, dtype=policy)


def _attention(name: str, heads: int, size: int, policy: str = "float32") -> keras.layers.Layer:
    from zoo.layers import MultiHeadAttention

    cls = keras.layers.MultiHeadAttention if name == "keras" else MultiHeadAttention
    return cls(heads, size // heads, dtype=policy)


def _gradients(
    layer: keras.layers.Layer, x: Any, upstream: Any, twice: bool = False, **arguments: Any
) -> Callable[[], Any]:
    import tensorflow as tf

    x, upstream = tf.constant(x), tf.constant(upstream)
    arguments = {name: tf.constant(value) for name, value in arguments.items()}
    layer.build(*[x.shape] * (2 if twice else 1))

    @tf.function(autograph=False)
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            output = layer(*[x] * (2 if twice else 1), training=True, **arguments)
            loss = tf.reduce_sum(tf.cast(output, tf.float32) * upstream)
        return tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])

    return lambda: step(x)
