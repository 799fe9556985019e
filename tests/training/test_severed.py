"""Workers on two machines, as far as they can tell, and the link between them."""

import contextlib
import os
import subprocess
import sys

import pytest

from tests.training.runs import assert_same_run
from tests.training.test_workers import LSTM, flags_of
from tests.training.workers import Worker, assert_ended
from zoo.config import Config

# An address block that is for documentation alone.
HOSTS = ("192.0.2.1", "192.0.2.2")
CONFIG = Config(
    **LSTM | {"epochs": 10, "dropout_rate": 0.2}, strategy="multi_worker", checkpoint_seconds=0.0
)


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def machines():
    """Two network namespaces, joined by a cable."""
    names = [f"zoo-{os.getpid()}-{i}" for i in (0, 1)]
    with contextlib.ExitStack() as undo:
        try:
            for name in names:
                ip("netns", "add", name)
                undo.callback(ip, "netns", "delete", name)
            ip(
                "link", "add", "cable", "netns", names[0],
                "type", "veth", "peer", "name", "cable", "netns", names[1],
            )  # fmt: skip
            for name, host in zip(names, HOSTS, strict=True):
                ip("-n", name, "address", "add", f"{host}/24", "dev", "cable")
                for device in ("lo", "cable"):
                    ip("-n", name, "link", "set", device, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this test has to make network namespaces: {error}")
        yield names


@contextlib.contextmanager
def started(machines, flags):
    addresses = [f"{host}:2222" for host in HOSTS]
    with contextlib.ExitStack() as undo:
        every = []
        for index, name in enumerate(machines):
            prefix = ("ip", "netns", "exec", name)
            every.append(Worker(addresses, index, flags, prefix=prefix))
            undo.callback(every[-1].kill)
        yield every


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")
def test_a_link_that_is_cut_and_mended_is_waited_for(machines, data_dir, tmp_path):
    with started(machines, flags_of(CONFIG, tmp_path / "whole", data_dir)) as both:
        assert_ended(both, [0, 0])
    with started(machines, flags_of(CONFIG, tmp_path / "cut", data_dir)) as both:
        both[0].until("epoch 1/")
        ip("-n", machines[1], "link", "set", "cable", "down")
        for one in both:
            one.until("a worker of the cluster is lost")
        ip("-n", machines[1], "link", "set", "cable", "up")
        assert_ended(both, [0, 0])
        assert any("going on after step" in line for line in both[0].said)
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
