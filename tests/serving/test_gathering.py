"""Requests that came together are run together, and each gets its own answer."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from zoo.serving.failure import Failure, invalid
from zoo.serving.gathering import Gatherer
from zoo.serving.predict import Admitted
from zoo.serving.signatures import PREDICT, Signature, Spec

SPEC = Spec(tf.string, (None,), "x:0")
SIGNATURE = Signature("serving_default", PREDICT, {"text": SPEC}, {"text": SPEC})


class Loaded:
    """Repeats its rows, and remembers which were run as one; does not take "bad"."""

    def __init__(self):
        self.batches = []
        self.hold = threading.Event()
        self.hold.set()

    def run(self, signature, given, wanted=(), go_on=None, alone=False):
        self.hold.wait(60)
        rows = given["text"].tolist()
        self.batches.append((rows, alone))
        if b"bad" in rows:
            raise invalid("bad")
        return given

    def run_together(self, signature, queue, requests):
        texts = [given["text"] for given, _ in requests]
        self.run(signature, {"text": np.concatenate(texts)})
        return [{"text": one} for one in texts]


def admitted(loaded, *texts, alone=False):
    given = {"text": np.array([*texts, None], object)[:-1]}
    return Admitted(1, loaded, SIGNATURE, given, len(texts), (), alone)


def gathered(requests, max_rows=4, most=9):
    """What each (request, queue) is answered."""

    async def all_of_them():
        with ThreadPoolExecutor(4) as pool:
            gatherer = Gatherer(pool, max_rows, most)
            asked = [gatherer.run(request, queue) for request, queue in requests]
            return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(all_of_them())
    return [a if isinstance(a, Exception) else a["text"].tolist() for a in answers]


def test_rows_of_one_queue_are_run_as_one_and_parted_again():
    loaded = Loaded()
    requests = [(admitted(loaded, b"a", b"b"), 0), (admitted(loaded, b"c"), 0)]
    assert gathered(requests) == [[b"a", b"b"], [b"c"]]
    assert loaded.batches == [([b"a", b"b", b"c"], False)]


def test_who_comes_alone_is_run_as_such():
    loaded = Loaded()
    assert gathered([(admitted(loaded, b"a", alone=True), 0)]) == [[b"a"]]
    assert loaded.batches == [([b"a"], True)]


def test_no_more_rows_than_a_batch_has_are_run_as_one():
    loaded = Loaded()
    requests = [(admitted(loaded, *[b"%d" % n] * 3), 0) for n in range(3)]
    requests += [(admitted(loaded, b"3"), 0)]
    assert gathered(requests) == [[b"0"] * 3, [b"1"] * 3, [b"2"] * 3, [b"3"]]
    assert sorted(len(rows) for rows, _ in loaded.batches) == [3, 3, 4]


def test_what_comes_while_enough_is_under_way_makes_up_the_next_lot():
    loaded = Loaded()
    loaded.hold.clear()

    async def ask():
        with ThreadPoolExecutor(4) as pool:
            gatherer = Gatherer(pool, 4, most=1)
            asked = []
            for text in (b"a", b"b", b"c"):
                request = admitted(loaded, text)
                asked.append(asyncio.create_task(gatherer.run(request, 0)))
                await asyncio.sleep(0.05)  # each would be a lot of its own
            loaded.hold.set()
            return [one["text"].tolist() for one in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [[b"a"], [b"b"], [b"c"]]
    assert [rows for rows, _ in loaded.batches] == [[b"a"], [b"b", b"c"]]


def test_who_leaves_before_is_not_worked_for():
    loaded = Loaded()
    loaded.hold.clear()

    async def ask():
        with ThreadPoolExecutor(4) as pool:
            gatherer = Gatherer(pool, 4, most=1)
            requests = [admitted(loaded, text) for text in (b"a", b"b", b"c", b"d")]
            gone = [False, False, True, False]
            asked = [
                asyncio.create_task(gatherer.run(request, 0, lambda left=left: left))
                for request, left in zip(requests, gone, strict=True)
            ]
            await asyncio.sleep(0)  # the first of them is all that there is room for
            for task in asked[1:2]:
                task.cancel()
            loaded.hold.set()
            return await asyncio.gather(*asked, return_exceptions=True)

    first, cancelled, left, last = asyncio.run(ask())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert (type(left), str(left)) == (Failure, "the caller is gone")
    assert (first["text"].tolist(), last["text"].tolist()) == ([b"a"], [b"d"])
    assert [text for rows, _ in loaded.batches for text in rows] == [b"a", b"d"]


def test_other_queues_and_versions_are_run_apart():
    loaded, other = Loaded(), Loaded()
    requests = [(admitted(loaded, b"a"), 0), (admitted(loaded, b"b"), 1)]
    assert gathered([*requests, (admitted(other, b"c"), 0)]) == [[b"a"], [b"b"], [b"c"]]
    assert sorted(loaded.batches) == [([b"a"], False), ([b"b"], False)]
    assert other.batches == [([b"c"], False)]


def test_a_bad_row_fails_its_own_request_alone():
    loaded = Loaded()
    requests = [(admitted(loaded, b"a"), 0), (admitted(loaded, b"bad"), 0)]
    good, bad = gathered(requests)
    assert good == [b"a"]
    assert isinstance(bad, Failure)
    assert [rows for rows, _ in loaded.batches] == [[b"a", b"bad"], [b"a"], [b"bad"]]


def test_who_leaves_does_so_once_its_rows_are_done():
    """Till then the version that runs them must not be closed."""
    loaded = Loaded()
    loaded.hold.clear()

    async def leave():
        with ThreadPoolExecutor(4) as pool:
            gatherer = Gatherer(pool, 4, 9)
            asked = asyncio.create_task(gatherer.run(admitted(loaded, b"a"), 0))
            await asyncio.sleep(0.1)
            asked.cancel()
            await asyncio.sleep(0.1)
            assert not asked.done()
            loaded.hold.set()
            with pytest.raises(asyncio.CancelledError):
                await asked

    asyncio.run(leave())
    assert loaded.batches == [([b"a"], False)]
