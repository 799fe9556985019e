"""A worker that is not the chief: it takes its share of every step, and writes nothing."""

from collections.abc import Callable
from typing import Any

import numpy as np

from zoo.batching import count_steps, epoch_plan
from zoo.distribution import Team
from zoo.interrupts import Signals
from zoo.models import FeatureInputs, TokenInputs
from zoo.run import model_inputs, say, training_split
from zoo.twins import Twins


def follow(
    config: Any,
    data: Any,
    team: Team,
    signals: Signals,
    make_learner: Callable[[TokenInputs | FeatureInputs, int], Twins],
) -> None:
    """Trains as the chief says, epoch by epoch, until it says that the run is done.

    Args:
        config: a `zoo.config.Config`, or one of pretraining; the chief's own.
        data: what the chief trains on.
        team: whose chief is another process.
        signals: what may interrupt this one.
        make_learner: makes what learns, of what a batch holds and of the number of steps.

    Raises:
        UsageError: if the chief has another configuration.
        RunError: if it has other data, or has failed.
        PeerLost: if a worker is gone.
        KeyboardInterrupt, SystemExit: after SIGINT and SIGTERM to any worker; the chief has saved
            the state.
    """
    signals.patient = True
    team.require_same(config, data)
    split = training_split(config, data)
    learner = make_learner(model_inputs(data), count_steps(config, split))
    say(f"{config.task}: sharing the steps of {team.num_workers} workers")
    while word := team.hear(learner.variables):
        learner.begin_epoch(word["epoch"])
        learner.scale_steps(word["step_factor"])
        plan = epoch_plan(config, split, word["epoch"])
        for batch in team.batches(split, plan, start=word["step_in_epoch"]):
            loss, _, _ = learner.step(*batch)
            if team.asked_to_stop:
                signals.stop()
            if not np.isfinite(loss):  # the chief has seen it too, and says what now
                break
    signals.patient = False
