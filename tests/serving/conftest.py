"""A model in the zoo's own format, and servers that answer with it and with tiny ones."""

import httpx
import pytest

from tests.exports import make_trained
from tests.serving.saved import write_classifier, write_echo
from zoo.export import export
from zoo.serving.batching import BatchSettings
from zoo.serving.limits import Limits
from zoo.serving.model_config import ServedModel
from zoo.serving.server import Server, ServerSettings


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A version as the zoo exports it."""
    return export(make_trained("bag"), "reviews", tmp_path_factory.mktemp("saved_models"))


@pytest.fixture(scope="session")
def echo(tmp_path_factory):
    """A version that says that it is the first."""
    return write_echo(tmp_path_factory.mktemp("echo"), 1)


class Running:
    """A server in this process, and clients' ways to it."""

    def __init__(self, models, **settings):
        self.said = []
        settings = ServerSettings(rest_port=0, grpc_port=0, poll_seconds=0.05, **settings)
        self.server = Server(models, settings, self.said.append)
        self.server.start()
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.server.rest_port}", timeout=60)
        self.grpc = f"127.0.0.1:{self.server.grpc_port}"

    def until(self, condition, seconds=60):
        """Waits until a version's state has changed so that the condition holds."""
        import threading

        changed = threading.Event()
        self.server.registry.on_change(changed.set)
        while not condition():
            assert changed.wait(seconds), self.said
            changed.clear()
        return self

    def close(self):
        self.http.close()
        assert self.server.stop(10)


@pytest.fixture(scope="session")
def running(exported, echo, tmp_path_factory):
    """Serves a model of the zoo, a tiny one in two versions with labels, and a classifier."""
    base = tmp_path_factory.mktemp("classifier")
    write_classifier(base, 1)
    write_echo(echo.parent, 2)
    models = [
        ServedModel("reviews", exported.parent),
        ServedModel("echo", echo.parent, latest=0, labels={"stable": 1, "canary": 2, "lost": 9}),
        ServedModel("classifier", base),
    ]
    limits = Limits(body_bytes=1 << 16, body_seconds=1.0, header_seconds=0.5)
    server = Running(models, limits=limits, batching=BatchSettings(8, 1.0, 500))
    yield server.until(server.server.ready)
    server.close()


@pytest.fixture
def still_there(running):
    """Whatever a test did, the next good request is answered."""
    yield
    got = running.http.post("/v1/models/reviews:predict", json={"instances": ["a good film"]})
    assert got.status_code == 200, got.text
    assert got.json()["predictions"][0]["label"] in ("negative", "positive")
