"""A finished run to a SavedModel that takes raw strings, and a SavedModel to predictions.

What is written holds stock TensorFlow ops alone: `tf.saved_model.load` and TensorFlow Serving run
it without this package. The text goes through `zoo.text.TextEncoder`, the code that made the
training ids, so that serving cannot differ from training.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import tensorflow as tf

from zoo.errors import RunError, UsageError, reason
from zoo.paths import expanded
from zoo.saved_model_file import amend
from zoo.servable import METHODS, Answering, Servable
from zoo.warmup import write_warmup

TYPE_CHECKING = False
if TYPE_CHECKING:
    # For the types alone: who predicts needs none of what training imports.
    from zoo.generation_export import Writing
    from zoo.tasks import Task
    from zoo.training import Trained

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_SIGNATURE = "serving_default"


def export(
    trained: "Trained", name: str, export_dir: str | os.PathLike[str], *, explain: bool = True
) -> Path:
    """Writes a finished run as the next version of a SavedModel.

    The folder appears whole or not at all: it is written beside and renamed.

    Args:
        trained: the run.
        name: the SavedModel's name: letters, digits, `-`, `_` and `.`.
        export_dir: folder of all SavedModels; made if it is missing.
        explain: whether it is to have the signature `explain`, where the model can; it takes some
            seconds more to write, and up to two more to load.

    Returns:
        `export_dir/name/version`, the version one above the highest there.

    Raises:
        UsageError: as `check_target`, or if Keras runs on another backend than TensorFlow.
        RunError: if it cannot be written.
    """
    return publish(
        lambda: Servable(trained.model, trained.encoder, trained.task.classes, explain),
        lambda folder: _write_card(folder, trained, name),
        name,
        export_dir,
    )


def publish(
    make: "Callable[[], Answering | Writing]",
    write_card: Callable[[Path], None],
    name: str,
    export_dir: str | os.PathLike[str],
) -> Path:
    """Writes what answers as the next version of a SavedModel, whole or not at all.

    Args:
        make: makes what is saved.
        write_card: writes its card into the folder `assets.extra`, which it makes.
        name: the SavedModel's name.
        export_dir: folder of all SavedModels; made if it is missing.

    Returns:
        As `export`, and it raises the same.
    """

    def write(folder: Path) -> None:
        servable = make()
        # The one that explains has asked for all gradients within: none is asked for later.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        signatures = servable.signatures
        tf.saved_model.save(servable, str(folder), signatures=signatures, options=options)
        amend(folder, {name: METHODS[name] for name in METHODS.keys() & signatures.keys()})
        write_card(folder / "assets.extra")
        write_warmup(folder / "assets.extra", name, servable.warmup())

    return publish_folder(write, name, export_dir)


def publish_folder(
    write: Callable[[Path], None], name: str, export_dir: str | os.PathLike[str]
) -> Path:
    """Makes the next version of an export, whole or not at all.

    Args:
        write: fills the folder that it is given.
        name: the export's name.
        export_dir: folder of all exports; made if it is missing.

    Returns:
        As `export`, and it raises the same.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"export runs on TensorFlow, not on KERAS_BACKEND={keras.backend.backend()}"
        )
    folder = check_target(name, export_dir)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _unfinished(folder) as beside:
            write(beside)
            beside.chmod(0o755)
            return _publish(beside, folder)
    except (OSError, tf.errors.OpError) as error:
        raise RunError(f"the export could not be written to {folder}: {reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):  # up to the first that holds something
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """A folder to fill and to rename, and an end to those that killed processes have left."""
    with contextlib.ExitStack() as until_renamed:
        with _held(folder):  # so that no one takes the new one for left, before it is held
            for left in folder.glob(".unfinished-*"):
                with contextlib.suppress(OSError), _held(left, wait=False):
                    shutil.rmtree(left)
            # TensorFlow Serving loads every folder whose name is a number, and no other.
            beside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
            until_renamed.callback(shutil.rmtree, beside, ignore_errors=True)
            until_renamed.enter_context(_held(beside))
        yield beside


@contextlib.contextmanager
def _held(folder: Path, wait: bool = True) -> Iterator[None]:
    """Holds a folder's lock, which the system lets go of when the process ends, however it ends.

    Raises:
        OSError: if another holds it and is not to be waited for, or if there are no locks here.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:  # a file system without locks, where nothing is swept
            if not wait:
                raise
        yield
    finally:
        os.close(descriptor)


def check_target(name: str, export_dir: str | os.PathLike[str]) -> Path:
    """The folder of a SavedModel's versions, checked before any work is done for it.

    Args:
        name: the SavedModel's name.
        export_dir: folder of all SavedModels.

    Returns:
        `export_dir/name`, which need not exist.

    Raises:
        UsageError: if the name or the folder is none.
        RunError: if the folder cannot be written to.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"name={name!r} cannot name a folder: use letters, digits, '-', '_', '.'")
    if not os.fspath(export_dir):
        raise UsageError("--export_dir= cannot work: it must name a folder")
    folder = expanded(export_dir) / name
    check_writable(folder)
    return folder


