"""What a step takes as more workers of this machine share it, and what they send one another.

The workers share the machine's cores, so that none of them makes a step faster here; what is
measured is what sharing costs. How many machines pay is worked from it: with `t` the seconds of one
worker's step, `b` the bytes that one of many workers sends a step, and `W` the bytes a second of a
network, `n` workers take about

    t / n + b / W

where sending does not overlap computing. Sending takes over where both terms are equal, at
`n = t W / b` workers.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from zoo.errors import RunError

_NETWORKS = {"10 Gbit/s": 10e9 / 8, "100 Gbit/s": 100e9 / 8}


@dataclass(frozen=True)
class Measured:
    """Some steps of so many workers.

    Args:
        workers: how many; 1 is a process without a cluster.
        step_seconds: the median.
        sent_bytes: what each worker sent a step; 0 for one.
        weights: numbers that are trained.
    """

    workers: int
    step_seconds: float
    sent_bytes: float
    weights: int


def measure(
    workers: Sequence[int], model: str, size: str, batch: int, length: int, steps: int
) -> list[Measured]:
    """Trains with each number of workers, one after another.

    Args:
        workers: the numbers.
        model, size: as those flags of `trainers/train.py`.
        batch: rows of a global batch.
        length: ids of a row.
        steps: steps that are measured.

    Raises:
        RunError: if a worker fails, with the last thing that it said.
    """
    found = []
    for number in workers:
        strategy = "none" if number == 1 else "multi_worker"
        asked = {"model": model, "size": size, "batch": batch, "length": length, "steps": steps}
        said = _run(number, json.dumps(asked | {"strategy": strategy}))
        sent = said["sent_bytes"] / steps / number if number > 1 else 0.0
        median = statistics.median(said["seconds"])
        found.append(Measured(number, median, sent, said["weights"]))
    return found


def _run(number: int, asked: str) -> dict:
    """Starts so many workers, waits for them, and returns what the chief said."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    started: list[subprocess.Popen[str]] = []
    try:
        for index in range(number):
            task = {"type": "worker", "index": index}
            variable = json.dumps({"cluster": {"worker": addresses}, "task": task})
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "zoo.benchmark_scaling_worker", asked],
                    env={**os.environ, "TF_CONFIG": variable},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        out, err = started[0].communicate()
        if started[0].returncode:
            last = err.strip().splitlines()[-1:] or [f"exit code {started[0].returncode}"]
            raise RunError(f"a worker of {number} failed: {last[0]}")
        return json.loads(out.splitlines()[-1])
    finally:
        for process in started:
            process.kill()
            process.communicate()


def table(found: Sequence[Measured]) -> str:
    """The figures as Markdown, and what follows from them for networks."""
    lines = [
        "| workers | milliseconds a step | MB sent a step by each |",
        "|---|---|---|",
        *(
            f"| {one.workers} | {1e3 * one.step_seconds:.1f} | {one.sent_bytes / 1e6:.2f} |"
            for one in found
        ),
    ]
    alone = next((one for one in found if one.workers == 1), None)
    most = max(found, key=lambda one: one.workers)
    if alone is not None and most.workers > 1:
        sent = limit_of_sent_bytes(most)
        lines += ["", f"{sent / 1e6:.2f} MB at most a step and worker, {alone.weights:,} weights:"]
        lines += [
            f"- {name}: {1e3 * sent / speed:.2f} ms a step; takes over at "
            f"{takes_over(alone.step_seconds, sent, speed):,.0f} workers"
            for name, speed in _NETWORKS.items()
        ]
    return "\n".join(lines)


def limit_of_sent_bytes(measured: Measured) -> float:
    """What a worker sends a step when there are ever more.

    Of what is summed in a ring, each of `n` workers sends `2 (n - 1) / n` times the size, so that
    it is less than twice the size however many there are.

    Example:
        >>> limit_of_sent_bytes(Measured(2, 1.0, 100.0, 25))
        200.0
    """
    return measured.sent_bytes * measured.workers / (measured.workers - 1)


def takes_over(step_seconds: float, sent_bytes: float, bytes_per_second: float) -> float:
    """The number of workers from which on sending takes longer than computing.

    Args:
        step_seconds: of one worker alone.
        sent_bytes: by one of many workers, a step.
        bytes_per_second: of the network.

    Example:
        >>> takes_over(step_seconds=0.1, sent_bytes=1e6, bytes_per_second=1e9)
        100.0
    """
    return step_seconds * bytes_per_second / sent_bytes


def as_json(found: Sequence[Measured]) -> str:
    """The figures for programs."""
    return json.dumps([asdict(one) for one in found], indent=2) + "\n"
