"""The two kinds of failure that are the user's to mend; a command prints either as one line."""

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """A flag or argument has a value that cannot work; a command exits with code 2."""


class RunError(RuntimeError):
    """A run failed for a reason its user can mend; a command exits with code 1."""


def unknown_name(kind: str, value: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that is not among `choices`, with the nearest one suggested.

    Args:
        kind: what the name is a name of, in the user's words.
        value: the name that was given.
        choices: the names that exist.

    Returns:
        The error, ready to be raised.

    Example:
        >>> print(unknown_name("model", "bilstn", ["bilstm", "transformer"]))
        unknown model 'bilstn': did you mean 'bilstm'? Known: bilstm, transformer
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {value!r}:{hint} Known: {', '.join(choices)}")
