"""A task's ids in one file, which another machine reads without TensorFlow or the data set."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import RunError, reason
from zoo.models import TokenInputs
from zoo.splits import Split
from zoo.whole_files import replacing

_ABOUT = "about"


@dataclass(frozen=True)
class Archive:
    """A text task as a model sees it.

    Args:
        task: its name.
        settings: how its texts became ids: `unit`, `vocabulary_size` and `max_length`, the fields
            of `zoo.config.Config`.
        vocabulary: its tokens by id, the first one having the id 2, of word pieces the id 0.
        inputs: what a batch holds.
        fingerprint: of the data and the settings.
        splits: by name, `"train"`, `"validation"` and, where the task has one, `"test"`.
    """

    task: str
    settings: dict[str, Any]
    vocabulary: tuple[str, ...]
    inputs: TokenInputs
    fingerprint: str
    splits: dict[str, Split]


def save(archive: Archive, path: Path) -> None:
    """Writes an archive as one compressed `.npz`, ids in as few bytes as they fit in.

    Raises:
        RunError: if the file system refuses.
    """
    about = {
        "task": archive.task,
        "settings": archive.settings,
        "vocabulary": archive.vocabulary,
        "num_ids": archive.inputs.num_ids,
        "unknown_id": archive.inputs.unknown_id,
        "fingerprint": archive.fingerprint,
    }
    arrays: dict[str, Any] = {_ABOUT: np.frombuffer(json.dumps(about).encode(), "uint8")}
    for name, split in archive.splits.items():
        arrays[f"{name}.values"] = split.values.astype(np.min_scalar_type(archive.inputs.num_ids))
        arrays[f"{name}.lengths"] = split.lengths.astype("uint32")
        arrays[f"{name}.labels"] = np.asarray(split.labels, "int32")
    with replacing(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load(path: Path) -> Archive:
    """Reads what `save` wrote.

    Raises:
        RunError: if there is no such file, or it is none of ours.
    """
    try:
        with np.load(path) as file:
            about = json.loads(file[_ABOUT].tobytes())
            names = sorted({key.partition(".")[0] for key in file.files} - {_ABOUT})
            splits = {
                name: Split(
                    file[f"{name}.values"].astype("int32"),
                    np.concatenate([[0], file[f"{name}.lengths"].astype("int64").cumsum()]),
                    file[f"{name}.labels"],
                )
                for name in names
            }
        return Archive(
            about["task"],
            about["settings"],
            tuple(about["vocabulary"]),
            TokenInputs(about["num_ids"], about["unknown_id"]),
            about["fingerprint"],
            splits,
        )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(
            f"{path} cannot be read ({reason(error)}): trainers/archive.py writes such files"
        ) from error
