"""Data sets on disk as TFDS records: made once, read back by name."""

import contextlib
import fcntl
import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered
from tensorflow_datasets.core.download import downloader

from zoo.errors import RunError, UsageError, reason
from zoo.paths import expanded
from zoo.tasks import TASKS, Task

_MAX_RETRIES = 5
_INFO = "dataset_info.json"


def resolve(data_dir: str | os.PathLike[str] | None) -> Path:
    """The data folder; `None` is TFDS's own: `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Raises:
        UsageError: if it is the empty string, which a shell makes of a variable that is not set.
    """
    if data_dir not in (None, ""):
        return expanded(data_dir)
    default = expanded(tfds.core.constants.DATA_DIR)
    if data_dir == "":
        raise UsageError(f"--data_dir= is empty: give a folder, or leave it out for {default}")
    return default


def records_dir(task: Task, data_dir: Path) -> Path:
    """The folder of the task's records, whether it exists or not."""
    return data_dir / task.builder / task.version


def prepare_command(task: Task, data_dir: Path) -> str:
    """The command that prepares a task in that folder, as a shell takes it."""
    plain = f"python trainers/prepare.py --task={task.name}"
    with contextlib.suppress(UsageError):  # a home folder is only needed where none is given
        if data_dir == resolve(None):
            return plain
    return f"{plain} --data_dir={shlex.quote(str(data_dir))}"


def open_records(task: Task, data_dir: Path) -> tfds.core.DatasetBuilder:
    """Opens the records of a prepared task.

    Raises:
        RunError: if the task is not prepared, or its description cannot be read or is of other
            features, classes or splits than the task's, saying which command prepares it and which
            task needs no network.
    """
    folder = records_dir(task, data_dir)
    if not (folder / _INFO).is_file():
        raise RunError(
            f"the data of task {task.name!r} are not prepared in {data_dir}: "
            f"{prepare_command(task, data_dir)}{_offline_hint(task)}"
        )
    try:
        builder = tfds.builder_from_directory(folder)
        _check_fit(task, builder.info)
    except Exception as error:  # TFDS raises what its JSON and protobuf readers raise
        raise damaged_records(task, data_dir, error) from error
    return builder


def _check_fit(task: Task, info: tfds.core.DatasetInfo) -> None:
    for key in (task.feature, task.label):
        if key not in info.features:
            raise ValueError(
                f"their features are {', '.join(sorted(info.features))}, and none is {key}"
            )
    names = tuple(getattr(info.features[task.label], "names", None) or ())
    # TFDS has names of its own for the same classes; those of datasets/ are the task's.
    if len(names) != len(task.classes) or (task.offline and names != task.classes):
        classes = ", ".join(task.classes)
        raise ValueError(f"their classes are {', '.join(names) or 'not named'}, not {classes}")
    for split in task.splits.values():
        info.splits[split]  # raises what says which there are


def damaged_records(task: Task, data_dir: Path, error: Exception) -> RunError:
    """The error for records that cannot be read."""
    return RunError(
        f"the records in {records_dir(task, data_dir)} cannot be read ({reason(error)}): "
        f"delete that folder, then {prepare_command(task, data_dir)}"
    )


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, and waits for another process or thread that holds it.

    The file is there only while it is held, or after a SIGKILL; the system lets go of it even then.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = path.open("w")
        except FileNotFoundError:  # whoever had made the folder has just removed it
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                break
        lock.close()  # whoever held it has removed it, and the next one locks another
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.close()


