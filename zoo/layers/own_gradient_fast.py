"""Gradients written by hand under TensorFlow, and graphs that will never be asked for one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_WANTED = ContextVar("wanted", default=True)
_PLAIN = ContextVar("plain", default=False)


@contextmanager
def no_gradients() -> Iterator[None]:
    """Within it, a graph is made without the gradients written by hand.

    A SavedModel would hold each of them besides, three times as large and four times as slow to
    write. Who asks such a graph for a gradient all the same is told, instead of given a wrong one:
    not every operation in it has a gradient that is right.

    Example:
        >>> import tensorflow as tf
        >>> def twice(x):
        ...     return 2.0 * x, lambda upstream: 2.0 * upstream
        >>> with no_gradients(), tf.GradientTape() as tape:
        ...     x = tf.constant(1.0)
        ...     tape.watch(x)
        ...     y = own_gradient(twice, x)
        >>> tape.gradient(y, x)
        Traceback (most recent call last):
        LookupError: Gradient explicitly disabled. Reason: b'this graph was made to answer alone'
    """
    before = _WANTED.set(False)
    try:
        yield
    finally:
        _WANTED.reset(before)


@contextmanager
def plain_loops() -> Iterator[None]:
    """Within it, a graph's loops are plain ones, a step a turn, not those that are fast.

    Converters to other formats know no others; and the loops written for training make most of a
    SavedModel that holds a gradient, which is read whole each time that it is loaded.

    Example:
        >>> with plain_loops():
        ...     plain_loops_wanted()
        True
    """
    before = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(before)


def plain_loops_wanted() -> bool:
    """Whether `plain_loops` is in force."""
    return _PLAIN.get()


def own_gradient(function: Callable, *inputs: Any) -> Any:
    """What `function` makes of tensors, with the gradient that it brings along.

    Args:
        function: returns a tensor or several, and a function from their gradients to those of the
            inputs, as for `tf.custom_gradient`.
        *inputs: tensors.

    Returns:
        The first of what `function` returns.

    Example:
        >>> import tensorflow as tf
        >>> float(own_gradient(lambda x: (2.0 * x, lambda g: 2.0 * g), tf.constant(3.0)))
        6.0
    """
    import tensorflow as tf

    # A user's function would else have every line of this rewritten.
    plain = tf.autograph.experimental.do_not_convert
    if _WANTED.get():
        return plain(tf.custom_gradient(function))(*inputs)
    results, _ = plain(function)(*inputs)
    message = "this graph was made to answer alone"
    return tf.nest.map_structure(
        lambda result: tf.raw_ops.PreventGradient(input=result, message=message), results
    )
