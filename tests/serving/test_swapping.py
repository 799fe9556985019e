"""Versions are swapped while callers ask: none is lost, and none is answered by half a model."""

import shutil
import threading

import grpc
import httpx
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.processes import serving
from tests.serving.saved import copy_version, write_echo


class Callers:
    """Callers that ask over both protocols until they are told to stop, and what they saw."""

    def __init__(self, server, count):
        self._server = server
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers, self.wrong = {}, []
        ways = (self._over_grpc, self._over_rest)
        self._threads = [
            threading.Thread(target=ways[n % 2], args=(n,), daemon=True) for n in range(count)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(120)

    def _count(self, version, right):
        with self._lock:
            self.answers[version] = self.answers.get(version, 0) + 1
            if not right:
                self.wrong.append(version)

    def _over_grpc(self, number):
        text = f"caller {number} ".encode() * (1 + number * 20)
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name = "echo"
        asked.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
        with self._server.channel() as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.is_set():
                try:
                    got = stub.Predict(asked, 60.0)
                except grpc.RpcError as error:
                    self._count(str(error), False)
                    continue
                (says,) = got.outputs["version"].int64_val
                same = list(got.outputs["text"].string_val) == [text]
                self._count(says, same and says == got.model_spec.version.value)

    def _over_rest(self, number):
        text = f"caller {number} " * (1 + number * 20)
        with httpx.Client(base_url=self._server.url, timeout=60) as client:
            while not self._stop.is_set():
                got = client.post("/v1/models/echo:predict", json={"instances": [text]})
                if got.status_code != 200:
                    self._count(got.text, False)
                    continue
                (row,) = got.json()["predictions"]
                self._count(row["version"], row["text"] == text)

    def until_answered_by(self, version):
        """Waits until a caller has had an answer of that version."""
        while version not in self.answers and not self.wrong:
            self._stop.wait(0.01)


def swap(server, callers, base, first, swaps, broken):
    """Puts versions up one after the other, and takes the old ones away; some are broken."""
    whole = base / str(first)
    for number in range(first + 1, first + 1 + swaps):
        write_echo(base, number, "serving_default")
        server.until(f"echo {number} is served")
        callers.until_answered_by(number)
        server.until(f"echo {number - 1} leaves")
        if number - first <= broken:
            # What half a copy looks like: the graph is whole, the weights are not.
            data = "variables/variables.data-00000-of-00001"
            bad = copy_version(whole, base / f"{number}000", {data: b"\x00"})
            server.until(next_refusal(server, number))
            # At once: half removed, it would be another version, and nothing would tell of its end.
            shutil.rmtree(bad.rename(base.parent / bad.name))
        if number - 1 != first:
            shutil.rmtree(base / str(number - 1))


def next_refusal(server, number):
    """The line that refuses the broken version, once it is there."""
    with server._heard:
        assert server._heard.wait_for(lambda: refusals(server, number), 120), server.said
    return refusals(server, number)[0]


def refusals(server, number):
    return [line for line in server.said if line.startswith(f"echo {number}000 is refused: ")]


@pytest.fixture
def base(tmp_path):
    return write_echo(tmp_path / "echo", 1, "serving_default").parent


def test_no_request_is_lost_while_versions_are_swapped(base):
    with serving(base) as server:
        server.until("echo 1 is served")
        with Callers(server, 8) as callers:
            callers.until_answered_by(1)
            swap(server, callers, base, 1, swaps=3, broken=1)
        assert not callers.wrong
        assert set(callers.answers) == {1, 2, 3, 4}
        states = server.get("/v1/models/echo").json()["model_version_status"]
        assert {v["version"]: v["state"] for v in states} == {
            "2000": "END",
            "4": "AVAILABLE",
            "3": "END",
            "2": "END",
            "1": "END",
        }
        assert states[0]["status"]["error_code"] == "UNKNOWN"
        assert "cannot be loaded" in states[0]["status"]["error_message"]
        assert server.end() == 0


@pytest.mark.slow
def test_a_soak_of_twenty_swaps_gives_its_memory_back(base):
    with serving(base) as server:
        server.until("echo 1 is served")
        with Callers(server, 8) as callers:
            callers.until_answered_by(1)
            before = server.memory()
            swap(server, callers, base, 1, swaps=20, broken=3)
            while sum(callers.answers.values()) < 50_000 and not callers.wrong:
                callers._stop.wait(0.1)
        assert not callers.wrong
        assert sum(callers.answers.values()) >= 50_000
        assert server.memory() < 1.1 * before
        assert server.end() == 0