def prepare(
    task: Task, data_dir: Path | None, datasets_dir: Path, *, progress: bool = True
) -> bool:
    """Makes a task's records, unless they are there; of several at once, one makes them.

    Args:
        task: which one.
        data_dir: where the records go, made if it is missing; `None` for TFDS's own folder.
        datasets_dir: the checkout's folder `datasets/`, for the data sets that TFDS lacks.
        progress: whether to show bars.

    Returns:
        Whether anything had to be made.

    Raises:
        RunError: if the data cannot be had, saying why and what would work. Nothing half-made is
            left behind.
    """
    data_dir = resolve(data_dir)
    info = records_dir(task, data_dir) / _INFO
    if info.is_file():  # before any lock: the folder may be one that cannot be written to
        open_records(task, data_dir)
        return False
    existed = {path for path in (data_dir, *data_dir.parents) if path.exists()}
    try:
        with locked(data_dir / f".{_data_set(task)}.lock"):
            made = not info.is_file()  # another process may have made them meanwhile
            if made:
                _make(task, data_dir, datasets_dir, progress)
    except RunError:
        raise
    except Exception as error:
        raise RunError(
            f"the data of task {task.name!r} could not be prepared: {reason(error)}"
            f"{_offline_hint(task)}"
        ) from error
    finally:
        _remove_empty(path for path in (data_dir, *data_dir.parents) if path not in existed)
    if not made:
        open_records(task, data_dir)
    return made


def _data_set(task: Task) -> str:
    return task.builder.partition("/")[0]


def _make(task: Task, data_dir: Path, datasets_dir: Path, progress: bool) -> None:
    """Makes the records, with the data set's lock held."""
    folder = records_dir(task, data_dir)
    if folder.exists():  # TFDS would take it for prepared
        raise damaged_records(task, data_dir, FileNotFoundError(f"{_INFO} is missing"))
    shared = (data_dir / "downloads", data_dir / "downloads" / "extracted")
    existed = {path for path in shared if path.exists()}
    try:
        _remove_half_made(task, data_dir)  # by a process that was killed
        builder = _builder(task, data_dir, datasets_dir)
        if str(builder.version) != task.version:
            raise RunError(
                f"task {task.name!r} is pinned to version {task.version} of {task.builder}, "
                f"but {builder.version} is what there is: update tensorflow-datasets"
            )
        # With its ten, a machine without a network waits for more than three minutes.
        downloader.MAX_RETRIES = _MAX_RETRIES
        with _display(task, progress):
            builder.download_and_prepare(file_format="tfrecord")
    finally:
        if not (folder / _INFO).is_file():
            _remove_half_made(task, data_dir)
            _remove_empty(path for path in reversed(shared) if path not in existed)


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
def _display(task: Task, progress: bool) -> Iterator[None]:
    """TFDS with its bars, on stderr, or without; its announcements where it downloads."""
    tfds.display_progress_bar(enable=progress)
    try:
        with contextlib.ExitStack() as stack:
            if task.offline:  # they are of downloads, and here of an unknown size
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    finally:
        tfds.display_progress_bar(enable=True)


def _remove_half_made(task: Task, data_dir: Path) -> None:
    """Removes what TFDS writes before it renames it: of this data set, whose lock is held."""
    folder, downloads = records_dir(task, data_dir), data_dir / "downloads" / _data_set(task)
    unfinished = folder.parent.glob(f"incomplete.*_{folder.name}")
    # What was downloaded whole stays, so that the next try need not do it again.
    for path in (*unfinished, *downloads.rglob("*.tmp.*")):
        shutil.rmtree(path, ignore_errors=True)
    below = (path for path in sorted(downloads.rglob("*"), reverse=True) if path.is_dir())
    _remove_empty((*below, downloads))
    top = data_dir / _data_set(task)
    _remove_empty((folder, folder.parent))
    if top.is_dir() and list(top.iterdir()) == [top / ".config"]:  # TFDS's list of what there is
        shutil.rmtree(top, ignore_errors=True)
    _remove_empty([top])


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not empty, or not there
            folder.rmdir()


def _offline_hint(task: Task) -> str:
    if task.offline:
        return ""
    offline = ", ".join(name for name, other in TASKS.items() if other.offline)
    return f" (it needs a network; these tasks do not: {offline})"