def check_writable(folder: Path) -> None:
    """Whether a folder is there to be written to, or can be made.

    Raises:
        RunError: naming what is in the way.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RunError(f"the files could not be written to {folder}: {nearest} is in the way")


def versions(folder: Path) -> list[int]:
    """The versions in a SavedModel's folder, rising."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _publish(beside: Path, folder: Path) -> Path:
    while True:
        target = folder / str(max(versions(folder), default=0) + 1)
        try:
            # Fails if another export was faster: a rename replaces no folder that holds something.
            os.rename(beside, target)
        except OSError:
            if not target.exists():
                raise
        else:
            return target


def card_head(name: str, task: "Task", text: bool) -> dict[str, Any]:
    """What every card says: of which task a SavedModel is, what it takes and what it returns."""
    return {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": task.name,
        "data": {
            "tfds_name": task.builder,
            "version": task.version,
            "splits": task.splits,
            "card": f"datasets/{task.builder.split('/')[0]}/README.md" if task.offline else None,
        },
        "classes": list(task.classes),
        "inputs": {"text": "string[B]"}
        if text
        else {"features": "float32[B, T, D]", "lengths": "int32[B], in steps"},
        "outputs": {
            _SIGNATURE: {"probabilities": "float32[B, C]", "label": "string[B]"},
            "logits": {"logits": "float32[B, C]"},
            "classify": {"classes": "string[B, C]", "scores": "float32[B, C]"},
        },
    }


def trained_card(trained: "Trained", name: str) -> dict[str, Any]:
    """What the card of a run says, `card_head` being part of it."""
    config, task, figures = trained.config, trained.task, trained.metrics
    text = trained.encoder is not None
    return card_head(name, task, text) | {
        "model": config.model,
        "size": config.size,
        "tokens": {"unit": config.unit, "max_length": config.max_length} if text else None,
        "config": config.to_json(),
        "metrics": {split: figures[split] for split in ("validation", "test") if split in figures},
        # Of then, when it was trained.
        "versions": figures["validation"].get("versions"),
        "machine": figures.get("machine"),
    }


def _write_card(folder: Path, trained: "Trained", name: str) -> None:
    words = None if trained.encoder is None else trained.encoder.vocabulary
    write_card(folder, trained_card(trained, name), words)


def write_card(folder: Path, card: dict[str, Any], words: Iterable[str] | None) -> None:
    """Writes a SavedModel's `card.json` and, of one on texts, its `vocabulary.txt`.

    Args:
        folder: its `assets.extra`; made if it is missing.
        card: what is said of it.
        words: by id from 2 on; `None` for a model on features.
    """
    folder.mkdir(exist_ok=True)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")
    if words is not None:
        lines = "".join(f"{word}\n" for word in words)
        (folder / "vocabulary.txt").write_text(lines, "utf-8")


