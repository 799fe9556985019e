"""The program from its first line to its exit code."""

import threading

import grpc
import httpx
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.processes import serving
from tests.serving.saved import write_echo

ROWS = 500
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_several_models_of_a_file_then_a_drain_that_loses_nothing(exported, tmp_path):
    """One process for all of it: each start takes seconds."""
    write_echo(tmp_path / "echo", 1, "serving_default")
    write_echo(tmp_path / "echo", 2, "serving_default")
    config = tmp_path / "models.config"
    config.write_text(
        f"""
        model_config_list {{
          config {{ name: "reviews" base_path: "{exported.parent}" model_platform: "tensorflow" }}
          config {{
            name: "echo" base_path: "echo"
            model_version_policy {{ specific {{ versions: 1 }} }}
            version_labels {{ key: "stable" value: 1 }}
          }}
        }}
        """
    )
    # Row after row, so that requests are still under way when the signal comes.
    arguments = (f"--model_config_file={config}", "--max_batch_rows=1")
    with serving(*arguments) as server, server.channel() as channel:
        server.until("reviews 1 is served").until("echo 1 is served")
        assert server.get("/readyz").status_code == 200
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        asked = predict_pb2.PredictRequest()
        asked.model_spec.name = "reviews"
        asked.inputs["text"].CopyFrom(tf.make_tensor_proto(["a dull film"] * ROWS))
        calls = [stub.Predict.future(asked, 60.0) for _ in range(4)]
        answers = []

        def ask_over_rest():
            body = {"instances": ["a dull film"] * ROWS}
            place = f"{server.url}/v1/models/echo/labels/stable:predict"
            answers.append(httpx.post(place, json=body, timeout=60).json()["predictions"])

        rest = [threading.Thread(target=ask_over_rest) for _ in range(4)]
        for thread in rest:
            thread.start()
        # Its counters say when the requests have come.
        while (
            "zoo_serving_queued_rows 4000.0"
            not in server.get("/monitoring/prometheus/metrics").text
        ):
            assert len(answers) < 4, "answered before the signal"
        server.process.terminate()
        assert next(watch).status == NOT_SERVING
        assert list(watch) == [], "a watcher would have held the server up"
        assert all(len(call.result().outputs["label"].string_val) == ROWS for call in calls)
        for thread in rest:
            thread.join()
        assert [row["text"] for rows in answers for row in rows] == ["a dull film"] * 4 * ROWS
        assert server.ended() == 0
        with pytest.raises(httpx.ConnectError):
            server.get("/readyz")
        with pytest.raises(grpc.RpcError):
            stub.Predict(asked, 5.0)
    assert not [line for line in server.said if "Traceback" in line]
