"""TensorFlow imported without what it says meanwhile, which heeds no log level."""

import contextlib
import os
from collections.abc import Iterator

# Whoever sets the variable has asked for the log, and gets it.
_ASKED_FOR = "TF_CPP_MIN_LOG_LEVEL" in os.environ
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Within it, nothing reaches standard error, from C++ either; errors that are raised still do.

    Example:
        >>> with silenced():
        ...     _ = os.write(2, b"a remark")
    """
    stderr = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(stderr if _ASKED_FOR else nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
