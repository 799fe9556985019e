"""Records of CSV: each line in exactly one, however broken they are."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.scoring.csv_records import Line, records

BROKEN = ['"', '""', '"x"y', "a", ",", "a,b", '"a,b"', '"a\nb"', "", "é", "\r", "longer than that"]


def lines_of(text, limit):
    raw = text.encode().split(b"\n")
    lines = [line + b"\n" for line in raw[:-1]] + [line for line in raw[-1:] if line]
    return [Line(number, line, len(line) > limit) for number, line in enumerate(lines, 1)]


@given(st.lists(st.sampled_from(BROKEN), max_size=20), st.integers(1, 40))
def test_each_line_is_in_one_record(parts, limit):
    lines = lines_of("\n".join(parts), limit)
    expected = 1
    for record in records(iter(lines), limit):
        assert record.number == expected
        taken = record.raw.count(b"\n") + 1
        whole = b"".join(line.raw for line in lines[expected - 1 : expected - 1 + taken])
        assert whole.removesuffix(b"\n").removesuffix(b"\r") == record.raw
        assert (record.fields is None) == (record.error is not None)
        assert record.error is None or taken == 1
        expected += taken
    assert expected == len(lines) + 1


@given(st.lists(st.lists(st.text("a,\"\n'; é", max_size=9), min_size=2, max_size=2)))
def test_what_the_library_writes_is_read(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    found = list(records(iter(lines_of(text.getvalue(), 999)), 999))
    assert [record.fields for record in found] == rows


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_an_open_quote_costs_its_line_alone(end):
    rows = ["1,a", '2,"never closed', *(f"{number},b" for number in range(3, 30))]
    found = list(records(iter(lines_of(end.join(rows), 50)), 50))
    assert [record.number for record in found if record.error == "too long"] == [2]
    assert [record.fields[0] for record in found if record.fields] == ["1", *map(str, range(3, 30))]
    # At the end of the file there is no limit to be met.
    found = list(records(iter(lines_of(end.join(rows), 9_999)), 9_999))
    assert [record.number for record in found if record.error] == [2]
    assert len(found) == len(rows)
