"""Four motions recorded by a smart watch, to be told apart; read out of the package `aeon`."""

import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_PACKAGE = "aeon"
_FOLDER = "aeon/datasets/data/BasicMotions"
_FILES = {
    "train": (
        f"{_FOLDER}/BasicMotions_TRAIN.ts",
        "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    ),
    "test": (
        f"{_FOLDER}/BasicMotions_TEST.ts",
        "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
    ),
}
_CHANNELS = 6
_CLASSES = {name: name.lower() for name in ("Standing", "Running", "Walking", "Badminton")}
# A fifth of each class's 10 training recordings.
_HELD_OUT = 2


class Builder(tfds.core.GeneratorBasedBuilder):
    """The data set `basic_motions`."""

    # The card and the citations lie beside this file, which is in no package.
    pkg_dir_path = tfds.core.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads it off the class)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "track": tfds.features.Tensor(shape=(None, _CHANNELS), dtype=np.float32),
                    "label": tfds.features.ClassLabel(names=list(_CLASSES.values())),
                }
            ),
            supervised_keys=("track", "label"),
            homepage="https://www.timeseriesclassification.com/description.php?Dataset=BasicMotions",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        splits = read_splits(packaged_files())
        return {name: self._generate_examples(cases) for name, cases in splits.items()}

    def _generate_examples(
        self, cases: list[tuple[str, np.ndarray, str]]
    ) -> Iterator[tuple[str, dict]]:
        for key, track, label in cases:
            yield key, {"track": track, "label": label}


def packaged_files() -> dict[str, pathlib.Path]:
    """Finds the files `train` and `test` in the installed package, which is not imported.

    Raises:
        FileNotFoundError: if the package or a file is missing, saying what to install.
        ValueError: if a file is not the one that the splits were made for.
    """
    packaged = _sibling("packaged")
    return {
        name: packaged.packaged_file(_PACKAGE, file, sha256)
        for name, (file, sha256) in _FILES.items()
    }


def read_splits(files: dict[str, pathlib.Path]) -> dict[str, list[tuple[str, np.ndarray, str]]]:
    """Reads the files and cuts the splits as the card says.

    Args:
        files: the paths of `train` and `test`.

    Returns:
        For each split, `(key, track, label)` of its recordings; a track is `float32[100, 6]`.

    Raises:
        ValueError: if a file is malformed, naming it and the line.
    """
    ts_files = _sibling("ts_files")
    cases = {name: ts_files.read_cases(path, _CHANNELS, _CLASSES) for name, path in files.items()}
    return ts_files.split_cases(cases["train"], cases["test"], _HELD_OUT)


def _sibling(name: str) -> Any:
    # By its path: datasets/ is no package.
    path = pathlib.Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
