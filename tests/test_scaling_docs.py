"""What docs/scaling.md tells a cluster is what a cluster, and our own program, reads."""

import json
import re
import runpy
import subprocess
import sys
import types
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


def stand_in_for_ray(monkeypatch):
    """Ray Train's names, which write down how they are called."""
    called = {}

    def noting(name):
        return lambda **given: called.setdefault(name, given)

    class Trainer:
        def __init__(self, work, **given):
            called["work"], called["trainer"] = work, given

        def fit(self):
            called["fitted"] = True

    train = types.ModuleType("ray.train")
    for name in ("FailureConfig", "RunConfig", "ScalingConfig"):
        setattr(train, name, noting(name))
    tensorflow = types.ModuleType("ray.train.tensorflow")
    tensorflow.TensorflowTrainer = Trainer
    modules = {"ray": types.ModuleType("ray"), "ray.train": train}
    for name, module in (modules | {"ray.train.tensorflow": tensorflow}).items():
        monkeypatch.setitem(sys.modules, name, module)
    return called


def test_ray_is_told_how_many_workers_and_that_none_may_be_missing(monkeypatch):
    from absl import flags

    called = stand_in_for_ray(monkeypatch)
    monkeypatch.syspath_prepend(str(ROOT / "trainers"))
    monkeypatch.setattr(flags, "FLAGS", flags.FlagValues())
    trained = []
    import zoo.training

    monkeypatch.setattr(zoo.training, "train_and_evaluate", lambda *given: trained.append(given))
    for name in ("command", "quiet"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    scope = {}

    def define(name, *given, **named):
        holder = types.SimpleNamespace(value={"workers": 3, "gpus": False}.get(name, f"/{name}"))
        scope[name] = holder
        return holder

    for name in ("DEFINE_integer", "DEFINE_boolean", "DEFINE_string"):
        monkeypatch.setattr(flags, name, define)
    command = types.ModuleType("command")
    command.define = lambda *given, **named: None
    command.read = lambda kind: kind(seed=5)
    monkeypatch.setitem(sys.modules, "command", command)
    program = runpy.run_path(str(ROOT / "trainers/train_on_ray.py"))
    program["main"]([])
    assert called["fitted"]
    assert called["ScalingConfig"] == {"num_workers": 3, "use_gpu": False}
    assert called["FailureConfig"] == {"max_failures": -1}
    given = json.loads(json.dumps(called["trainer"]["train_loop_config"]))  # it crosses the network
    called["work"](given)
    config, workdir, data_dir = trained[0]
    assert config == Config(seed=5, strategy="multi_worker")
    assert (workdir, data_dir) == ("/workdir", "/data_dir")


@pytest.mark.slow
def test_without_ray_it_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "trainers/train_on_ray.py", f"--workdir={tmp_path}"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(r"train_on_ray.py: Ray Train cannot be imported", line)
