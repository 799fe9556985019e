"""What the server counts, for Prometheus."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from zoo.serving.predict import Queue
from zoo.serving.registry import Registry

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Counters of one server.

    Args:
        registry: whose versions are counted, and whose names may become labels: others, which
            callers make up, would each be kept for ever.
        queue: whose rows are counted.
    """

    def __init__(self, registry: Registry, queue: Queue) -> None:
        self._registry = registry
        self._known = set(registry.names)
        self._collector = CollectorRegistry()
        self._requests = Counter(
            "zoo_serving_requests",
            "Requests that were answered, by gRPC's name of the outcome.",
            ("protocol", "method", "model", "code"),
            registry=self._collector,
        )
        self._seconds = Histogram(
            "zoo_serving_request_seconds",
            "Seconds from a request's beginning to its answer, its body's way included.",
            ("protocol", "method"),
            buckets=_SECONDS,
            registry=self._collector,
        )
        rows = Gauge("zoo_serving_queued_rows", "Rows that wait or run.", registry=self._collector)
        rows.set_function(lambda: queue.rows)
        self._versions = Gauge(
            "zoo_serving_versions",
            "Versions in memory or remembered, by state.",
            ("model", "state"),
            registry=self._collector,
        )

    def observe(self, protocol: str, method: str, model: str, code: str, seconds: float) -> None:
        """Counts one request."""
        model = model if model in self._known else ""
        self._requests.labels(protocol, method, model, code).inc()
        self._seconds.labels(protocol, method).observe(seconds)

    def page(self) -> bytes:
        """All of it in Prometheus's text format."""
        for name in self._registry.names:
            states = [version.state for version in self._registry.status(name)]
            for state in _states():
                label = ModelVersionStatus.State.Name(state)
                self._versions.labels(name, label).set(states.count(state))
        return generate_latest(self._collector)


def _states() -> Iterable[int]:
    return [value for value in ModelVersionStatus.State.values() if value]
