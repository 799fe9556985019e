"""A program run to its end by another one, which passes signals on."""

import contextlib
import fcntl
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from zoo.errors import RunError, reason
from zoo.interrupts import Signals
from zoo.run import say

_POLL_SECONDS = 0.2
_MOST_CHARACTERS = 500


@contextlib.contextmanager
def claimed_log(path: Path, wait: bool, label: str, signals: Signals) -> Iterator[IO[bytes] | None]:
    """A job's log, held until it and whoever inherits it are done.

    Args:
        path: of the log; made if it is missing.
        wait: whether to wait for it if another process has it.
        label: what the job is called.
        signals: what may interrupt the waiting.

    Returns:
        The file, open for appending, or `None` if another has it and nothing is to wait.

    Raises:
        RunError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("ab")
    except OSError as error:
        raise RunError(f"cannot write to {path}: {reason(error)}") from error
    with log:
        said = False
        while True:
            signals.stop()
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    what = "waiting for it" if wait else "put off"
                    say(f"{label}: another process is at work on it: {what}")
                    said = True
            if not wait:
                yield None
                return
            time.sleep(_POLL_SECONDS)
        yield log


def run_to_end(command: Sequence[str], log: IO[bytes], signals: Signals) -> str | None:
    """Runs a command, with all that it prints in `log`, and says why it failed.

    A signal that has been caught is passed on, once, so that the command can save its state; what
    comes out of `signals` itself kills it.

    Args:
        command: the program and its arguments.
        log: a file with a name, open for appending.
        signals: what may interrupt it.

    Returns:
        How it ended and the last line that it printed, or `None` if all went well.
    """
    log.write(f"$ {shlex.join(command)}\n".encode())
    log.flush()
    start = log.tell()
    code = _ended(command, log, signals)
    if not code:
        return None
    lines = Path(log.name).read_bytes()[start:].decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    return f"{how}{last and f': {last[:_MOST_CHARACTERS]}'}"


def _ended(command: Sequence[str], log: IO[bytes], signals: Signals) -> int:
    # In a group of its own: the terminal's Ctrl-C would reach it besides ours, and the second
    # signal of a run is the one that does not wait for its state to be saved.
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
    ) as process:
        passed_on = False
        try:
            while True:
                if signals.caught is not None and not passed_on:
                    process.send_signal(signals.caught)
                    passed_on = True
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return process.wait(_POLL_SECONDS)
        except BaseException:
            process.kill()
            raise
