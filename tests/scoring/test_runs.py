"""Sorted runs and their merging, whatever order and however many there are."""

import pytest
from apache_beam.transforms.window import WindowedValue
from hypothesis import given
from hypothesis import strategies as st

from zoo.scoring.model import Answer
from zoo.scoring.rows import Aside, Row
from zoo.scoring.runs import WriteRuns, merged


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tmp_path_factory.mktemp("runs"))


def runs_of(folder, answers, by_key, held):
    fn = WriteRuns(folder, with_text=True, by_key=by_key, held=held)
    fn.start_bundle()
    found = [run for answer in answers for run in fn.process(("a.txt", answer))]
    for value in fn.finish_bundle():
        assert isinstance(value, WindowedValue)
        found.append(value.value)
    assert {path for path, _ in found} <= {"a.txt"}
    return [run for _, run in found]


@given(
    st.permutations(range(30)),
    st.sets(st.integers(0, 29)),
    st.booleans(),
    st.sampled_from([1, 700, 2_000, 10**6]),
)
def test_any_order_is_put_right(folder, order, aside, by_key, held):
    answers = [
        Aside(number, "why", "row")
        if number in aside
        else Answer(Row(number, f"k{-number % 7}", f"text {number}\n\u2028"), "good", [0.25, 0.75])
        for number in order
    ]
    runs = runs_of(folder, answers, by_key, held)
    assert len(runs) <= 30
    assert held > 1 or len(runs) == 30
    found = list(merged(runs))
    expected = [
        ("aside", [number, "why", "row"])
        if number in aside
        else ("row", [f"k{-number % 7}", f"text {number}\n\u2028", "good", [0.25, 0.75]])
        for number in range(30)
    ]
    if by_key:  # those set aside have none, and come first
        expected.sort(key=lambda item: item[1][0] if item[0] == "row" else "")
    assert found == expected


def test_runs_that_do_not_overlap_are_not_open_together(folder, monkeypatch):
    answers = [Aside(number, "why", "row") for number in range(50)]
    runs = runs_of(folder, answers, False, 1)
    opened = []
    before = merged.__globals__["_lines"]

    def lines(run):
        opened.append(run)
        yield from before(run)

    monkeypatch.setitem(merged.__globals__, "_lines", lines)
    found = merged(runs[::-1])
    for number in range(50):
        assert next(found)[1][0] == number
        assert len(opened) <= number + 2


def test_no_answers_make_no_run(folder):
    assert runs_of(folder, [], False, 10) == []
    assert list(merged([])) == []
