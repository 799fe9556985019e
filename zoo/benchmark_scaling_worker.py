"""One worker of `zoo.benchmark_scaling`: takes its share of some steps, and says what they took.

python -m zoo.benchmark_scaling_worker '{"model": "lstm", …}'
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from zoo.config import Config
from zoo.distribution import make_team
from zoo.interrupts import Signals
from zoo.learner import Learner
from zoo.models import TokenInputs
from zoo.splits import Split

_NUM_IDS = 20_000
# Whatever is traced, or grows, has been by then.
_WARM_UP_STEPS = 3
# What all workers of this machine send one another.
_SENT = Path("/sys/class/net/lo/statistics/tx_bytes")


def take_steps(model: str, size: str, strategy: str, batch: int, length: int, steps: int) -> dict:
    """Trains on random rows of one length.

    Args:
        model, size, strategy: as those flags of `trainers/train.py`.
        batch: rows of a batch.
        length: ids of a row.
        steps: how many are measured.

    Returns:
        The seconds of each step, the bytes that went over this machine's loopback meanwhile, and
        the number of weights.
    """
    team = make_team(strategy, Signals())
    config = Config(model=model, size=size, batch_tokens=batch * length, max_length=length)
    total = _WARM_UP_STEPS + steps
    learner = Learner(config, TokenInputs(_NUM_IDS), 2, total, team)
    rng = np.random.default_rng(0)
    values = rng.integers(2, _NUM_IDS, batch * length, dtype="int32")
    split = Split(values, np.arange(batch + 1) * length, rng.integers(0, 2, batch, dtype="int32"))
    seconds = []
    sent = 0
    for number, one in enumerate(team.batches(split, [np.arange(batch)] * total)):
        if number == _WARM_UP_STEPS:
            sent = int(_SENT.read_text())
        before = time.perf_counter()
        learner.step(*one)
        seconds.append(time.perf_counter() - before)
    return {
        "seconds": seconds[_WARM_UP_STEPS:],
        "sent_bytes": int(_SENT.read_text()) - sent,
        "weights": learner.model.count_params(),
    }


if __name__ == "__main__":
    print(json.dumps(take_steps(**json.loads(sys.argv[1]))))
