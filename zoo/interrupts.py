"""Ctrl-C and SIGTERM, noted as well as raised, so that none is lost and a state can be saved."""

import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

_SECONDS_BETWEEN_LOOKS = 0.001


class Signals:
    """Notes SIGINT and SIGTERM, and ends the process as they do by default, or when asked to.

    An exception that a signal raises can be lost. Python drops those of a garbage collector's
    callback, of which JAX has one, and of a finaliser: there the signal is sent again a little
    later. What drops it otherwise, an import or a library's `except`, tells nobody: `stop` raises
    it again.

    Once noted, another signal of the kind does what it did before, for who cannot wait.

    Attributes:
        caught: the number of the last signal, or `None`.
        patient: whether a signal is noted alone, for `stop` to act upon.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self.patient = False
        self._before: dict[int, Any] = {}
        self._report: Any = None
        self._dropping = False
        self._owed = False

    def __enter__(self) -> "Signals":
        # Python lets the main thread alone set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
            self._report, sys.unraisablehook = sys.unraisablehook, self._dropped
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._owed = False
        signal.signal(number, self._before[number])
        if not self.patient:
            self.stop()

    def _dropped(self, what: Any) -> None:
        ours = isinstance(what.exc_value, KeyboardInterrupt | SystemExit)
        here = threading.current_thread() is threading.main_thread()
        if self.caught is None or not (ours and here):
            self._report(what)
            return
        # Raised in here it would be dropped again.
        self._dropping = self._owed = True
        signal.signal(self.caught, self._note)
        again = (threading.get_ident(), self.caught)
        threading.Thread(target=self._send_again, args=again, daemon=True).start()
        self._dropping = False  # last: Python looks for signals at calls and jumps

    def _send_again(self, thread: int, number: int) -> None:
        while self._dropping:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        # One that comes as the main thread is about to wait is seen when it has waited.
        while True:
            if not self._owed:  # asked right before it is sent: Python hands over at jumps
                return
            signal.pthread_kill(thread, number)
            time.sleep(_SECONDS_BETWEEN_LOOKS)

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
        if self._before:
            sys.unraisablehook = self._report
        if self._owed:
            self._owed = False
            self.stop()
