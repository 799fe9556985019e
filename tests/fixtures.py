"""Small TFDS data sets on disk, as the tests of the data side need them."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from zoo.prepared import records_dir
from zoo.tasks import Task

WORDS = ("a", "film", "café", "of", "the", "dull", "bright", "and", "sea", "don't", "映画")


def sentence(rng: np.random.Generator, words: int) -> str:
    """Invented words in a random order."""
    return " ".join(rng.choice(WORDS, words))


def example(task: Task, row: int) -> dict:
    """The example of that number: it tells its label and, but for its length, nothing else."""
    rng = np.random.default_rng(row)
    length = int(rng.integers(1, 30))
    label = row % len(task.classes)
    if task.kind == "features":
        return {task.feature: rng.random((length, 3), "float32"), task.label: label}
    return {task.feature: f"{sentence(rng, length)} film", task.label: label}


def features_of(task: Task) -> tfds.features.FeaturesDict:
    """What a data set of that task declares."""
    if task.kind == "features":
        value = tfds.features.Tensor(shape=(None, 3), dtype=np.float32)
    else:
        value = tfds.features.Text()
    label = tfds.features.ClassLabel(names=list(task.classes))
    return tfds.features.FeaturesDict({task.feature: value, task.label: label})


def write_records(
    task: Task,
    data_dir: Path,
    rows: int = 40,
    examples: dict[str, list[tuple[int, dict]]] | None = None,
) -> Path:
    """Writes records that TFDS reads as the task's own.

    Args:
        task: whose name, configuration, version and features they have.
        data_dir: where they go.
        rows: examples of each split.
        examples: numbered examples by TFDS split, instead of invented ones.

    Returns:
        The folder of the records.
    """
    if examples is None:
        names = {split.split("[")[0] for split in task.splits.values()}
        examples = {
            name: [(row, example(task, row + 1_000 * place)) for row in range(rows)]
            for place, name in enumerate(sorted(names))
        }
    name, _, config = task.builder.partition("/")
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=task.version,
        features=features_of(task),
        split_datasets=examples,
        config=config or None,
        data_dir=data_dir,
        disable_shuffling=True,
    )
    folder = records_dir(task, data_dir)
    assert (folder / "dataset_info.json").is_file()
    return folder


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A file system in memory over a folder, for a disk that is really full or read-only."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this test has to mount a file system: {error}")
    try:
        yield
    finally:  # lazily: arrays may still be mapped
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Makes a mounted folder one that even root cannot write to."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