@dataclass(frozen=True)
class Prediction:
    """What a SavedModel says of one text.

    Args:
        text: the text, with U+FFFD for what is not UTF-8: as the model saw it.
        label: the most probable class.
        probabilities: of every class, by name.
    """

    text: str
    label: str
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Loaded:
    """A SavedModel that takes texts.

    Args:
        path: where it was loaded from.
        classes: the classes' names.
        module: what TensorFlow loaded; it owns the variables, and so must be kept.
    """

    path: Path
    classes: tuple[str, ...]
    module: Any


def load_servable(path: str | os.PathLike[str]) -> Loaded:
    """Loads a SavedModel that `export` wrote, of a task on texts.

    Args:
        path: `NAME/VERSION`, or `NAME` for its highest version.

    Raises:
        RunError: if there is none, or one of another kind.
    """
    folder = expanded(path)
    if not (folder / "saved_model.pb").is_file():
        found = versions(folder) if folder.is_dir() else []
        if not found or not (folder / str(found[-1]) / "saved_model.pb").is_file():
            raise RunError(
                f"{folder} holds no SavedModel: give a folder that "
                "python trainers/export.py wrote, saved_models/NAME or saved_models/NAME/VERSION"
            )
        folder = folder / str(found[-1])
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # there is no saying what a damaged file leads the reader to
        raise RunError(f"the SavedModel in {folder} is damaged: {reason(error)}") from error
    if "generate" in loaded.signatures:
        raise RunError(f"the SavedModel in {folder} writes texts, and classifies none")
    signature = loaded.signatures.get(_SIGNATURE)
    if signature is None or not hasattr(loaded, "class_names"):
        raise RunError(f"the SavedModel in {folder} was not written by trainers/export.py")
    if "text" not in signature.structured_input_signature[1]:
        raise RunError(f"the SavedModel in {folder} takes features, not texts")
    names = tuple(name.decode() for name in loaded.class_names().numpy())
    return Loaded(folder, names, loaded)


def predict(servable: Loaded, texts: Iterable[str], batch_size: int = 64) -> Iterator[Prediction]:
    """Classifies texts as they come; no more than one batch of them is held.

    Args:
        servable: the model.
        texts: any number of texts.
        batch_size: texts that are classified together.

    Yields:
        A prediction for each text, in their order.

    Raises:
        UsageError: if `batch_size` is not positive.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size} cannot work: it must be at least 1")
    remaining = iter(texts)
    while batch := list(islice(remaining, batch_size)):
        raw = [_raw(text) for text in batch]
        answers = servable.module.serve(tf.constant(raw))
        rows = zip(raw, answers["label"].numpy(), answers["probabilities"].numpy(), strict=True)
        for text, label, probabilities in rows:
            by_name = dict(zip(servable.classes, probabilities.tolist(), strict=True))
            yield Prediction(text.decode("utf-8", "replace"), label.decode(), by_name)


def _raw(text: str) -> bytes:
    """The bytes of a text, be they UTF-8 or not: the model knows what to do with them."""
    try:
        # As Python reads a file's bytes that are no UTF-8, if told to.
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def lines_as_they_come(stream: BinaryIO) -> Iterator[list[str]]:
    """One text a line, in lists of what is there to read: none is kept waiting for the next.

    Args:
        stream: a buffered one; what is not UTF-8 becomes U+FFFD, as in the model.

    Example:
        >>> import io
        >>> list(lines_as_they_come(io.BytesIO(b"a film\\r\\n\\nits end")))
        [['a film', ''], ['its end']]
    """
    rest = bytearray()
    # Keeps to the line feed: Python's own text files would break a text at a lone "\r".
    while chunk := stream.read1(1 << 20):  # type: ignore[attr-defined]
        rest += chunk
        if b"\n" in chunk:
            *whole, rest = rest.split(b"\n")
            yield [line.removesuffix(b"\r").decode("utf-8", "replace") for line in whole]
    if rest:
        yield [rest.decode("utf-8", "replace")]
