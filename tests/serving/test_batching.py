"""Which rows share a batch, and that sharing one changes no answer."""

import threading
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from tests.serving.saved import copy_version
from zoo.errors import RunError
from zoo.serving.batching import Batcher, BatchSettings, Lanes, lanes_of
from zoo.serving.failure import Failure
from zoo.serving.predict import Queue
from zoo.serving.signatures import PREDICT, Signature, Spec
from zoo.serving.versions import Loaded
from zoo.serving.warmup import FILE

TEXT = Spec(tf.string, (None,), "text:0")
OUT = Spec(tf.float32, (None, 2), "out:0")


@pytest.fixture(scope="module")
def loaded(echo):
    loaded = Loaded(echo, BatchSettings(max_rows=8, wait_ms=1.0))
    yield loaded
    loaded.close()


def signature(inputs, outputs=None):
    return Signature("serving_default", PREDICT, inputs, outputs or {"out": OUT})


@pytest.mark.parametrize(
    ("inputs", "outputs", "key"),
    [
        ({"text": TEXT}, None, "text"),
        ({"ids": Spec(tf.int32, (None, 7), "")}, None, None),
        ({"text": TEXT, "more": TEXT}, None, None),
        (
            {
                "features": Spec(tf.float32, (None, None, 3), ""),
                "lengths": Spec(tf.int32, (None,), ""),
            },
            None,
            "features",
        ),
    ],
)
def test_what_may_share_a_batch(inputs, outputs, key):
    assert lanes_of(signature(inputs, outputs)).key == key


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        # Steps of which nobody says how many are true.
        ({"ids": Spec(tf.int32, (None, None), "")}, None),
        ({"scale": Spec(tf.float32, (), "")}, None),
        ({"any": Spec(tf.float32, None, "")}, None),
        ({"text": TEXT}, {"mean": Spec(tf.float32, (), "")}),
        ({"text": TEXT}, {"steps": Spec(tf.float32, (None, None), "")}),
        ({}, None),
    ],
)
def test_what_may_not(inputs, outputs):
    assert lanes_of(signature(inputs, outputs)) is None


def test_rows_of_very_different_length_go_separate_ways_and_come_back_in_order():
    seen = []

    def run(lane):
        def answer(values):
            seen.append((lane, [len(text) for text in values[0]]))
            return [np.array([len(text) for text in values[0]])]

        return answer

    lanes = Lanes("text", (10, 100), pads=False)
    batcher = Batcher(signature({"text": TEXT}), lanes, [run(0), run(1), run(2)], run(9), 2)
    lengths = [500, 3, 50, 4, 5, 600]
    given = {"text": np.array([b"a" * length for length in lengths], object)}
    (answer,) = batcher(given, lambda: None, alone=False)
    assert answer.tolist() == lengths
    assert seen == [(0, [3, 4]), (0, [5]), (1, [50]), (2, [500, 600])]
    seen.clear()
    (answer,) = batcher(given, lambda: None, alone=True)
    assert answer.tolist() == lengths
    assert seen == [(9, [3, 4]), (9, [5]), (9, [50]), (9, [500, 600])], "no queue was asked"


def test_a_long_request_stops_when_nobody_waits_any_more():
    calls = []
    run = calls.append

    def go_on():
        if len(calls) == 2:
            raise TimeoutError

    batcher = Batcher(signature({"text": TEXT}), Lanes(None, (), False), [run], run, 1)
    calls_before = len(calls)
    with pytest.raises(TimeoutError):
        batcher({"text": np.array([b""] * 5, object)}, go_on, alone=False)
    assert len(calls) - calls_before == 2


