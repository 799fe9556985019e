"""The file datasets/ts_files.py: what it reads, how it splits, and what it refuses."""

import numpy as np
import pytest

from tests.datasets.folders import load

ts_files = load("", "ts_files")
CLASSES = {"A": "first", "B": "second"}
HEADER = """\
# Invented.
@problemName Invented
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength false
@classLabel true A B
@data
"""
EQUAL = HEADER.replace("@equalLength false", "@equalLength true\n@seriesLength 3")


def read(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return ts_files.read_cases(path, 2, CLASSES)


def line_of(track, name):
    return ":".join(",".join(str(value) for value in channel) for channel in track.T) + f":{name}\n"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_written_is_read(seed, newline, tmp_path):
    rng = np.random.default_rng(seed)
    tracks = [
        rng.normal(size=(length, 2)).astype("float32") * np.float32(10) ** exponent
        for length in rng.integers(1, 30, size=20)
        for exponent in (-9, 0, 9)
    ]
    names = rng.choice(list(CLASSES), len(tracks))
    text = HEADER + "".join(map(line_of, tracks, names))
    cases = read(tmp_path / "file.ts", text.replace("\n", newline))
    assert [label for _, label in cases] == [CLASSES[name] for name in names]
    for (found, _), track in zip(cases, tracks, strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, track)


def test_time_comes_first(tmp_path):
    [(track, label)] = read(tmp_path / "file.ts", HEADER + "1,2,-3.5:4,5e-1,6E+2:B")
    np.testing.assert_array_equal(track, [[1, 4], [2, 0.5], [-3.5, 600]])
    assert label == "second"


def test_comments_may_hold_any_character(tmp_path):
    text = HEADER.replace("# Invented", "# Größe: α\u2028@data")
    assert len(read(tmp_path / "file.ts", text + "1:2:A\n")) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("1,2:A", "1 channels and a class, not 2"),
        ("1,2:3,4:5,6:A", "3 channels and a class, not 2"),
        ("1,2:3,4", "1 channels and a class, not 2"),
        ("", "0 channels and a class, not 2"),
        ("# late comment", "0 channels and a class, not 2"),
        ("1,2:3,4,5:A", "channels of 2 and 3 steps"),
        ("1,2:3,4:C", "the class 'C' is none of A, B"),
        ("1,2:3,4:", "the class '' is none of A, B"),
        ("1,2:3,4:a", "the class 'a' is none of A, B"),
        ("1,2:3,4:A ", "the class 'A ' is none of A, B"),
        ("1,2:3,x:A", "'x' is no number"),
        ("1,2:3,:A", "'' is no number"),
        ("1,2::A", "'' is no number"),
        ("1,?:3,4:A", "'?' is no number"),
        ("1,2:nan,4:A", "'nan' is no number"),
        ("1,2:-inf,4:A", "'-inf' is no number"),
        ("1,2: 3,4:A", "' 3' is no number"),
        ("1_0,2:3,4:A", "'1_0' is no number"),
        ("1,2:3,٤:A", "is no number"),
        ("1,2:3,1e39:A", "a number beyond float32"),
        ("1,2:3,1e999:A", "a number beyond float32"),
        ("x" * 1_000 + ":1:A", "'" + "x" * 39 + " is no number"),
    ],
)
def test_a_malformed_line_is_named(line, said, tmp_path):
    path = tmp_path / "file.ts"
    with pytest.raises(ValueError, match=r"line 11: ") as caught:
        read(path, f"{HEADER}1,2:3,4:A\n{line}\n5,6:7,8:B\n")
    assert str(caught.value).startswith(f"{path}, line 11: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tracks_have_the_length_of_the_header(tmp_path):
    path = tmp_path / "file.ts"
    assert len(read(path, EQUAL + "1,2,3:4,5,6:A\n")) == 1
    with pytest.raises(ValueError, match=r"file\.ts, line 11: 2 steps, not the header's 3$"):
        read(path, EQUAL + "1,2:4,5:A\n")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("@dimensions 2", "@dimensions 3", "line 9: the header's @dimensions is '3', not '2'"),
        ("@dimensions 2\n", "", "line 8: the header's @dimensions is missing, not '2'"),
        ("true A B", "true B A", "@classLabel is 'true B A', not 'true A B'"),
        ("true A B", "true A B C", "@classLabel is 'true A B C', not 'true A B'"),
        ("true A B", "false", "@classLabel is 'false', not 'true A B'"),
        ("@timeStamps false", "@timeStamps true", "@timeStamps is 'true', not 'false'"),
        ("@missing false", "@missing true", "@missing is 'true', not 'false'"),
        ("@univariate false", "@univariate true", "@univariate is 'true', not 'false'"),
        ("@missing false", "@missing false\n@missing false", "line 5: a second header @missing"),
        ("Length false", "Length true", "@equalLength is 'true' and its @seriesLength missing"),
        ("Length false", "Length true\n@seriesLength 0", "and its @seriesLength '0'"),
        ("Length false", "Length false\n@seriesLength 3", "and its @seriesLength '3'"),
        ("@missing false", "missing false", "line 4: before @data, and neither"),
        ("@data\n", "", "line 9: before @data, and neither a comment nor a header"),
    ],
)
def test_a_malformed_header_is_named(old, new, said, tmp_path):
    path = tmp_path / "file.ts"
    assert old in HEADER
    with pytest.raises(ValueError, match=r"file\.ts, line \d+: ") as caught:
        read(path, HEADER.replace(old, new) + "1:2:A\n")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 0: ends before @data"),
        (HEADER.replace("@data\n", ""), "line 8: ends before @data"),
        (HEADER, "line 9: ends before a case"),
    ],
)
def test_a_file_that_ends_early_is_named(text, said, tmp_path):
    with pytest.raises(ValueError, match=rf"file\.ts, {said}$"):
        read(tmp_path / "file.ts", text)


def test_bytes_of_no_text_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"file\.ts, line 10: .* is no number$"):
        read(tmp_path / "file.ts", HEADER + "1:\xff:A\n", "latin-1")


def test_validation_is_cut_from_the_end_of_each_class():
    def cases(names):
        return [(np.full((1, 2), number), name) for number, name in enumerate(names)]

    splits = ts_files.split_cases(cases("aabbaba"), cases("ba"), 2)
    found = {
        name: [(key, int(track[0, 0]), label) for key, track, label in rows]
        for name, rows in splits.items()
    }
    assert found == {
        "train": [("a_00", 0, "a"), ("a_01", 1, "a"), ("b_00", 2, "b")],
        "validation": [("b_01", 3, "b"), ("a_02", 4, "a"), ("b_02", 5, "b"), ("a_03", 6, "a")],
        "test": [("b_00", 0, "b"), ("a_00", 1, "a")],
    }
