"""Data sets on disk as TFDS records: made once, read back by name."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.download import downloader

from zoo.errors import RunError
from zoo.tasks import TASKS, Task

_MAX_RETRIES = 5


def resolve(data_dir: Path | str | None) -> Path:
    """The data folder; `None` is TFDS's own: `$TFDS_DATA_DIR` or `~/tensorflow_datasets`."""
    return Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()


def records_dir(task: Task, data_dir: Path) -> Path:
    """The folder of the task's records, whether it exists or not."""
    return data_dir / task.builder / task.version


def open_records(task: Task, data_dir: Path) -> tfds.core.DatasetBuilder:
    """Opens the records of a prepared task.

    Raises:
        RunError: if the task is not prepared, or its description cannot be read, saying which
            command prepares it and which task needs no network.
    """
    folder = records_dir(task, data_dir)
    if not (folder / "dataset_info.json").is_file():
        raise RunError(
            f"the data of task {task.name!r} are not prepared in {data_dir}: "
            f"python trainers/prepare.py --task={task.name}{_offline_hint(task)}"
        )
    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # TFDS raises what its JSON and protobuf readers raise
        raise damaged_records(task, folder, error) from error


def damaged_records(task: Task, folder: Path, error: Exception) -> RunError:
    """The error for records that cannot be read."""
    return RunError(
        f"the records in {folder} cannot be read ({_first_line(error)}): delete that folder, "
        f"then python trainers/prepare.py --task={task.name}"
    )


def prepare(task: Task, data_dir: Path | None, datasets_dir: Path) -> bool:
    """Makes a task's records, unless they are there.

    Args:
        task: which one.
        data_dir: where the records go, made if it is missing; `None` for TFDS's own folder.
        datasets_dir: the checkout's folder `datasets/`, for the data sets that TFDS lacks.

    Returns:
        Whether anything had to be made.

    Raises:
        RunError: if the data cannot be had, saying why and what would work. Nothing half-made is
            left behind.
    """
    data_dir = resolve(data_dir)
    folder = records_dir(task, data_dir)
    if (folder / "dataset_info.json").is_file():
        open_records(task, data_dir)
        return False
    if folder.exists():  # TFDS would take it for prepared
        raise damaged_records(task, folder, FileNotFoundError("dataset_info.json is missing"))
    downloads = data_dir / "downloads"
    parts = (folder, *folder.parents, *_unfinished(folder), downloads, *downloads.rglob("*"))
    existed = {path for path in parts if path.exists()}
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        builder = _builder(task, data_dir, datasets_dir)
        if str(builder.version) != task.version:
            raise RunError(
                f"task {task.name!r} is pinned to version {task.version} of {task.builder}, "
                f"but {builder.version} is what there is: update tensorflow-datasets"
            )
        # With its ten, a machine without a network waits for more than three minutes.
        downloader.MAX_RETRIES = _MAX_RETRIES
        # What TFDS has to say is of downloads; here it would speak of an unknown size.
        with _silence() if task.offline else contextlib.nullcontext():
            builder.download_and_prepare(file_format="tfrecord")
    except RunError:
        raise
    except Exception as error:
        raise RunError(
            f"the data of task {task.name!r} could not be prepared: {_first_line(error)}"
            f"{_offline_hint(task)}"
        ) from error
    finally:
        if not (folder / "dataset_info.json").is_file():
            _remove_leftovers(folder, downloads, existed)
    return True


def _builder(task: Task, data_dir: Path, datasets_dir: Path) -> tfds.core.DatasetBuilder:
    name, _, config = task.builder.partition("/")
    if not task.offline:
        return tfds.builder(f"{task.builder}:{task.version}", data_dir=data_dir)
    source = datasets_dir / name / f"{name}_dataset_builder.py"
    if not source.is_file():
        raise RunError(
            f"{source} is missing: task {task.name!r} is prepared from a checkout's datasets/"
        )
    # By its path, because datasets/ is no package: an installed one of that name stays untouched.
    spec = importlib.util.spec_from_file_location(f"{name}_dataset_builder", source)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    # Unregistered, so that a second checkout, or a second call, is no second data set of that name.
    with registered.skip_registration():
        spec.loader.exec_module(module)
    # TFDS would look for the card and the citations beside an importable module of that name.
    module.Builder.pkg_dir_path = tfds.core.Path(source.parent)
    return module.Builder(config=config or None, data_dir=data_dir)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """TFDS without its bars and its announcements."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        tfds.display_progress_bar(enable=False)
        try:
            yield
        finally:
            tfds.display_progress_bar(enable=True)


def _unfinished(folder: Path) -> list[Path]:
    """What TFDS writes before it renames it to `folder`."""
    return list(folder.parent.glob(f"incomplete.*_{folder.name}"))


def _remove_leftovers(folder: Path, downloads: Path, existed: set[Path]) -> None:
    """Removes what a failed preparation made, and nothing that was there before it."""
    half_downloaded = downloads.rglob("*.tmp.*")
    for path in (folder, *_unfinished(folder), *half_downloaded):
        if path not in existed:
            shutil.rmtree(path, ignore_errors=True)
    # What was downloaded whole stays, so that the next try need not do it again.
    for path in sorted((downloads, *downloads.rglob("*")), reverse=True):
        if path not in existed and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for parent in folder.parents:
        if parent in existed:
            break
        notes = parent / ".config"  # TFDS's, of the configurations that there are
        if parent.is_dir() and list(parent.iterdir()) in ([], [notes]):
            shutil.rmtree(parent, ignore_errors=True)


def _offline_hint(task: Task) -> str:
    if task.offline:
        return ""
    offline = ", ".join(name for name, other in TASKS.items() if other.offline)
    return f" (it needs a network; these tasks do not: {offline})"


def _first_line(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text.strip()[:1_000] or type(error).__name__
