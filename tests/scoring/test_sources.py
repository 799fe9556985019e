"""Files read as Beam reads them: in any ranges the same rows, and damage told in a row."""

import bz2
import gzip
import itertools
import lzma

import pyarrow
import pyarrow.parquet
import pytest
from apache_beam.io.range_trackers import OffsetRangeTracker
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import UsageError
from zoo.scoring.rows import Columns, Row
from zoo.scoring.sources import FORMATS, check_compression, format_of

END = OffsetRangeTracker.OFFSET_INFINITY


def read(path, format, start=0, stop=END, text="text", key=None, max_bytes=50):
    source = FORMATS[format][1](str(path), path.name, Columns(text, key, max_bytes))
    batches = source.read(OffsetRangeTracker(start, stop))
    return [row for batch in batches for row in batch]


def reasons(rows):
    return [None if isinstance(row, Row) else row.reason.partition(":")[0] for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


LINES = st.lists(st.sampled_from([b"a film", b"", b"\xff", b"x" * 49, b"y" * 300, b"\r", b"a\r"]))


@given(LINES, st.booleans(), st.lists(st.integers(1, 2_000), max_size=4), st.sampled_from([1, 50]))
def test_any_ranges_give_the_rows_once(folder, lines, last, cuts, limit):
    content = b"\n".join(lines) + (b"\n" if last else b"")
    path = folder / "a.txt"
    path.write_bytes(content)
    whole = read(path, "text", max_bytes=limit)
    expected = content.split(b"\n")
    assert len(whole) == len(expected) - (expected[-1] == b"")
    for row in whole:
        assert row.position == 0 or content[row.position - 1 : row.position] == b"\n"
    cuts = [0, *sorted(set(cuts)), END]
    pieces = [
        row
        for start, stop in itertools.pairwise(cuts)
        for row in read(path, "text", start, stop, max_bytes=limit)
    ]
    assert pieces == whole


def test_lines_end_in_two_ways_and_may_begin_with_a_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa film\r\nits end")
    assert [(row.position, row.text) for row in read(path, "text")] == [
        (0, "a film"),
        (11, "its end"),
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nits end\n"])
@pytest.mark.parametrize("length", [*range(48, 58), 300])
@pytest.mark.parametrize("format", ["text", "csv"])
def test_a_mark_takes_nothing_from_the_most_bytes(tmp_path, format, length, end):
    rows = []
    for mark in (b"", b"\xef\xbb\xbf"):
        path = tmp_path / "a.txt"
        path.write_bytes(mark + b"x" * length + end)
        rows.append([row if isinstance(row, Row) else row.reason for row in read(path, format)])
    assert len(rows[0]) == len(rows[1])
    assert rows[0][:1] == rows[1][:1]
    if format == "text":
        assert (rows[1][0] == "over --max_bytes=50") == (length > 50)


def test_what_is_wrong_with_json(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [
        b'{"text": "fine", "id": "x"}',
        b'{"text": "fine", "id": 7}',
        b'{"text": "fine", "id": true}',
        b'{"text": "fine", "id": ""}',
        b'{"text": "fine"}',
        b'{"id": 1}',
        b'{"id": 1, "text": null}',
        b'{"id": 1, "text": " \\n "}',
        b'{"id": 1, "text": "\\ud800"}',
        b'{"id": 1, "te\xff',
        b'{"id": 1',
        b"3",
        b"",
        b"[" * 40,
        b'{"id": 1, "text": "' + b"x" * 90 + b'"}',
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    found = read(path, "jsonl", key="id")
    assert [row.key for row in found[:2]] == ["x", "7"]
    assert reasons(found) == [
        None,
        None,
        "no key",
        "no key",
        "no column 'id'",
        "no column 'text'",
        "not a string",
        "empty text",
        "invalid UTF-8",
        "invalid UTF-8",
        "broken JSON",
        "broken JSON",
        "broken JSON",
        "broken JSON",
        "over --max_bytes=50",
    ]
    path.write_bytes(b"[" * 100_000)
    [found] = read(path, "jsonl", max_bytes=1_000_000)
    assert found.reason.startswith("broken JSON: ")
    assert len(found.row) == 1_000


def test_what_is_wrong_with_csv(tmp_path):
    path = tmp_path / "a.csv"
    lines = [
        b"\xef\xbb\xbfid,text",
        b'1,"two',
        b'lines"',
        b"2",
        b"3,a,b",
        b"4,caf\xe9",
        b"",
        b'5,"x"y',
        b"6,",
        b"7," + b"x" * 60,
        b"8,fine",
        b'9,"open',
    ]
    path.write_bytes(b"\r\n".join(lines))
    found = read(path, "csv", key="id")
    assert reasons(found) == [
        None,
        "wrong number of columns",
        "wrong number of columns",
        "invalid UTF-8",
        "empty line",
        "broken CSV",
        "empty text",
        "over --max_bytes=50",
        None,
        "broken CSV",
    ]
    assert (found[0].key, found[0].text) == ("1", "two\r\nlines")
    assert [row.position for row in found] == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    [missing] = set(reasons(read(path, "csv", text="review"))) - set(reasons(found))
    assert missing == "no column 'review'"


@pytest.mark.parametrize("content", [b"", b"text\n", b"text"])
def test_a_csv_without_records_has_no_rows(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert read(path, "csv") == []


def test_a_broken_head_is_a_row_and_no_other_takes_its_place(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'"text"x\ntext\nfine\n')
    found = read(path, "csv")
    assert reasons(found) == ["broken CSV", "wrong number of columns", "wrong number of columns"]
    assert [row.position for row in found] == [1, 2, 3]


def test_of_two_columns_of_one_name_neither_is_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,text,id\ngood,bad,1\n")
    assert reasons(read(path, "csv")) == ["ambiguous column"]
    path.write_bytes(b"text,id,id\ngood,1,2\n")
    assert [row.text for row in read(path, "csv")] == ["good"]


def parquet(path, columns):
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_what_is_wrong_with_parquet(tmp_path):
    raw = pyarrow.array([b"fine", b"caf\xe9", None, b"", b"x" * 60])
    loose = pyarrow.Array.from_buffers(pyarrow.string(), 5, raw.buffers())
    for number, text in enumerate((raw, loose, loose.cast(pyarrow.binary()).cast("large_binary"))):
        path = parquet(tmp_path / f"{number}.parquet", {"id": range(5), "text": text})
        found = read(path, "parquet", key="id")
        assert (found[0].key, found[0].text) == ("0", "fine")
        expected = [None, "invalid UTF-8", "not a string", "empty text", "over --max_bytes=50"]
        assert reasons(found) == expected
        assert [row.position for row in found] == list(range(5))
        [missing] = set(reasons(read(path, "parquet", text="review")))
        assert missing == "no column 'review'"
        assert len(read(path, "parquet", key="name")) == 5


def test_parquet_of_other_kinds(tmp_path):
    words = pyarrow.array(["fine", "good", "fine"]).dictionary_encode()
    path = parquet(tmp_path / "a.parquet", {"text": words, "other": [[1], [2], [3]]})
    assert [row.text for row in read(path, "parquet")] == ["fine", "good", "fine"]
    assert reasons(read(path, "parquet", text="other")) == ["not a string"] * 3
    assert reasons(read(path, "parquet", key="other")) == ["no key"] * 3
    path = parquet(tmp_path / "b.parquet", {"text": pyarrow.array([], pyarrow.string())})
    assert read(path, "parquet") == []


PACKED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: pyarrow.compress(data, "zstd", asbytes=True),
}


@pytest.mark.parametrize("suffix", PACKED)
def test_a_damaged_file_gives_what_stands_before_the_damage(tmp_path, suffix):
    text = b"".join(b"line %d of many\n" % (number * 7_919 % 10_007) for number in range(50_000))
    packed = PACKED[suffix](text)
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(packed)
    whole = read(path, "text")
    assert len(whole) == 50_000
    path.write_bytes(packed[: len(packed) * 2 // 3])
    found = read(path, "text")
    assert found[:-1] == whole[: len(found) - 1]
    assert found[-1].reason.startswith("damaged from here on: ")
    assert found[-1].position == whole[len(found) - 1].position
    path.write_bytes(b"no such thing\n")
    [found] = read(path, "text")
    assert (found.position, found.reason.partition(":")[0]) == (0, "damaged from here on")


def test_a_damaged_parquet_is_set_aside(tmp_path):
    path = parquet(tmp_path / "a.parquet", {"text": ["fine"] * 9})
    path.write_bytes(path.read_bytes()[:-20])
    [found] = read(path, "parquet")
    assert found.reason.startswith("damaged from here on: ")


def test_a_disk_that_fails_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.txt", "text")


def test_formats_are_told_by_names():
    names = {"a/b.txt.gz": "text", "B.CSV": "csv", "c.jsonl.zst": "jsonl", "d.pq": "parquet"}
    assert {name: format_of(name) for name in names} == names
    with pytest.raises(UsageError, match="--format=text"):
        format_of("a.dat.gz")
    with pytest.raises(UsageError, match="deflate"):
        check_compression("a.txt.deflate")
