"""Gradients written by hand under TensorFlow, and graphs that will never be asked for one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_WANTED = ContextVar("wanted", default=True)
_SMALL = ContextVar("small", default=False)


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
def small_graphs() -> Iterator[None]:
    """Within it, a graph is made for being small, not for being fast.

    A SavedModel that holds a gradient for the sake of a text now and then is read whole each time
    that it is loaded, and the loops of the fast ways, written for training, make most of it.

    Example:
        >>> with small_graphs():
        ...     small_graphs_wanted()
        True
    """
    before = _SMALL.set(True)
    try:
        yield
    finally:
        _SMALL.reset(before)


def small_graphs_wanted() -> bool:
    """Whether `small_graphs` is in force."""
    return _SMALL.get()


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
