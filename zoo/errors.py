"""The two kinds of failure that are the user's to mend; a command prints either as one line."""

import difflib
import re
from collections.abc import Iterable

# What TensorFlow puts around a message: where in its graph it arose.
_INTERNALS = re.compile(r"\{\{[^{}]*\}\}|\[Op:.*")


class UsageError(ValueError):
    """A flag or argument has a value that cannot work; a command exits with code 2."""


class RunError(RuntimeError):
    """A run failed for a reason its user can mend; a command exits with code 1."""


class Diverged(RunError):
    """What was trained gives no finite numbers any more."""


def reason(error: Exception) -> str:
    """Why an operation failed, in one line and without TensorFlow's names of its own places.

    Example:
        >>> reason(OSError(28, "No space left on device", "a/b"))
        'No space left on device: a/b'
        >>> reason(ValueError("{{function_node __wrapped__Next}} a damaged record [Op:Next] name:"))
        'a damaged record'
    """
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    lines = (_INTERNALS.sub("", line).strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)[:1_000]


def unknown_name(kind: str, value: str, choices: Iterable[str]) -> UsageError:
    """The error for a name that is not among `choices`, with the nearest one suggested.

    Args:
        kind: what the name is a name of, in the user's words.
        value: the name that was given.
        choices: the names that exist.

    Returns:
        The error, ready to be raised.

    Example:
        >>> print(unknown_name("task", "imbd", ["glue/sst2", "imdb_reviews"]))
        unknown task 'imbd': did you mean 'imdb_reviews'? Known: glue/sst2, imdb_reviews
        >>> print(unknown_name("model", "gpt", ["bilstm", "transformer"]))
        unknown model 'gpt'. Known: bilstm, transformer
    """
    choices = sorted(choices)
    # A part of a long name is what people remember of it.
    parts = {part: name for name in reversed(choices) for part in re.split(r"[/_]", name)}
    known = parts | {name: name for name in choices}
    near = difflib.get_close_matches(value, known, n=1)
    hint = f": did you mean {known[near[0]]!r}?" if near else "."
    return UsageError(f"unknown {kind} {value!r}{hint} Known: {', '.join(choices)}")
