"""The learning rate of a run: how it rises and falls, and what makes it smaller under way."""

from typing import Any

import keras


def warmup_and_cosine(
    learning_rate: float, warmup_rate: float, total_steps: int
) -> keras.optimizers.schedules.CosineDecay:
    """A learning rate that rises in a line, and falls to 0 as a cosine.

    Args:
        learning_rate: its highest value.
        warmup_rate: share of the steps in which it rises, in [0, 1).
        total_steps: at which it has come down to 0.

    Example:
        >>> schedule = warmup_and_cosine(0.5, 0.5, 4)
        >>> [round(float(schedule(step)), 3) for step in range(5)]
        [0.167, 0.333, 0.5, 0.25, 0.0]
    """
    warmup_steps = int(warmup_rate * total_steps)
    return keras.optimizers.schedules.CosineDecay(
        # Not from 0: the first batch would be wasted.
        learning_rate / (warmup_steps + 1) if warmup_steps else learning_rate,
        decay_steps=total_steps - warmup_steps,
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


class ScaledSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule, all of whose values are multiplied by one variable.

    A step that was traced reads the variable each time: it need not be traced anew.

    Args:
        schedule: the other one.
        factor: a variable, `float32[]`.

    Example:
        >>> import tensorflow as tf
        >>> factor = tf.Variable(1.0)
        >>> schedule = ScaledSchedule(keras.optimizers.schedules.CosineDecay(0.5, 10), factor)
        >>> _ = factor.assign(0.25)
        >>> float(schedule(0))
        0.125
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, factor: Any):
        super().__init__()
        self._schedule = schedule
        self._factor = factor

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, `float32[]`."""
        return self._schedule(step) * self._factor
