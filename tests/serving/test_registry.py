"""Versions come, are refused and leave; whoever is being answered keeps the one they have."""

import os
import threading

import pytest
from tensorflow_serving.apis.get_model_status_pb2 import ModelVersionStatus

from zoo.errors import RunError
from zoo.serving.failure import Failure
from zoo.serving.model_config import ServedModel
from zoo.serving.registry import Registry

NAME = ModelVersionStatus.State.Name


class Fake:
    """What a folder holds, as text; `broken` cannot be loaded."""

    def __init__(self, folder):
        self.content = (folder / "saved_model.pb").read_text()
        self.closed = False
        if self.content.startswith("broken"):
            raise RunError(self.content)

    def close(self):
        assert not self.closed
        self.closed = True


class Watched:
    def __init__(self, base, poll_seconds=0.0, load=Fake, **policy):
        self.base, self.said = base, []
        model = ServedModel("m", base, **policy)
        self.registry = Registry([model], load, poll_seconds, self.said.append)

    def put(self, number, content="fine"):
        (self.base / str(number)).mkdir(exist_ok=True)
        (self.base / str(number) / "saved_model.pb").write_text(content)

    def drop(self, number):
        (self.base / str(number) / "saved_model.pb").unlink()
        (self.base / str(number)).rmdir()

    def states(self):
        self.registry.poll()
        return {v.number: NAME(v.state) for v in self.registry.status("m")}


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


def code_of(failure):
    return failure.value.code.name


def test_the_highest_version_is_served(watched):
    for number in (1, 2, 10):
        watched.put(number)
    (watched.base / "notes").mkdir()
    (watched.base / ".unfinished-11").mkdir()
    (watched.base / "12").write_text("a file")
    assert watched.states() == {10: "AVAILABLE"}
    with watched.registry.lease("m") as version:
        assert version.number == 10


def test_a_new_version_takes_over_and_the_old_one_waits_for_its_callers(watched):
    watched.put(1)
    watched.states()
    with watched.registry.lease("m") as old:
        loaded = old.loaded
        watched.put(2)
        assert watched.states() == {2: "AVAILABLE", 1: "UNLOADING"}
        with watched.registry.lease("m") as new:
            assert new.number == 2
        assert not loaded.closed
        with pytest.raises(Failure):
            watched.registry.lease("m", 1).__enter__()
    assert loaded.closed
    assert old.loaded is None
    assert watched.states() == {2: "AVAILABLE", 1: "END"}


def test_a_broken_version_is_refused_with_its_reason_and_the_old_one_stays(watched):
    watched.put(1)
    watched.states()
    watched.put(2, "broken: a bit is missing")
    assert watched.states() == {2: "END", 1: "AVAILABLE"}
    (refused,) = watched.registry.status("m", 2)
    assert refused.why == "broken: a bit is missing"
    assert watched.said == ["m 1 is served", "m 2 is refused: broken: a bit is missing"]
    watched.states()
    assert len(watched.said) == 2, "an unchanged folder is tried once"
    watched.drop(1)
    assert watched.states()[1] == "AVAILABLE", "there is nothing to take its place"
    watched.put(2, "mended")
    assert watched.states() == {2: "AVAILABLE", 1: "END"}


def test_at_the_start_a_broken_version_gives_way_to_the_one_before(watched):
    watched.put(1)
    watched.put(2, "broken")
    assert watched.states() == {2: "END", 1: "AVAILABLE"}
    assert watched.registry.ready()


def test_a_version_whose_folder_is_gone_retires(watched):
    watched.put(1)
    watched.put(2)
    watched.states()
    watched.drop(2)
    assert watched.states() == {2: "END", 1: "AVAILABLE"}
    watched.drop(1)
    assert watched.states() == {2: "END", 1: "END"}
    assert not watched.registry.ready()
    with pytest.raises(Failure) as failure:
        watched.registry.lease("m").__enter__()
    assert code_of(failure) == "UNAVAILABLE"
    watched.put(2)
    assert watched.states()[2] == "AVAILABLE"


