"""Workers of a cluster as people start them: processes of their own, on free ports."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)


def free_addresses(number, host="127.0.0.1"):
    """Addresses that nobody listens at."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind((host, 0))
        return [f"{host}:{one.getsockname()[1]}" for one in sockets]


def tf_config(addresses, index):
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


class Worker:
    """A running worker.

    Args:
        addresses: of all workers.
        index: which one this is.
        flags: of the program.
        program: in `trainers/`.
        prefix: a command that runs commands, such as one in a namespace.
    """

    def __init__(self, addresses, index, flags, program="train.py", prefix=()):
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(ROOT / "trainers" / program), *flags],
            env={**ENVIRONMENT, "TF_CONFIG": tf_config(addresses, index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # What a script starts in the background would ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.said = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._heard:
                self.said.append(line.rstrip())
                self._heard.notify_all()

    def until(self, text, times=1):
        """Waits until so many lines with that text have been said."""

        def said():
            return sum(text in line for line in self.said) >= times

        with self._heard:
            until = time.monotonic() + 600
            while not said():
                assert self.process.poll() is None or self._reader.is_alive(), self.said
                assert time.monotonic() < until, self.said
                self._heard.wait(0.2)

    def send(self, number):
        self.process.send_signal(number)

    def ended(self):
        """The exit code, once it has one."""
        code = self.process.wait(600)
        self._reader.join(60)
        return code

    def kill(self):
        self.process.kill()
        self.process.wait()
        self._reader.join(60)
        self.process.stdout.close()


def assert_ended(every, codes):
    found = [one.ended() for one in every]
    assert found == codes, "\n".join(line for one in every for line in [*one.said, "--"])


@contextlib.contextmanager
def workers(addresses, flags, indices=None, **options):
    """Workers, killed in the end if they are still there."""
    started = []
    try:
        for index in range(len(addresses)) if indices is None else indices:
            started.append(Worker(addresses, index, flags, **options))
        yield started
    finally:
        for worker in started:
            worker.kill()