def test_tracks_of_any_length_are_answered_as_alone(loaded):
    tracks = loaded.signatures["tracks"]
    rng = np.random.default_rng(0)
    for steps in (0, 1, 31, 32, 33, 500, 513, 2000):
        features = rng.random((3, steps, 2), np.float32)
        # A length beyond the last step counts the steps that there are.
        lengths = np.array([steps + 100, steps // 2, 0], np.int32)
        given = {"features": features, "lengths": lengths}
        wanted = [features[0].sum(0), features[1, : steps // 2].sum(0), [0, 0]]
        for alone in (False, True):
            got = loaded.run(tracks, given, alone=alone)["sum"]
            np.testing.assert_allclose(got, wanted, rtol=1e-4)


def test_lengths_end_with_the_steps():
    lanes = Lanes("features", (4,), pads=True)
    given = {"features": np.zeros((2, 3, 1)), "lengths": np.array([6, 2])}
    assert lanes.within(given)["lengths"].tolist() == [3, 2]


def test_callers_share_batches_with_rows_of_like_length_alone(echo):
    loaded = Loaded(echo, BatchSettings(max_rows=64, wait_ms=200))
    company = loaded.signatures["company"]
    start, seen = threading.Barrier(16), {}

    def ask(caller):
        given = {"text": np.array([b"a" * (5000 if caller == 0 else 5)], object)}
        start.wait()
        seen[caller] = int(loaded.run(company, given)["rows"][0])

    callers = [threading.Thread(target=ask, args=(caller,)) for caller in range(16)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    loaded.close()
    assert seen.pop(0) == 1, "a long text waits with no short one"
    assert max(seen.values()) > 1


def test_whoever_has_company_or_had_it_last_waits_for_more():
    queue = Queue(9)
    with queue.admitted(1) as alone:
        assert alone
        with queue.admitted(2) as more:
            assert not more
    with queue.admitted(1) as alone:
        assert not alone, "they will be back"
    with queue.admitted(1) as alone:
        assert alone


def test_a_full_batch_does_not_wait(echo):
    """With a wait of ten minutes, answers come because the batch is full."""
    quick = BatchSettings(max_rows=1, wait_ms=600_000)
    loaded = Loaded(echo, quick)
    given = {"text": np.array([b"a", b"b"], object)}
    got = loaded.run(loaded.signatures["serving_default"], given)
    assert got["text"].tolist() == [b"a", b"b"]
    loaded.close()


@pytest.mark.parametrize("threads", [0, 1])
def test_an_operation_has_the_threads_that_it_was_given(echo, threads):
    loaded = Loaded(echo, BatchSettings(op_threads=threads))
    assert loaded._session._config.intra_op_parallelism_threads == threads
    loaded.close()


def test_a_version_that_is_closed_leaves_nothing_behind(echo):
    loaded = Loaded(echo, BatchSettings())
    graph = weakref.ref(loaded._session.graph)
    loaded.close()
    assert graph() is None


def write_warmup(path, requests):
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for key, value in requests:
            request = predict_pb2.PredictRequest()
            request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def test_warm_up_requests_are_asked_before_a_version_serves(echo, tmp_path):
    version = copy_version(echo, tmp_path / "1")
    write_warmup(version / FILE, [("text", ["a"]), ("text", ["b", "c"])])
    Loaded(version, BatchSettings()).close()
    write_warmup(version / FILE, [("text", ["a"]), ("txt", ["b"])])
    with pytest.raises(RunError, match=r"its warm-up fails: inputs missing: 'text'"):
        Loaded(version, BatchSettings())
    (version / FILE).write_bytes(b"no records at all")
    with pytest.raises(RunError, match="its warm-up cannot be read"):
        Loaded(version, BatchSettings())


@pytest.mark.parametrize("damage", ["saved_model.pb", "variables/variables.index", "fingerprint"])
def test_a_damaged_version_is_refused_with_its_reason(echo, tmp_path, damage):
    files = {"saved_model.pb": b"\x00\xff", "variables/variables.index": b""}
    if damage == "fingerprint":
        (tmp_path / "1").mkdir()
    else:
        copy_version(echo, tmp_path / "1", {damage: files[damage]})
    with pytest.raises(RunError, match="it cannot be loaded: ") as caught:
        Loaded(tmp_path / "1", BatchSettings())
    assert "\n" not in str(caught.value)


def test_a_failing_model_says_what_failed_and_no_more(loaded):
    with pytest.raises(Failure) as caught:
        loaded.run(loaded.signatures["failing"], {"ids": np.array([12], np.int32)})
    assert str(caught.value).startswith("assertion failed: [ids run up to 9]")
    assert "\n" not in str(caught.value)


def test_each_request_of_a_lot_is_held_to_the_outputs_that_it_wants(echo):
    loaded = Loaded(echo, BatchSettings(), max_elements=5)
    signature = loaded.signatures["serving_default"]
    given = {"text": np.array([b"a", b"bc"], object)}
    queue = loaded.queue_of(signature, given)
    few, all_of_them = loaded.run_together(signature, queue, [(given, ["length"]), (given, ())])
    assert {key: array.tolist() for key, array in few.items()} == {"length": [1, 2]}
    assert isinstance(all_of_them, Failure)
    loaded.close()
