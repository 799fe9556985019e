"""What docs/scaling.md tells a cluster is what a cluster, and our own program, reads."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.openapi import assert_fits
from zoo.cluster import read_cluster
from zoo.config import Config

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "scaling"


def documents(name):
    return {one["kind"]: one for one in yaml.safe_load_all((FOLDER / name).read_text("utf-8"))}


def assert_our_program_takes(container):
    program = container["command"]
    assert program[0] == "python"
    assert (ROOT / program[1]).is_file()
    flags = dict(one.removeprefix("--").split("=", 1) for one in container["args"])
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for name in ("data_dir", "workdir"):
        assert flags.pop(name).startswith(tuple(mounts))
    assert Config(**flags).strategy == "multi_worker"


def test_a_cluster_takes_the_job():
    found = documents("job.yaml")
    assert set(found) == {"Service", "Job"}
    for document in found.values():
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("index", [0, 1])
def test_every_pod_of_the_job_finds_itself_in_tf_config(index):
    found = documents("job.yaml")
    job, service = found["Job"]["spec"], found["Service"]
    (container,) = job["template"]["spec"]["containers"]
    assert_our_program_takes(container)
    variables = {one["name"]: one.get("value") for one in container["env"]}
    cluster = read_cluster({"TF_CONFIG": variables["TF_CONFIG"].replace("$(INDEX)", str(index))})
    assert list(variables) == ["INDEX", "TF_CONFIG"]  # one that is named later is not filled in
    assert cluster.index == index
    assert len(cluster.addresses) == job["completions"] == job["parallelism"]
    name, domain = found["Job"]["metadata"]["name"], job["template"]["spec"]["subdomain"]
    assert domain == service["metadata"]["name"]
    (port,) = service["spec"]["ports"]
    assert container["ports"][0]["containerPort"] == port["port"]
    assert cluster.addresses[index] == f"{name}-{index}.{domain}:{port['port']}"
    assert service["spec"]["selector"] == job["template"]["metadata"]["labels"]


def test_the_operator_takes_the_tfjob():
    (document,) = documents("tfjob.yaml").values()
    assert (document["apiVersion"], document["kind"]) == ("kubeflow.org/v1", "TFJob")
    assert_fits(document, "kubeflow-training", "KubeflowOrgV1TFJob")
    with pytest.raises(AssertionError, match="spec has no replicas"):
        assert_fits({"spec": {"replicas": 2}}, "kubeflow-training", "KubeflowOrgV1TFJob")
    assert set(document["spec"]["tfReplicaSpecs"]) == {"Worker"}
    worker = document["spec"]["tfReplicaSpecs"]["Worker"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["name"] == "tensorflow"
    assert container["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
    assert_our_program_takes(container)
