"""A recurrence that is linear in its state: all steps at once, or one after the other."""

from typing import Any

import keras
from keras import ops

from zoo.layers import min_lstm_fast
from zoo.layers.own_gradient_fast import plain_loops_wanted

FORMS = ("parallel", "steps")


def linear_recurrence(decay: Any, added: Any, initial: Any, form: str = "auto") -> Any:
    """The states of a linear recurrence, element by element.

        h_t = decay_t * h_{t-1} + added_t

    Two steps in a row are one such step, of `decay_1 * decay_2` and `decay_2 * added_1 + added_2`,
    and so all may be joined in parallel. Source: Blelloch 1990, "Prefix sums and their
    applications".

    Args:
        decay: `float[T, B, U]`.
        added: `float[T, B, U]`.
        initial: `float[B, U]`, h_0.
        form: `"parallel"`, `"steps"` or `"auto"`, the faster. Where T is unknown, as it may be in
            a graph of TensorFlow, all three are `"steps"`.

    Returns:
        `float[T, B, U]`, the states h_1 to h_T.

    Example:
        >>> half = ops.full((3, 1, 1), 0.5)
        >>> states = linear_recurrence(half, half, ops.zeros((1, 1)))
        >>> ops.convert_to_numpy(states)[:, 0, 0].tolist()
        [0.5, 0.75, 0.875]
    """
    if decay.shape[0] == 0:
        return added
    if _form(decay, form) == "parallel":
        return parallel_recurrence(decay, added, initial)
    if keras.backend.backend() == "tensorflow":
        if plain_loops_wanted():
            return min_lstm_fast.tensorflow_scan(decay, added, initial)
        return min_lstm_fast.tensorflow_recurrence()(decay, added, initial)
    return stepwise_recurrence(decay, added, initial)


def _form(decay: Any, form: str) -> str:
    if keras.backend.backend() == "tensorflow" and decay.shape[0] is None:
        return "steps"
    if form == "auto" and plain_loops_wanted():
        return "parallel"  # log T rounds, and no loop at all
    return min_lstm_fast.faster_form() if form == "auto" else form


def parallel_recurrence(decay: Any, added: Any, initial: Any) -> Any:
    """`linear_recurrence` by an associative scan, for a known T above zero.

    On TensorFlow, and on PyTorch's GPUs, it is written out, as log T rounds that each join every
    state so far with the one as many steps before it (Hillis & Steele 1986): Keras 3.15's scan
    forgets its shape in a graph of TensorFlow, where XLA cannot compile it, and under PyTorch it
    makes its zeros on the CPU.

    Example:
        >>> states = parallel_recurrence(ops.ones((2, 1, 1)), ops.ones((2, 1, 1)), ops.ones((1, 1)))
        >>> ops.convert_to_numpy(states)[:, 0, 0].tolist()
        [2.0, 3.0]
    """
    first = ops.expand_dims(decay[0] * initial + added[0], axis=0)  # float[1, B, U]
    added = ops.concatenate([first, added[1:]], axis=0)  # float[T, B, U]

    if min_lstm_fast.has_scan(decay):
        return ops.associative_scan(_join, (decay, added), axis=0)[1]  # float[T, B, U]
    span = 1
    while span < decay.shape[0]:
        joined = _join((decay[:-span], added[:-span]), (decay[span:], added[span:]))
        decay = ops.concatenate([decay[:span], joined[0]], axis=0)  # float[T, B, U]
        added = ops.concatenate([added[:span], joined[1]], axis=0)  # float[T, B, U]
        span *= 2
    return added


def _join(one: Any, two: Any) -> tuple[Any, Any]:
    """Two runs of steps, one behind the other, as one step."""
    return one[0] * two[0], two[0] * one[1] + two[1]


def stepwise_recurrence(decay: Any, added: Any, initial: Any) -> Any:
    """`linear_recurrence` by a loop of the backend's.

    Example:
        >>> states = stepwise_recurrence(ops.ones((2, 1, 1)), ops.ones((2, 1, 1)), ops.ones((1, 1)))
        >>> ops.convert_to_numpy(states)[:, 0, 0].tolist()
        [2.0, 3.0]
    """

    def step(state: Any, factors: Any) -> tuple[Any, Any]:
        state = factors[0] * state + factors[1]  # float[B, U]
        return state, state

    return ops.scan(step, initial, (decay, added))[1]  # float[T, B, U]
