"""The linear recurrence of a MinLSTM on TensorFlow: a loop with a gradient written by hand."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from zoo.layers.own_gradient_fast import own_gradient

# Steps a turn of the loop: a step is so cheap that turning costs more.
STEPS = 8


@functools.cache
def faster_form() -> str:
    """The form of `linear_recurrence` to take: the scan on an accelerator, and under PyTorch.

    On a CPU the scan's many passes over memory cost more than a loop, but for PyTorch, whose loop
    is Python's.

    Example:
        >>> faster_form() in ("parallel", "steps")
        True
    """
    if keras.backend.backend() == "torch":
        return "parallel"
    on_cpu = "cpu" in str(keras.distribution.list_devices()[0]).lower()
    return "steps" if on_cpu else "parallel"


def has_scan(x: Any) -> bool:
    """Whether Keras's associative scan works for a tensor like `x`."""
    backend = keras.backend.backend()
    return backend == "jax" or (backend == "torch" and x.device.type == "cpu")


def tensorflow_scan(decay: Any, added: Any, initial: Any) -> Any:
    """`tensorflow_recurrence` as TensorFlow's own loop: slower, but one that converters know.

    Example:
        >>> half = [[[0.5]], [[0.5]], [[0.5]]]
        >>> tensorflow_scan(half, half, [[0.0]])[:, 0, 0].numpy().tolist()
        [0.5, 0.75, 0.875]
    """
    import tensorflow as tf

    factors = (tf.convert_to_tensor(decay), tf.convert_to_tensor(added))
    return tf.scan(
        lambda state, now: now[0] * state + now[1], factors, tf.convert_to_tensor(initial)
    )


@functools.cache
def tensorflow_recurrence() -> Callable[[Any, Any, Any], Any]:
    """Returns TensorFlow's loop for `linear_recurrence`, of stock operations alone.

        h_t = decay_t * h_{t-1} + added_t

    Its gradient is the same recurrence once more, from the end. With G_t what reaches h_t from
    outside and g_t that and what comes back from the steps behind it:

        g_t = G_t + decay_{t+1} * g_{t+1}
        gradients: g_t * h_{t-1} of decay_t, g_t of added_t, decay_1 * g_1 of h_0

    Returns:
        A function of decay and added, each `float[T, B, U]`, and of h_0 `float[B, U]`, that
        returns all h, `float[T, B, U]`. It may be differentiated twice.

    Example:
        >>> loop = tensorflow_recurrence()
        >>> half = [[[0.5]], [[0.5]], [[0.5]]]
        >>> loop(half, half, [[0.0]])[:, 0, 0].numpy().tolist()
        [0.5, 0.75, 0.875]
    """
    import tensorflow as tf

    def loop(decay, values, carry, step, backwards):
        steps = tf.shape(decay)[0]
        # One element even if there is no step: an empty list of unknown batch cannot be stacked.
        array = tf.TensorArray(values.dtype, tf.maximum(steps, 1), element_shape=carry.shape)
        array = array.write(0, carry)

        def turn(count, number, carry, array):
            for _ in range(count):
                t = steps - 1 - number if backwards else number
                result, carry = step(decay[t], values[t], carry)  # each float[B, U]
                array = array.write(t, result)
                number += 1
            return number, carry, array

        state = (tf.constant(0), carry, array)
        for count in (STEPS, 1):
            state = tf.while_loop(
                lambda number, carry, array, count=count: number + count <= steps,
                functools.partial(turn, count),
                state,
            )
        _, carry, array = state
        return array.stack()[:steps], carry  # float[T, B, U] float[B, U]

    # Outside a graph, TensorFlow's loops are Python's.
    @tf.function(autograph=False, reduce_retracing=True)
    def forth(decay, added, carry):
        def step(factor, value, carry):
            carry = factor * carry + value
            return carry, carry

        return loop(decay, added, carry, step, backwards=False)[0]

    @tf.function(autograph=False, reduce_retracing=True)
    def back(decay, upstream, carry):
        def step(factor, value, carry):
            whole = value + carry
            return whole, factor * whole

        return loop(decay, upstream, carry, step, backwards=True)

    def recurrence(decay, added, initial):
        states = forth(decay, added, initial)  # float[T, B, U]

        def gradient(upstream):
            whole, of_initial = back(decay, upstream, tf.zeros_like(initial))  # float[T, B, U]
            before = tf.concat([initial[None], states], axis=0)[:-1]  # float[T, B, U]
            return whole * before, whole, of_initial

        return states, gradient

    def converted(decay, added, initial):
        inputs = map(tf.convert_to_tensor, (decay, added, initial))
        return own_gradient(recurrence, *inputs)

    return converted
