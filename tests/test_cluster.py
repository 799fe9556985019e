"""What TF_CONFIG may say, and what is refused in one line."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.cluster import Cluster, read_cluster
from zoo.errors import UsageError


def environment(cluster, type="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": type, "index": index}})}


def test_the_first_worker_is_the_chief_where_no_other_is_named():
    found = [read_cluster(environment({"worker": ["a:1", "b:1"]}, index=i)) for i in (0, 1)]
    assert [one.is_chief for one in found] == [True, False]
    assert found[1].addresses == ("a:1", "b:1")


def test_a_chief_that_is_named_comes_before_the_workers():
    jobs = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    assert read_cluster(environment(jobs, "chief")) == Cluster(("a:1", "b:1", "c:1"), 0)
    assert read_cluster(environment(jobs, "worker", 1)) == Cluster(("a:1", "b:1", "c:1"), 2)


def test_an_index_may_be_written_as_a_string():
    assert read_cluster(environment({"worker": ["a:1", "b:1"]}, index="1")).index == 1


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({}, "the environment variable TF_CONFIG is missing"),
        ({"TF_CONFIG": ""}, "the environment variable TF_CONFIG is missing"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG is not JSON"),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG has no 'cluster'"),
        ({"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'}, "TF_CONFIG has no 'task'"),
        (environment({"worker": ["a:1"]}, index=1), "the task in TF_CONFIG is worker 1, the clust"),
        (environment({"worker": ["a:1"]}, "chief"), "is chief 0, the cluster has worker 0"),
        (environment({"worker": ["a:1"]}, index=None), "is worker None, the cluster has worker 0"),
        (environment({}), "is worker 0, the cluster has nobody"),
        (environment({"worker": "a:1"}), "TF_CONFIG names no list of addresses under 'worker'"),
        (environment({"worker": ["a"]}), "TF_CONFIG has the address 'a': it must be HOST:PORT"),
        (environment({"worker": ["a:x"]}), "it must be HOST:PORT"),
        (environment({"worker": ["a:65536"]}), "it must be HOST:PORT"),
        (environment({"worker": [7]}), "it must be HOST:PORT"),
        (environment({"worker": ["a:1", "a:1"]}), "names an address twice"),
        (environment({"chief": ["a:1", "b:1"]}, "chief"), "more than one chief"),
        (environment({"worker": ["a:1"], "ps": ["b:1"]}), "which Keras 3 does not support"),
        (environment({"worker": ["a:1"], "evaluator": ["b:1"]}), "has a job 'evaluator'"),
    ],
)
def test_what_cannot_work_is_one_line(variables, why):
    with pytest.raises(UsageError, match="--strategy=multi_worker cannot work: ") as caught:
        read_cluster(variables)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cluster", "task", "worker", "chief", "type", "index", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON)
def test_whatever_it_holds_is_read_or_refused(content):
    try:
        found = read_cluster({"TF_CONFIG": json.dumps(content)})
    except UsageError:
        return
    assert found.addresses[found.index]


def test_a_port_that_is_taken_is_refused():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cluster = Cluster((f"127.0.0.1:{port}",), 0)
        with pytest.raises(UsageError, match=f"port {port} of this task cannot be listened at"):
            cluster.require_free_port()
    cluster.require_free_port()
