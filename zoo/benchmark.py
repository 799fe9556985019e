"""What our layers take against their peers, times taken in turns in one process.

A case is a function that returns what to time: a dict of names and functions without arguments, the
peer first. Nothing here decides anything; `trainers/benchmark.py` prints what it measures.
"""

import os
import platform
import resource
import timeit
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Any

import keras
import numpy as np

from zoo.errors import RunError

Contest = dict[str, Callable[[], Any]]
TRAINING, POLICIES = "lstm training", ("float32", "mixed_bfloat16")
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
    """The same with lengths like those of film reviews, padded to one length, with a mask."""
    lengths = _review_lengths(rows, cap)
    x, upstream = (_noise(rows, cap, size, seed=seed) for seed in (1, 2))
    mask = np.arange(cap) < lengths[:, None]
    return {
        name: _gradients(_lstm(name, size), x, upstream, mask=mask) for name in ("keras", "zoo")
    }


def train_lstm_on_buckets(
    batches: int = 8, rows: int = 64, cap: int = 512, size: int = 128
) -> Contest:
    """The same for reviews sorted by length and cut into batches, each padded to its longest."""
    lengths = np.sort(_review_lengths(batches * rows, cap)).reshape(batches, rows)
    contest: Contest = {}
    for name in ("keras", "zoo"):
        layer = _lstm(name, size)
        steps = []
        for of_batch in lengths:
            longest = int(of_batch.max())
            x, upstream = (_noise(rows, longest, size, seed=seed) for seed in (1, 2))
            mask = np.arange(longest) < of_batch[:, None]
            steps.append(_gradients(layer, x, upstream, mask=mask))
        contest[name] = partial(_all, steps)
    return contest


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


def batch_reviews(texts: int = 1_000, rows: int = 64, cap: int = 512) -> Contest:
    """Ids in batches: Keras makes them of texts each time, we read what was encoded once."""
    import tensorflow as tf

    from zoo.batching import batch_plan, batches
    from zoo.splits import Split
    from zoo.text import TextEncoder, TextSettings

    rng = np.random.default_rng(3)
    words = np.array([f"word{number}" for number in range(20_000 - 2)])
    reviews = [
        " ".join(words[rng.zipf(1.2, length) % len(words)]).replace(" word7 ", ", Word7. ")
        for length in _review_lengths(texts, cap)
    ]
    theirs = keras.layers.TextVectorization(20_000, output_sequence_length=cap, vocabulary=words)
    encoder = TextEncoder(tuple(words), TextSettings("word", 20_000, cap))
    ids = encoder(tf.constant(reviews))
    values = ids.values.numpy().astype("int32")
    split = Split(values, ids.row_splits.numpy(), np.zeros(texts, "int32"))
    plan = batch_plan(split.lengths, batch_size=rows, seed=0, epoch=0)
    vectorised = tf.data.Dataset.from_tensor_slices(reviews).batch(rows).map(theirs).prefetch(4)
    return {
        "keras": partial(_exhaust, vectorised),
        "zoo": partial(_exhaust, batches(split, plan)),
    }


def generate_text(family: str, size: str, tokens: int = 512, num_words: int = 20_000) -> Contest:
    """Greedy text of a causal model, against one that reads it all again for each word."""
    from zoo.benchmark_generation import contest

    return contest(family, size, tokens, num_words)


CASES: dict[str, Callable[[], Contest]] = {
    **{
        f"{TRAINING} {'x'.join(map(str, shape))} {policy}": partial(train_lstm, *shape, policy)
        for policy in POLICIES
        for shape in SHAPES
    },
    "lstm training, review lengths": train_lstm_on_reviews,
    "lstm training, reviews in buckets": train_lstm_on_buckets,
    **{f"lstm forward, batch {rows}": partial(run_lstm, rows) for rows in (1, 8, 32)},
    "attention training float32": train_attention,
    "attention training float32, one thread": train_attention,
    "attention training mixed_bfloat16": partial(train_attention, policy="mixed_bfloat16"),
    "lstm training under torch": train_torch_lstm,
    "1,000 reviews as batches of ids": batch_reviews,
    "generate 512 words, lstm": partial(generate_text, "lstm", "base"),
    "generate 512 bytes, lstm": partial(generate_text, "lstm", "base", num_words=256),
    "generate 512 bytes, transformer": partial(
        generate_text, "transformer", "base,attention=causal", num_words=256
    ),
    "generate 512 words, transformer": partial(
        generate_text, "transformer", "base,attention=causal"
    ),
}
# A round of each contestant lasts at least about this long.
ROUND_SECONDS = 0.05
# Thread settings of a case, whatever else is asked for.
THREADS = {"attention training float32, one thread": ["1x1"]}


