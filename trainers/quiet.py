"""TensorFlow imported: without its log, on a backend that there is, and no signal lost."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

from zoo.errors import UsageError, unknown_name
from zoo.interrupts import Signals
from zoo.silence import silenced

SIGNALS = Signals()
_BACKENDS = ("tensorflow", "jax", "torch")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """For importing tensorflow: what it says meanwhile heeds no log level. Errors still come.

    So do signals: an import may swallow what they raise.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in _BACKENDS:  # Keras would say so in a stack trace
        raise unknown_name("KERAS_BACKEND", backend, _BACKENDS)
    if importlib.util.find_spec(backend) is None:
        raise UsageError(f"KERAS_BACKEND={backend} cannot work: {backend} is not installed here")
    with silenced():
        yield
    SIGNALS.stop()
