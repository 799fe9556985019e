"""Ctrl-C and SIGTERM, noted as well as raised, so that none is lost and a state can be saved."""

import signal
import threading
from types import FrameType
from typing import Any


class Signals:
    """Notes SIGINT and SIGTERM, and ends the process as they do by default, or when asked to.

    An exception that a signal raises can be lost: Python drops those of a garbage collector's
    callback, of which JAX has one. `stop` raises it again.

    Once noted, another signal of the kind does what it did before, for who cannot wait.

    Attributes:
        caught: the number of the last signal, or `None`.
        patient: whether a signal is noted alone, for `stop` to act upon.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        # Python lets the main thread alone set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        signal.signal(number, self._before[number])
        if not self.patient:
            self.stop()

    def stop(self) -> None:
        """Raises what the signal that was caught stands for, if one was.

        Raises:
            KeyboardInterrupt: for SIGINT.
            SystemExit: for SIGTERM, with 128 and its number.
        """
        if self.caught == signal.SIGINT:
            raise KeyboardInterrupt
        if self.caught is not None:
            raise SystemExit(128 + self.caught)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
