"""Which files a pattern names, and where the outputs of each are."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scoring.scored import lines_of, run
from zoo.errors import RunError, UsageError
from zoo.scoring.files import Asked, find_inputs
from zoo.scoring.outputs import Outputs


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder, the one that patterns start in, with some files."""
    for name in ("a1.txt", "b2.txt", "deep/c3.txt", "deep/er/d4.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a film\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(pattern, output="out"):
    return find_inputs(Asked(pattern), str(output), "a model")


@pytest.mark.parametrize("pattern", ["*.txt", "?[0-9].txt", "[ab]*", "**", "b*", "de*/c3.txt"])
def test_a_pattern_without_a_folder_starts_here(here, pattern):
    inputs, others = found(pattern), found(f"./{pattern}")
    assert inputs
    assert [item.metadata.path for item in inputs] == [
        item.metadata.path.removeprefix("./") for item in others
    ]
    names = [item.outputs.name for item in inputs]
    assert names == [item.outputs.name for item in others]
    assert names == [item.metadata.path for item in inputs]


ODD = [
    ("a.txt", "a.txt"),
    ("a b-c_d~1.csv.gz", "a b-c_d~1.csv.gz"),
    ("deep/a%2F.txt", "deep%2Fa%252F.txt"),
    ("a[1]*?.txt", "a%5B1%5D%2A%3F.txt"),
    ("a\n\x85\u202e.txt", "a%0A%C2%85%E2%80%AE.txt"),
    ("影评/é.txt", "影评%2Fé.txt"),
    ("x" * 240, "x" * 240),
]


@pytest.mark.parametrize(("name", "written"), ODD)
def test_a_name_is_written_so_that_it_can_be_read(name, written):
    assert Outputs("out", name, name).rows("jsonl") == f"out/rows.{written}.jsonl"


NAMES = st.lists(
    st.text("ab影é/%~-\n😀", min_size=1, max_size=90).map(lambda name: name * 3), unique=True
)


@given(NAMES)
def test_no_name_is_too_long_and_none_is_anothers(names):
    outputs = [Outputs("out", name, name) for name in names]
    # What others wrote may look like what is written here.
    written = [name.rows("x").removeprefix("out/rows.").removesuffix(".x") for name in outputs]
    outputs += [Outputs("out", name, name) for name in set(written) - set(names)]
    places = [place for item in outputs for place in (item.rows("parquet"), item.aside, item.done)]
    assert len(set(places)) == len(places)
    for place in places:
        file = place.removeprefix("out/")
        assert "/" not in file
        assert len(file.encode()) <= 255


def test_long_names_of_one_beginning_are_scored(model, tmp_path):
    names = [f"{'影评' * 40}{number}.txt" for number in range(2)]
    for name in names:
        (tmp_path / name).write_text(f"{name}\n")
    run(model, tmp_path / "*.txt", tmp_path / "out", with_text=True)
    rows = [row for path in (tmp_path / "out").glob("rows.*.jsonl") for row in lines_of(path)]
    assert sorted(row["text"] for row in rows) == names
    assert all(known for _, known in run(
        model, tmp_path / "*.txt", tmp_path / "out", with_text=True
    ).values())  # fmt: skip


def test_a_name_that_is_no_text_is_refused(here):
    (here / os.fsdecode(b"\xff.txt")).write_text("a film\n")
    with pytest.raises(RunError, match=r"finds b'\\xff.txt', which is not UTF-8: rename it$"):
        found("*.txt")


def test_its_own_output_is_never_an_input(here):
    (here / "d/scored").mkdir(parents=True)
    (here / "d/scored/rows.a.jsonl").write_text("{}\n")
    (here / "d/scored.jsonl").write_text("{}\n")
    (here / "link").symlink_to("d")
    outputs = ["d/scored", "./d/scored", here / "d/scored", "link/scored", "d/../d//scored/."]
    for pattern in (
        "d/*/*.jsonl",
        "./d/*/*.jsonl",
        f"{here}/d/**.jsonl",
        "link/*/*",
        "*/*/*.jsonl",
    ):
        for output in outputs:
            with pytest.raises(UsageError, match="finds what is written to --output"):
                found(pattern, output)
    assert [item.outputs.name for item in found("d/*.jsonl", "d/scored")] == ["scored.jsonl"]
    with pytest.raises(UsageError, match="finds what is written to --output"):
        found("*.txt", "/")
