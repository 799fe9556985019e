"""A finished run to a SavedModel that takes raw strings, and a SavedModel to predictions.

What is written holds stock TensorFlow ops alone: `tf.saved_model.load` and TensorFlow Serving run
it without this package. The text goes through `zoo.text.TextEncoder`, the code that made the
training ids, so that serving cannot differ from training.
"""

import contextlib
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    # For the types alone: who predicts needs none of what training imports.
    import keras

    from zoo.text import TextEncoder
    from zoo.training import Trained

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_SIGNATURE = "serving_default"


class Servable(tf.Module):
    """A model with all that it takes to answer raw inputs, ready for `tf.saved_model.save`.

    Args:
        model: from ids, or features and lengths, to `float32[B, C]` logits.
        encoder: strings to ids; `None` for a model on features.
        classes: C names.

    The model's recurrent layers take no cuDNN from then on: its ops run on a GPU alone. Asking what
    is saved for a gradient is an error.
    """

    def __init__(
        self, model: "keras.Model", encoder: "TextEncoder | None", classes: tuple[str, ...]
    ) -> None:
        from zoo.layers.own_gradient_fast import no_gradients

        super().__init__()
        for layer in _all_layers(model):
            if hasattr(layer, "use_cudnn"):
                layer.use_cudnn = False
        self._encoder = encoder
        # The variables, not the model: Keras's own objects would be saved with it, and asked for
        # when it is loaded.
        self._variables = [variable.value for variable in model.variables]
        names = list(classes)
        inputs_of: Callable[..., dict[str, tf.Tensor]]
        if encoder is not None:
            signature = [tf.TensorSpec([None], tf.string, name="text")]

            def inputs_of(text: tf.Tensor) -> dict[str, tf.Tensor]:
                return {"ids": encoder.encode_dense(text)}
        else:
            size = model.input["features"].shape[-1]
            signature = [
                tf.TensorSpec([None, None, size], tf.float32, name="features"),
                tf.TensorSpec([None], tf.int32, name="lengths"),
            ]

            inputs_of = _at_least_one_step

        def logits_of(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            with no_gradients():
                return {"logits": model(inputs_of(*inputs), training=False)}  # float32[B, C]

        def answer(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            probabilities = tf.nn.softmax(self.logits(*inputs)["logits"])  # float32[B, C]
            label = tf.gather(tf.constant(names), tf.argmax(probabilities, axis=-1))  # string[B]
            return {"probabilities": probabilities, "label": label}

        self.logits = tf.function(logits_of, input_signature=signature)
        self.serve = tf.function(answer, input_signature=signature)
        self.class_names = tf.function(lambda: tf.constant(names), input_signature=[])


def _all_layers(layer: Any) -> Iterator[Any]:
    """A layer or model, and all layers inside it, those that a wrapper holds among them."""
    yield layer
    wrapped = (getattr(layer, f"{which}layer", None) for which in ("", "forward_", "backward_"))
    for inner in (*getattr(layer, "layers", ()), *wrapped):
        if inner is not None:
            yield from _all_layers(inner)


def _at_least_one_step(features: tf.Tensor, lengths: tf.Tensor) -> dict[str, tf.Tensor]:
    """A model's inputs; recurrent layers fail in the graph at length 0."""
    missing = tf.maximum(0, 1 - tf.shape(features)[1])
    return {"features": tf.pad(features, [[0, 0], [0, missing], [0, 0]]), "lengths": lengths}


def export(trained: "Trained", name: str, export_dir: str | os.PathLike[str]) -> Path:
    """Writes a finished run as the next version of a SavedModel.

    The folder appears whole or not at all: it is written beside and renamed.

    Args:
        trained: the run.
        name: the SavedModel's name: letters, digits, `-`, `_` and `.`.
        export_dir: folder of all SavedModels; made if it is missing.

    Returns:
        `export_dir/name/version`, the version one above the highest there.

    Raises:
        UsageError: as `check_target`, or if Keras runs on another backend than TensorFlow.
        RunError: if it cannot be written.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"export runs on TensorFlow, not on KERAS_BACKEND={keras.backend.backend()}"
        )
    folder = check_target(name, export_dir)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    beside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # TensorFlow Serving loads every folder whose name is a number, and no other.
        beside = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder))
        servable = Servable(trained.model, trained.encoder, trained.task.classes)
        signatures = {_SIGNATURE: servable.serve, "logits": servable.logits}
        tf.saved_model.save(servable, str(beside), signatures=signatures)
        _write_card(beside / "assets.extra", trained, name)
        beside.chmod(0o755)
        return _publish(beside, folder)
    except (OSError, tf.errors.OpError) as error:
        message = f"the SavedModel could not be written to {folder}: {reason(error)}"
        raise RunError(message) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)
        with contextlib.suppress(OSError):  # up to the first that holds something
            for path in made:
                path.rmdir()


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
    folder = Path(export_dir).expanduser() / name
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise RunError(f"the SavedModel could not be written to {folder}: {nearest} is in the way")
    return folder


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


def _write_card(folder: Path, trained: "Trained", name: str) -> None:
    folder.mkdir(exist_ok=True)
    config, task, figures = trained.config, trained.task, trained.metrics
    text = trained.encoder is not None
    card = {
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "task": task.name,
        "data": {
            "tfds_name": task.builder,
            "version": task.version,
            "splits": task.splits,
            "card": f"datasets/{task.builder.split('/')[0]}/README.md" if task.offline else None,
        },
        "model": config.model,
        "size": config.size,
        "classes": list(task.classes),
        "inputs": {"text": "string[B]"}
        if text
        else {"features": "float32[B, T, D]", "lengths": "int32[B], in steps"},
        "outputs": {
            _SIGNATURE: {"probabilities": "float32[B, C]", "label": "string[B]"},
            "logits": {"logits": "float32[B, C]"},
        },
        "tokens": {"unit": config.unit, "max_length": config.max_length} if text else None,
        "config": config.to_json(),
        "metrics": {split: figures[split] for split in ("validation", "test") if split in figures},
        # Of then, when it was trained.
        "versions": figures["validation"].get("versions"),
        "machine": figures.get("machine"),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")
    if trained.encoder is not None:
        words = "".join(f"{word}\n" for word in trained.encoder.vocabulary)
        (folder / "vocabulary.txt").write_text(words, "utf-8")


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
    folder = Path(path)
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
