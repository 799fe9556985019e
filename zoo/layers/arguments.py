"""Checks of constructor arguments: one clear line, at construction, and nothing is clamped."""

import math
import numbers
from typing import Any

import keras


def check_positive(name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is a whole number above zero.

    Example:
        >>> check_positive("units", 0)
        Traceback (most recent call last):
        ValueError: argument `units` must be a positive integer, not 0
    """
    # NumPy's whole numbers are as good, but for its booleans, which are none.
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"argument `{name}` must be a positive integer, not {value!r}")


def check_rate(name: str, value: Any) -> None:
    """Raises `ValueError` unless `value` is a number in [0, 1].

    Example:
        >>> check_rate("dropout", 1.5)
        Traceback (most recent call last):
        ValueError: argument `dropout` must be between 0 and 1, not 1.5
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool) or not 0 <= float(value) <= 1:
        raise ValueError(f"argument `{name}` must be between 0 and 1, not {value!r}")


def check_above(name: str, value: Any, limit: float) -> None:
    """Raises `ValueError` unless `value` is a finite number above `limit`.

    Example:
        >>> check_above("epsilon", 0.0, 0)
        Traceback (most recent call last):
        ValueError: argument `epsilon` must be above 0, not 0.0
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not limit < float(value) < math.inf:
        raise ValueError(f"argument `{name}` must be above {limit}, not {value!r}")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises `ValueError` unless `value` is one of `choices`.

    Example:
        >>> check_choice("norm", "last", ("post", "pre"))
        Traceback (most recent call last):
        ValueError: argument `norm` must be one of 'post', 'pre', not 'last'
    """
    if value not in choices:
        raise ValueError(
            f"argument `{name}` must be one of {', '.join(map(repr, choices))}, not {value!r}"
        )


def as_integers(name: str, value: Any) -> tuple[int, ...] | None:
    """A whole number, or a list or tuple of some, as a tuple; `None` stays `None`.

    Raises:
        ValueError: if it is anything else.

    Example:
        >>> as_integers("attention_axes", 1), as_integers("attention_axes", [1, 2])
        ((1,), (1, 2))
    """
    if value is None:
        return None
    values = value if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(single, numbers.Integral) for single in values):
        raise ValueError(f"Invalid `{name}`: it must be an int or a list of them, not {value!r}")
    return tuple(map(int, values))


def copied(initializer: Any) -> Any:
    """A copy of an initialiser, for a second weight: used twice, one gives the same numbers twice.

    Example:
        >>> one = keras.initializers.GlorotUniform(seed=1)
        >>> copied(one) is one, copied(one).get_config() == one.get_config()
        (False, True)
    """
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return type(initializer).from_config(initializer.get_config())
