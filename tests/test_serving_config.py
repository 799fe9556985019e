"""What is written to serve a SavedModel elsewhere is what that place reads."""

import os
import stat
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import tensorflow as tf
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.openapi import assert_fits
from zoo.errors import RunError, UsageError
from zoo.serving_config import write_serving_config

WRAPPERS = "google/protobuf/wrappers.proto"
# TensorFlow Serving's BatchingParameters, which its package for Python lacks: kept by hand after
# session_bundle_config.proto.
BATCHING = {
    "max_batch_size": ("Int64Value", 1),
    "batch_timeout_micros": ("Int64Value", 2),
    "max_enqueued_batches": ("Int64Value", 3),
    "num_batch_threads": ("Int64Value", 4),
    "thread_pool_name": ("StringValue", 5),
    "pad_variable_length_inputs": ("bool", 7),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "made" / "here"
    write_serving_config("imdb-bilstm", folder, text=True)
    return folder


def batching_parameters(text):
    file = descriptor_pb2.FileDescriptorProto(name="b.proto", package="b", syntax="proto3")
    file.dependency.append(WRAPPERS)
    message = file.message_type.add(name="BatchingParameters")
    for name, (kind, number) in BATCHING.items():
        field = message.field.add(name=name, number=number, label=1, type=8)
        if kind != "bool":
            field.type, field.type_name = 11, f".google.protobuf.{kind}"
    pool = descriptor_pool.DescriptorPool()
    known = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(WRAPPERS).CopyToProto(known)
    pool.Add(known)
    pool.Add(file)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("b.BatchingParameters"))
    return text_format.Parse(text, made())


def documents(folder):
    every = yaml.safe_load_all((folder / "deployment.yaml").read_text("utf-8"))
    return {document["kind"]: document for document in every}


def test_the_models_are_what_the_server_reads(folder):
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse((folder / "models.config").read_text("utf-8"), config)
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("imdb-bilstm", "/models/imdb-bilstm")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_is_bounded_in_rows_wait_and_queue(folder, tmp_path):
    found = batching_parameters((folder / "batching.config").read_text("utf-8"))
    bounds = (found.max_batch_size, found.batch_timeout_micros, found.max_enqueued_batches)
    assert all(bound.value > 0 for bound in bounds)
    assert not found.pad_variable_length_inputs
    write_serving_config("tracks", tmp_path, text=False)
    found = batching_parameters((tmp_path / "batching.config").read_text("utf-8"))
    assert found.pad_variable_length_inputs


def test_a_cluster_takes_the_deployment(folder):
    found = documents(folder)
    assert set(found) == {"ConfigMap", "Deployment", "Service"}
    for document in found.values():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    wrong = {**found["Service"], "spec": {"port": 8501}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_parts_of_the_deployment_fit_together(folder):
    found = documents(folder)
    for file, content in found["ConfigMap"]["data"].items():
        assert content == (folder / file).read_text("utf-8")
    pod = found["Deployment"]["spec"]["template"]
    assert found["Service"]["spec"]["selector"] == pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == ports
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounted) == {volume["name"] for volume in pod["spec"]["volumes"]}
    for argument in container["args"]:
        path = argument.partition("=")[2]
        assert path == "true" or Path(path).name in found["ConfigMap"]["data"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        request = container[probe]["httpGet"]
        assert request["path"].startswith("/v1/models/imdb-bilstm")
        assert request["port"] in ports


def test_kserve_takes_the_inference_service(folder):
    document = yaml.safe_load((folder / "inference_service.yaml").read_text("utf-8"))
    assert_fits(document, "kserve", "V1beta1InferenceService")
    for wrong in ({"runtime_version": "2"}, {"minReplicas": "1"}, {"model": {"storageUri": 1}}):
        with pytest.raises(AssertionError):
            assert_fits({"spec": {"predictor": wrong}}, "kserve", "V1beta1InferenceService")
    assert document["apiVersion"] == "serving.kserve.io/v1beta1"
    assert document["kind"] == "InferenceService"
    model = document["spec"]["predictor"]["model"]
    assert model["storageUri"] == "pvc://saved-models/imdb-bilstm"
    assert model["runtimeVersion"] == tf.version.VERSION.split("-")[0]


def test_the_container_is_started_with_what_was_written(folder, tmp_path):
    (tmp_path / "saved models" / "imdb-bilstm").mkdir(parents=True)
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    docker.chmod(0o755)
    script = folder / "run_container.sh"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [script, tmp_path / "saved models"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    given = done.stdout.splitlines()
    mounts = [one.partition("=")[2] for one in given if one.startswith("--mount=")]
    where = {}
    for mount in mounts:
        parts = dict(part.partition("=")[::2] for part in mount.split(","))
        where[parts["target"]] = Path(parts["source"])
    assert where == {"/models": tmp_path / "saved models", "/config": folder}
    image = given.index(f"tensorflow/serving:{tf.version.VERSION.split('-')[0]}")
    for argument in given[image + 1 :]:
        path = argument.partition("=")[2]
        if path.startswith("/config/"):
            assert (folder / path.removeprefix("/config/")).is_file()
    published = [one for one in given if one.startswith("--publish=")]
    assert all(one.startswith("--publish=127.0.0.1:") for one in published)
    done = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "give the folder that holds imdb-bilstm/" in done.stderr


@pytest.mark.parametrize(
    "name", ["First", "a_b", "1st", "a.b", "-a", "a-", "", "a" * 51, "a\n", "null", "off"]
)
def test_a_name_that_no_cluster_takes_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="cannot name a service"):
        write_serving_config(name, tmp_path / "serving", text=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="is in the way"):
        write_serving_config("first", tmp_path / "file", text=True)
    with pytest.raises(UsageError, match="--serving_config= cannot work"):
        write_serving_config("first", "", text=True)
