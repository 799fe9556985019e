"""The whole pipeline: what goes in comes out or is set aside, in order, once."""

import csv
import gzip
import json
import os
import string

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures import mounted
from tests.scoring.scored import files_of, lines_of, run
from tests.scoring.tiny import CLASSES, REFUSED, answers
from zoo.errors import RunError, UsageError
from zoo.scoring import pipeline
from zoo.scoring.outputs import Counts

# A row of a JSON lines file, and the reason why it cannot be scored, if it cannot.
GOOD = st.text(min_size=1, max_size=30).filter(lambda text: text.strip() and text != REFUSED)
ROWS = st.one_of(
    GOOD.filter(lambda text: len(text.encode("utf-8", "replace")) <= 60).map(
        lambda text: (json.dumps({"text": text}, ensure_ascii=False).encode(), text, None)
    ),
    st.sampled_from(
        [
            (b"\xff", None, "invalid UTF-8"),
            (b"{", None, "broken JSON"),
            (b'{"txt": "a"}', None, "no column 'text'"),
            (b'{"text": 1}', None, "not a string"),
            (b'{"text": " "}', None, "empty text"),
            (b'{"text": "' + b"a" * 400 + b'"}', None, "over --max_bytes=300"),
            (b'{"text": "poison"}', None, "refused by the model"),
        ]
    ),
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(ROWS, max_size=12), min_size=1, max_size=3))
def test_rows_in_are_rows_out_and_rows_aside(model, tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("mixed")
    for number, rows in enumerate(files):
        (folder / f"{number}.jsonl").write_bytes(b"".join(raw + b"\n" for raw, _, _ in rows))
    found = run(model, folder / "*.jsonl", folder / "out", with_text=True, max_bytes=300)
    assert list(found) == [f"{number}.jsonl" for number in range(len(files))]
    for number, rows in enumerate(files):
        good = [text for _, text, why in rows if why is None]
        out = lines_of(folder / f"out/rows.{number}.jsonl.jsonl")
        aside = lines_of(folder / f"out/aside.{number}.jsonl.jsonl")
        assert [row["text"] for row in out] == good
        assert [row["reason"].partition(":")[0] for row in aside] == [
            why for *_, why in rows if why
        ]
        counts, _ = found[f"{number}.jsonl"]
        assert (counts.rows_in, counts.rows_out) == (len(rows), len(out))
        assert sum(counts.aside.values()) == len(aside)
        positions = [int(row["key"].rpartition(":")[2]) for row in out]
        assert positions == sorted(positions)
        assert not set(positions) & {row["position"] for row in aside}
        for row, (label, probabilities) in zip(out, answers(model, good), strict=True):
            assert row["label"] == label
            assert list(row["probabilities"].values()) == pytest.approx(probabilities, abs=1e-6)


@pytest.fixture
def folder(tmp_path):
    """Inputs of every format, with the same texts."""
    texts = [f"{letter} film{'!' * number}" for number, letter in enumerate(string.ascii_letters)]
    rows = [(f"k{number:03}", text) for number, text in enumerate(texts)]
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "in/a.txt").write_text("".join(f"{text}\n" for text in texts))
    with gzip.open(tmp_path / "in/b.csv.gz", "wt", newline="") as file:
        csv.writer(file).writerows([("id", "text"), *rows])
    lines = [json.dumps({"id": key, "text": text}) for key, text in rows]
    (tmp_path / "in/deep/c.jsonl").write_text("\n".join(lines))
    ids, columns = zip(*rows, strict=True)
    pyarrow.parquet.write_table(
        pyarrow.table({"id": ids, "text": columns}), tmp_path / "in/deep/d.parquet"
    )
    (tmp_path / "in/empty.txt").write_bytes(b"")
    tmp_path.joinpath("texts.json").write_text(json.dumps(texts))
    return tmp_path