# Rows and steps, and whom to ask: at the longest, Keras's scores alone would take 26 GB.
MEMORY: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "attention training memory, 2x4096": (2, 4096, ("keras", "zoo")),
    "attention training memory, 1x16384": (1, 16_384, ("zoo",)),
}


FIRST = "zoo's first call"  # beside the names of contestants

# Without them, PyTorch gives memory back to the system after each step, and is unfairly slow.
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}


def measure(case: str, threads: tuple[int, int], rounds: int = 15) -> dict[str, float]:
    """What each contestant of a case takes, measured in fresh processes.

    Args:
        case: a key of `CASES` or `MEMORY`.
        threads: how many there are within an operation, and how many across operations.
        rounds: how many times each is timed; memory is measured once.

    Returns:
        Seconds, or MiB, by name, the peer first.

    Raises:
        RunError: if a process fails, for want of PyTorch or of memory.
    """
    backend = "torch" if "torch" in case else "tensorflow"
    os.environ.update(ENVIRONMENT)
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = backend  # a process takes the environment that it starts in
    try:
        if case not in MEMORY:
            return fresh(seconds, case, threads, rounds)
        rows, steps, names = MEMORY[case]
        return {name: fresh(attention_memory, name, rows, steps) for name in names}
    except (ImportError, BrokenProcessPool) as error:
        raise RunError(f"case {case!r} cannot be measured: {error}") from error
    finally:
        os.environ.pop("KERAS_BACKEND")
        if before is not None:
            os.environ["KERAS_BACKEND"] = before


def fresh(function: Callable, *arguments: Any) -> Any:
    """What a function returns in a process of its own, which holds nothing of what was before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(function, *arguments).result()


def seconds(case: str, threads: tuple[int, int], rounds: int) -> dict[str, float]:
    """The least of times taken in turns, after three runs not counted, in this process.

    The least, as `timeit` advises: whatever else the machine does can only add to a time.

    Args:
        case: a key of `CASES`.
        threads: as `measure`'s; TensorFlow takes no others once it runs.
        rounds: how many times each is timed.

    Returns:
        Seconds by name, the peer first, and those of our first call, in which TensorFlow makes the
        graph.
    """
    within, across = threads
    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(max(within, across))
        torch.set_flush_denormal(True)
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(within)
        tf.config.threading.set_inter_op_parallelism_threads(across)
    return take_turns(CASES[case](), rounds)


def take_turns(contest: Contest, rounds: int) -> dict[str, float]:
    """The least of times taken in turns, after three runs not counted; see `seconds`."""
    times: dict[str, list[float]] = {name: [] for name in contest}
    first = {name: _mean_seconds(run, 1) for name, run in contest.items()}
    for run in contest.values():
        _mean_seconds(run, 1)
    # What takes milliseconds runs several times in a row: else each would begin with the other's
    # data in the processor's caches, which is no one's use of it.
    longest = max(_mean_seconds(run, 1) for run in contest.values())
    number = max(1, round(ROUND_SECONDS / longest))
    for _ in range(rounds):
        for name, run in contest.items():
            times[name].append(_mean_seconds(run, number))
    return {name: min(values) for name, values in times.items()} | {FIRST: first["zoo"]}


def _mean_seconds(run: Callable[[], Any], number: int) -> float:
    return timeit.timeit(run, number=number) / number


def attention_memory(name: str, rows: int, steps: int, size: int = 256, heads: int = 8) -> float:
    """MiB that one gradient of self-attention adds to this process's peak, if it is a fresh one."""
    x, upstream = (_noise(rows, steps, size, seed=seed) for seed in (1, 2))
    step = _gradients(_attention(name, heads, size), x, upstream, twice=True)
    _gradients(_attention(name, heads, size), x[:1, :32], upstream[:1, :32], twice=True)()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def machine() -> str:
    """This machine's processor, in words."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        return platform.processor() or platform.machine()
    return f"{len(names)} cores of {names[0]}"


def _all(steps: list[Callable[[], Any]]) -> None:
    for step in steps:
        step()


def _exhaust(dataset: Any) -> None:
    for _ in dataset:
        pass


def _review_lengths(rows: int, cap: int) -> np.ndarray:
    """Like those of film reviews, in words: log-normal, mean about 220, capped."""
    return np.random.default_rng(3).lognormal(5.2, 0.65, rows).astype("int32").clip(10, cap)


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
