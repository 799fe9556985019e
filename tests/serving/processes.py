"""The server as people start it: a process of its own, on free ports."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import httpx

ROOT = Path(__file__).parents[2]
# Without what other tests, or TensorFlow itself, have set for this process.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
ENVIRONMENT["PYTHONPATH"] = str(ROOT)


class Process:
    """A running server.

    Args:
        arguments: as on the command line; ports are chosen here.
    """

    def __init__(self, *arguments):
        ports = ("--rest_port=0", "--grpc_port=0", "--file_system_poll_seconds=0.05")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zoo.serving.command", *map(str, arguments), *ports],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = re.fullmatch(r"REST (https?://.*)\n", self.process.stdout.readline())[1]
        self.target = re.fullmatch(r"gRPC (.*)\n", self.process.stdout.readline())[1]

    def _read(self):
        for line in self.process.stderr:
            with self._heard:
                self.said.append(line.removeprefix("zoo-serve: ").rstrip())
                self._heard.notify_all()

    def until(self, line, times=1):
        """Waits until it has said a line."""
        with self._heard:
            assert self._heard.wait_for(lambda: self.said.count(line) >= times, 120), self.said
        return self

    def get(self, path):
        with httpx.Client(base_url=self.url, timeout=60) as client:
            return client.get(path)

    def channel(self, **options):
        return grpc.insecure_channel(self.target, **options)

    def memory(self):
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def end(self):
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.ended()

    def ended(self):
        """The exit code, once it has one."""
        code = self.process.wait(60)
        self._reader.join(60)
        return code


@contextlib.contextmanager
def serving(*arguments):
    """A server, killed in the end if it is still there."""
    server = Process(*arguments)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server._reader.join(60)
        server.process.stdout.close()
        server.process.stderr.close()
