"""Data larger than memory: what is held is a few numbers an example, and how it is shuffled."""

from pathlib import Path

import numpy as np
import pytest

from tests.fixtures import write_records
from zoo import array_files, pipeline
from zoo.batching import batch_plan, batches
from zoo.splits import Split
from zoo.tasks import get_task

ROWS = 5_000_000


def anonymous_bytes():
    """The memory of this process that is no file's: what a system cannot take back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    raise AssertionError("no RssAnon")


def write_split(folder, rng):
    """Five million examples on disk, and 300 MB of ids."""
    lengths = rng.integers(1, 30, ROWS)
    arrays = {"offsets": np.concatenate([[0], lengths.cumsum()]), "labels": np.zeros(ROWS, "int32")}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    shape = (int(lengths.sum()),)
    values = np.lib.format.open_memmap(folder / "values.npy", "w+", "int32", shape)
    for start in range(0, len(values), 2**22):
        values[start : start + 2**22] = start % 1_000 + 2
    values.flush()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_epoch_of_five_million_examples_holds_a_few_numbers_of_each(tmp_path):
    write_split(tmp_path, np.random.default_rng(0))
    names = ("values", "offsets", "labels")
    split = Split(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in names))
    before = anonymous_bytes()
    plan = batch_plan(split.lengths, batch_tokens=8_192, seed=0, epoch=0)
    planned = anonymous_bytes()
    # The lengths, the order, and views of it: 24 bytes each, and what they are made of on the way.
    assert planned - before < 60 * ROWS
    most = planned
    rows = 0
    for inputs, _ in batches(split, plan):
        rows += len(inputs["ids"])
        if rows % 97 == 0:
            most = max(most, anonymous_bytes())
    assert rows == ROWS
    assert most - planned < 50e6


def test_rows_are_shuffled_over_the_whole_split_not_within_a_window():
    rng = np.random.default_rng(0)
    plan = batch_plan(rng.integers(1, 30, 200_000), batch_tokens=1_024, seed=0, epoch=0)
    order = np.concatenate(plan)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.01
    place = np.empty(len(order), "int64")
    for number, rows in enumerate(plan):
        place[rows] = number
    # By chance alone it would be 0.03 % here; rows of like length meet more often.
    assert np.mean(place[1:] == place[:-1]) < 0.002


def test_ids_are_written_as_they_come(tmp_path, monkeypatch):
    task = get_task("movie_reviews/imdb")
    write_records(task, tmp_path, rows=6)
    parts = []
    append = array_files.GrowingArray.append

    def noted(self, part):
        parts.append((self._path.name, len(part)))
        append(self, part)

    monkeypatch.setattr(array_files.GrowingArray, "append", noted)
    monkeypatch.setattr(pipeline, "_EXAMPLES_PER_CALL", 2)
    data = pipeline.encode(task, tmp_path, progress=False)
    ours = [size for name, size in parts if name == "train.values.npy"]
    assert len(ours) == 3
    assert sum(ours) == len(data.splits["train"].values)