def test_all_formats_say_the_same(folder, model):
    found = run(model, folder / "in/**", folder / "out", with_text=True)
    texts = json.loads((folder / "texts.json").read_text())
    names = ["a.txt", "b.csv.gz", "deep/c.jsonl", "deep/d.parquet"]
    assert found == {name: (Counts(52, 52, {}), False) for name in names} | {
        "empty.txt": (Counts(0, 0, {}), False)
    }
    expected = answers(model, texts)
    for name in names:
        rows = lines_of(folder / f"out/rows.{name.replace('/', '%2F')}.jsonl")
        assert [row["text"] for row in rows] == texts
        assert [row["label"] for row in rows] == [label for label, _ in expected]
        assert [list(row["probabilities"]) for row in rows] == [list(CLASSES)] * 52
        keys = [row["key"] for row in rows]
        assert keys == sorted(keys)
        assert all(key.startswith(f"{name}:") for key in keys)
    assert (folder / "out/rows.empty.txt.jsonl").read_bytes() == b""
    assert not list((folder / "out").glob("aside.*"))
    assert not (folder / "out/.unfinished").exists()


def test_outputs_of_every_format_hold_the_same(folder, model):
    asked = {"key_column": "id", "with_text": True}
    run(model, folder / "in/b.csv.gz", folder / "out", **asked)
    objects = lines_of(folder / "out/rows.b.csv.gz.jsonl")
    assert [row["key"] for row in objects[:2]] == ["k000", "k001"]
    flat = [
        {name: row[name] for name in ("key", "text", "label")} | row["probabilities"]
        for row in objects
    ]
    # What was made before, of the other format, goes with it.
    run(model, folder / "in/b.csv.gz", folder / "out", output_format="parquet", **asked)
    assert sorted(files_of(folder / "out")) == ["done.b.csv.gz.json", "rows.b.csv.gz.parquet"]
    table = pyarrow.parquet.read_table(folder / "out/rows.b.csv.gz.parquet")
    assert table.to_pylist() == flat
    run(model, folder / "in/b.csv.gz", folder / "out", output_format="csv", **asked)
    with (folder / "out/rows.b.csv.gz.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row | {name: float(row[name]) for name in CLASSES} for row in rows] == flat


def test_rows_can_be_sorted_by_their_keys(folder, model):
    path = folder / "keys.jsonl"
    keys = ["b", "c", "a", "b", 2]
    path.write_text("".join(json.dumps({"id": key, "text": "x"}) + "\n" for key in keys))
    run(model, path, folder / "out", key_column="id")
    assert [row["key"] for row in lines_of(folder / "out/rows.keys.jsonl.jsonl")] == [
        *map(str, keys)
    ]
    run(model, path, folder / "out", key_column="id", sort="key")
    rows = lines_of(folder / "out/rows.keys.jsonl.jsonl")
    assert [row["key"] for row in rows] == ["2", "a", "b", "b", "c"]


def test_what_is_done_is_not_done_again(folder, model):
    def scored(**asked):
        found = run(model, folder / "in/*.*", folder / "out", **asked)
        return [name for name, (_, known) in found.items() if not known]

    assert scored() == ["a.txt", "b.csv.gz", "empty.txt"]
    before = files_of(folder / "out")
    assert scored() == []
    # Another input, another question, and a file that went missing with its mark.
    os.utime(folder / "in/a.txt", (1, 1))
    assert scored() == ["a.txt"]
    assert scored(with_text=True) == ["a.txt", "b.csv.gz", "empty.txt"]
    (folder / "out/done.b.csv.gz.json").write_text("{")
    assert scored(with_text=True) == ["b.csv.gz"]
    os.utime(folder / "in/a.txt")
    scored()
    after = files_of(folder / "out")
    del before["done.a.txt.json"], after["done.a.txt.json"]
    assert after == before


def test_pipelines_cut_between_files_give_the_same(folder, model, monkeypatch):
    run(model, folder / "in/**", folder / "whole")
    monkeypatch.setattr(pipeline, "_PIPELINE_BYTES", 1)
    monkeypatch.setattr(pipeline, "_RANGE_BYTES", 100)
    run(model, folder / "in/**", folder / "cut")
    assert [*files_of(folder / "cut")] == [*files_of(folder / "whole")]
    for name, content in files_of(folder / "whole").items():
        if name.startswith("rows."):
            cut = lines_of(folder / "cut" / name)
            whole = [json.loads(line) for line in content.splitlines()]
            assert [row["key"] for row in cut] == [row["key"] for row in whole]
            assert [row["label"] for row in cut] == [row["label"] for row in whole]


def test_a_name_that_looks_like_a_pattern(model, tmp_path):
    for name in ("a[1].txt", "a*.txt", "a?.txt", "a1.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    run(model, tmp_path / "*.txt", tmp_path / "out", with_text=True)
    for name, escaped in {"a[1].txt": "a%5B1%5D.txt", "a*.txt": "a%2A.txt"}.items():
        [row] = lines_of(tmp_path / f"out/rows.{escaped}.jsonl")
        assert row["text"] == name
    found = run(model, tmp_path / "a[1].txt", tmp_path / "other", with_text=True)
    assert list(found) == ["a[1].txt"]


def test_rows_that_get_lost_are_noticed(model, tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a film\nits end\n")
    monkeypatch.setattr(pipeline.SavedModelHandler, "run_inference", lambda *_: [])
    with pytest.raises(RunError, match=r"a.txt: 2 rows were read, 0 came out$"):
        run(model, tmp_path / "a.txt", tmp_path / "out")
    assert files_of(tmp_path / "out") == {}


def test_a_full_disk_leaves_what_is_whole(model, tmp_path):
    (tmp_path / "a.txt").write_text("a film\n")
    (tmp_path / "b.txt").write_text("a film\n" * 2_000)
    with mounted(tmp_path / "out", "size=96k"):
        run(model, tmp_path / "a.txt", tmp_path / "out")
        before = files_of(tmp_path / "out")
        with pytest.raises(RunError, match="No space left on device"):
            run(model, tmp_path / "b.txt", tmp_path / "out")
        assert files_of(tmp_path / "out") == before


def test_a_file_that_goes_meanwhile_is_noticed(model, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("a film\n")
    before = pipeline._run
    monkeypatch.setattr(pipeline, "_run", lambda *args: (path.unlink(), before(*args)))
    with pytest.raises(RunError, match=r"No such file or directory: '.*a.txt'$"):
        run(model, path, tmp_path / "out")
    assert files_of(tmp_path / "out") == {}


def test_what_cannot_work_is_refused(model, tmp_path):
    (tmp_path / "a.txt").write_text("a film\n")
    with pytest.raises(UsageError, match=r"is a folder: give a pattern"):
        run(model, tmp_path, tmp_path / "out")
    with pytest.raises(RunError, match="names no file"):
        run(model, tmp_path / "*.csv", tmp_path / "out")
    with pytest.raises(UsageError, match="finds what is written to --output"):
        run(model, tmp_path / "*.txt", tmp_path)
    with pytest.raises(UsageError, match="must name a folder"):
        run(model, tmp_path / "a.txt", "")
    with pytest.raises(RunError, match="cannot write to"):
        run(model, tmp_path / "a.txt", tmp_path / "a.txt/out")
    with pytest.raises(RunError, match="holds no SavedModel"):
        run(tmp_path, tmp_path / "a.txt", tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--text_colum=x"], "unknown flag --text_colum, of Beam too: did you mean --text_column?"),
        (["--direct_num_worker=2"], "did you mean --direct_num_workers?"),
        (["x.csv"], "unknown flag x.csv"),
        (["--runner=Nothing"], "--runner=Nothing cannot work: "),
        (["--direct_num_workers=many"], "invalid int value: 'many'"),
    ],
)
def test_flags_of_no_one(flags, message):
    with pytest.raises(UsageError) as caught:
        pipeline.parse_options(flags, ["text_column"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_flags_of_another_runner_are_passed_on():
    options = pipeline.parse_options(["--runner=FlinkRunner", "--only_it_knows=1"])
    assert options.get_all_options(retain_unknown_options=True)["only_it_knows"] == "1"
