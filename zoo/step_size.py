"""A learning rate that can be made smaller while training is under way."""

from typing import Any

import keras


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
