"""The builder on a fixture of invented sentences, as TFDS tests its own; it needs no package."""

import importlib.util
import pathlib
import sys
from unittest import mock

import tensorflow_datasets as tfds

_NAME = "movie_reviews_dataset_builder"


def _load_builder():
    # By its path: this folder is no package, and pytest puts it on no path.
    if _NAME not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            _NAME, pathlib.Path(__file__).with_name(f"{_NAME}.py")
        )
        sys.modules[_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[_NAME])
    return sys.modules[_NAME]


builder = _load_builder()


class _OnTheFixture(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = builder.Builder

    def setUp(self):
        super().setUp()
        csv = self.dummy_data / "combined_movie_reviews.csv"
        patcher = mock.patch.object(builder, "packaged_csv", return_value=pathlib.Path(csv))
        patcher.start()
        self.patchers.append(patcher)


class MovieReviewsTest(_OnTheFixture):
    """Ten rows a class: train 0-3, validation 5-7, test 8-9."""

    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012 (TFDS reads it off the class)
        builder.MovieReviewsConfig(
            name="imdb_fixture",
            description="As imdb, of ten rows a class.",
            source="imdb",
            rows={"train": (0, 4), "validation": (5, 8), "test": (8, 10)},
        )
    ]
    # Two validation rows repeat a test row, one repeats another, and a training row repeats a
    # fourth. The test rows stay, although two of them are the same.
    SPLITS = {"train": 7, "validation": 3, "test": 4}  # noqa: RUF012


class MovieReviewsWithoutTestSplitTest(_OnTheFixture):
    """Three rows a class: train 0-1, validation 2."""

    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012 (TFDS reads it off the class)
        builder.MovieReviewsConfig(
            name="rotten_tomatoes_fixture",
            description="As rotten_tomatoes_all, of three rows a class.",
            source="rotten_tomatoes",
            rows={"train": (0, 2), "validation": (2, 3)},
        )
    ]
    SPLITS = {"train": 4, "validation": 2}  # noqa: RUF012


del _OnTheFixture  # no test case of its own

if __name__ == "__main__":
    tfds.testing.test_main()
