"""Two vowels uttered by nine speakers, to be told apart; read out of the package `aeon`."""

import importlib.util
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

_PACKAGE = "aeon"
_FOLDER = "aeon/datasets/data/JapaneseVowels"
_FILES = {
    "train": (
        f"{_FOLDER}/JapaneseVowels_TRAIN.ts",
        "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    ),
    "test": (
        f"{_FOLDER}/JapaneseVowels_TEST.ts",
        "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
    ),
}
_CHANNELS = 12
_CLASSES = {str(number): f"speaker_{number}" for number in range(1, 10)}
# A fifth of each speaker's 30 training utterances.
_HELD_OUT = 6


class Builder(tfds.core.GeneratorBasedBuilder):
    """The data set `japanese_vowels`."""

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
            homepage="https://doi.org/10.24432/C5NS47",
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
        For each split, `(key, track, label)` of its utterances; a track is `float32[T, 12]`.

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
