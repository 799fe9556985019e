"""Every record of TASKS is sane, and is a data set that the pipeline can really read."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.fixtures import write_records
from zoo import pipeline, tasks
from zoo.errors import UsageError
from zoo.tasks import TASKS, get_task

EACH_TASK = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def test_names_are_unique_and_are_what_the_record_says():
    assert len({task.name for task in tasks._ALL}) == len(tasks._ALL) == len(TASKS)
    assert all(name == task.name for name, task in TASKS.items())


def test_an_unknown_name_suggests_the_nearest():
    assert get_task("glue/sst2") is TASKS["glue/sst2"]
    with pytest.raises(UsageError, match="did you mean 'imdb_reviews'"):
        get_task("imbd_reviews")


@EACH_TASK
def test_the_record_is_sane(task):
    assert task.builder.split("/")[0] == task.name.split("/")[0]
    assert len(set(task.classes)) == len(task.classes) >= 2
    tfds.core.Version(task.version)
    assert set(task.splits) >= {"train", "validation"}
    assert task.splits.get("test") == task.test
    assert task.feature != task.label


@EACH_TASK
def test_validation_is_never_cut_from_test(task):
    """Of 1,000 rows of each TFDS split, no row belongs to two of the task's splits."""
    infos = {
        name: tfds.core.SplitInfo(
            name=name, shard_lengths=[1_000], num_bytes=0, filename_template=template(name)
        )
        for name in ("train", "validation", "test")
    }
    known = tfds.core.splits.SplitDict(list(infos.values()))
    rows = {}
    for name, expression in task.splits.items():
        rows[name] = set()
        for part in known[expression].file_instructions:
            source = part.filename.split("-")[1].split(".")[0]
            start = part.skip
            stop = 1_000 if part.take == -1 else start + part.take
            rows[name] |= {(source, row) for row in range(start, stop)}
        assert rows[name]
    assert not rows["train"] & rows["validation"]
    if task.test is not None:
        assert not rows["test"] & (rows["train"] | rows["validation"])
        assert {source for source, _ in rows["test"]} == {task.test}
    assert {source for source, _ in rows["validation"]} != {"test"}


def template(split):
    return tfds.core.ShardedFileTemplate(
        dataset_name="any", data_dir="/nowhere", split=split, filetype_suffix="tfrecord"
    )


def test_withheld_labels_are_not_tested_on():
    assert TASKS["glue/sst2"].test == "validation"
    assert TASKS["glue/sst2"].validation.startswith("train[")


@EACH_TASK
def test_records_of_its_name_features_and_splits_become_batches(task, tmp_path):
    write_records(task, tmp_path, rows=100)
    data = pipeline.encode(task, tmp_path, progress=False)
    assert set(data.splits) == set(task.splits)
    assert ("film" in data.vocabulary) == (task.kind == "text")
    for split in data.splits.values():
        assert set(split.labels) == set(range(len(task.classes)))
    total = len(data.splits["train"]) + len(data.splits["validation"])
    cut = "[" in task.validation
    assert total == (100 if cut else 200)
    split = data.splits["train"]
    plan = pipeline.batch_plan(split.lengths, batch_size=8, seed=0, epoch=0)
    seen = 0
    for inputs, labels in pipeline.batches(split, plan).as_dataset().as_numpy_iterator():
        values = inputs["ids" if task.kind == "text" else "features"]
        assert values.dtype == (np.int32 if task.kind == "text" else np.float32)
        assert labels.dtype == np.int32
        assert values.shape[0] == labels.shape[0]
        seen += len(labels)
    assert seen == len(split)
