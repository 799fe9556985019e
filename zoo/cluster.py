"""The workers of a run, as the environment variable `TF_CONFIG` names them.

    {"cluster": {"worker": ["a.example:2222", "b.example:2222"]}, "task": {"type": "worker", "index": 0}}

The same cluster everywhere, and on each machine the task that runs there.
"""  # noqa: E501

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoo.errors import UsageError

_JOBS = ("chief", "worker")


@dataclass(frozen=True)
class Cluster:
    """Who takes part, and which of them this process is.

    Args:
        addresses: `host:port` of every worker, the chief first.
        index: this process's place in `addresses`; the chief's is 0.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def is_chief(self) -> bool:
        """Whether this is the one that validates, and writes all that is written."""
        return self.index == 0

    def require_free_port(self) -> None:
        """Refuses an address that another process of this machine listens at.

        Raises:
            UsageError: naming the port.
        """
        port = int(self.addresses[self.index].rpartition(":")[2])
        with socket.socket(socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET) as listener:
            # What has just been closed is free, whatever the system still waits for.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("", port))
                listener.listen()
            except OSError as error:
                raise _refusal(
                    f"port {port} of this task cannot be listened at ({error.strerror}): another "
                    "process has it, this very worker perhaps"
                ) from error


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """What `TF_CONFIG` says.

    Args:
        environment: where the variable is.

    Raises:
        UsageError: if it is missing, or says what cannot work.

    Example:
        >>> text = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
        >>> read_cluster({"TF_CONFIG": text})
        Cluster(addresses=('a:1', 'b:1'), index=1)
        >>> read_cluster({})
        Traceback (most recent call last):
        ...
        zoo.errors.UsageError: --strategy=multi_worker cannot work: the environment variable \
TF_CONFIG is missing; docs/scaling.md shows what it holds
    """
    text = environment.get("TF_CONFIG")
    if not text:
        raise _refusal(
            "the environment variable TF_CONFIG is missing; docs/scaling.md shows what it holds"
        )
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _refusal(f"TF_CONFIG is not JSON: {error}") from error
    jobs, task = (_mapping(content, name) for name in ("cluster", "task"))
    if "ps" in jobs:
        raise _refusal(
            "the cluster in TF_CONFIG has parameter servers (ps), which Keras 3 does not support: "
            "name workers alone"
        )
    for job in jobs:
        if job not in _JOBS:
            raise _refusal(
                f"the cluster in TF_CONFIG has a job {job!r}: name workers alone; the first one "
                "validates too"
            )
    places = [(job, i) for job in _JOBS for i in range(len(_addresses(jobs, job)))]
    addresses = tuple(address for job in _JOBS for address in _addresses(jobs, job))
    if len(set(addresses)) < len(addresses):
        raise _refusal("the cluster in TF_CONFIG names an address twice")
    index = task.get("index")
    # Some programs write numbers as strings, and TensorFlow reads those.
    wanted = (task.get("type"), int(str(index)) if str(index).isdecimal() else index)
    if wanted not in places:
        known = ", ".join(f"{job} {i}" for job, i in places) or "nobody"
        raise _refusal(f"the task in TF_CONFIG is {wanted[0]} {wanted[1]}, the cluster has {known}")
    if sum(job != "worker" for job, _ in places) > 1:
        raise _refusal("the cluster in TF_CONFIG has more than one chief")
    return Cluster(addresses, places.index(wanted))


def _mapping(content: Any, name: str) -> dict[str, Any]:
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, dict):
        raise _refusal(
            f'TF_CONFIG has no {name!r}: it is an object like {{"cluster": {{"worker": '
            '["HOST:PORT", …]}, "task": {"type": "worker", "index": 0}}'
        )
    return found


def _addresses(jobs: dict[str, Any], job: str) -> list[str]:
    found = jobs.get(job, [])
    if not isinstance(found, list):
        raise _refusal(f"TF_CONFIG names no list of addresses under {job!r}")
    for address in found:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise _refusal(f"TF_CONFIG has the address {address!r}: it must be HOST:PORT")
    return found


def _refusal(why: str) -> UsageError:
    return UsageError(f"--strategy=multi_worker cannot work: {why}")