def test_a_file_system_that_is_away_changes_nothing(watched, tmp_path):
    watched.put(1)
    watched.states()
    os.rename(tmp_path, tmp_path.with_name("away"))
    try:
        assert watched.states() == {1: "AVAILABLE"}
    finally:
        os.rename(tmp_path.with_name("away"), tmp_path)


def test_a_folder_that_is_still_being_copied_is_left_alone(tmp_path):
    watched = Watched(tmp_path, poll_seconds=3600)
    watched.put(1, "half")
    assert watched.states() == {1: "START"}
    watched.put(1, "half and half")
    assert watched.states() == {1: "START"}
    assert watched.states() == {1: "AVAILABLE"}, "nothing has changed from one look to the next"


def test_a_folder_that_is_whole_is_served_at_once_however_seldom_it_is_looked_at(tmp_path):
    watched = Watched(tmp_path, poll_seconds=3600)
    watched.put(1)
    served = threading.Event()

    def look():
        if NAME(watched.registry.status("m")[0].state) == "AVAILABLE":
            served.set()

    watched.registry.on_change(look)
    watched.registry.start()
    try:
        assert served.wait(30)
    finally:
        watched.registry.stop()


def test_what_changed_while_it_was_loaded_is_loaded_again(tmp_path):
    loaded = []

    def load(folder):
        loaded.append(Fake(folder))
        if len(loaded) == 1:
            (folder / "saved_model.pb").write_text("the whole of it")
        return loaded[-1]

    watched = Watched(tmp_path, load=load)
    watched.put(1, "half")
    assert watched.states() == {1: "START"}
    assert loaded[0].closed
    assert watched.states() == {1: "AVAILABLE"}
    assert [one.content for one in loaded] == ["half", "the whole of it"]


def test_a_version_that_leaves_is_closed_though_no_one_can_be_told(tmp_path):
    watched = Watched(tmp_path)
    watched.put(1)
    watched.states()
    old = watched.registry.status("m")[0].loaded
    watched.put(2)
    watched.registry._say = lambda line: 1 / 0
    with pytest.raises(ZeroDivisionError):
        watched.registry.poll()
    watched.registry._say = watched.said.append
    watched.states()
    assert old.closed
    assert watched.states() == {1: "END", 2: "AVAILABLE"}


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [({"latest": 2}, {2, 3}), ({"latest": 0}, {1, 2, 3}), ({"specific": frozenset([1, 9])}, {1})],
)
def test_the_policy_says_which(tmp_path, policy, wanted):
    watched = Watched(tmp_path, **policy)
    for number in (1, 2, 3):
        watched.put(number)
    assert set(watched.states()) == wanted
    watched.drop(1)
    assert {n for n, state in watched.states().items() if state == "AVAILABLE"} == wanted - {1}


def test_labels(tmp_path):
    watched = Watched(tmp_path, latest=0, labels={"stable": 1, "lost": 9})
    watched.put(1)
    watched.put(2)
    watched.states()
    with watched.registry.lease("m", None, "stable") as version:
        assert version.number == 1
    for label, code in (("lost", "NOT_FOUND"), ("none", "INVALID_ARGUMENT")):
        with pytest.raises(Failure) as failure:
            watched.registry.lease("m", None, label).__enter__()
        assert code_of(failure) == code


def test_what_has_ended_is_remembered_but_not_for_ever(watched):
    for number in range(1, 40):
        watched.put(number)
        watched.states()
        watched.drop(number)
    watched.put(100)
    assert len(watched.states()) < 20


def test_listeners_hear_of_every_change(watched):
    heard = []
    watched.registry.on_change(lambda: heard.append(watched.registry.ready()))
    watched.put(1)
    watched.states()
    assert heard == [False, True]


def test_an_unknown_model_is_not_found():
    registry = Registry([], Fake, 0.0, print)
    for ask in (registry.status, lambda name: registry.lease(name).__enter__()):
        with pytest.raises(Failure) as failure:
            ask("m")
        assert code_of(failure) == "NOT_FOUND"
