"""The builder on a fixture of invented tweets, as TFDS tests its own; it needs no package."""

import importlib.util
import pathlib
import sys
from unittest import mock

import tensorflow_datasets as tfds

_NAME = "tweets_dataset_builder"


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


class TweetsTest(tfds.testing.DatasetBuilderTestCase):
    """Four hundred texts a class; besides, a copy, a short one and one of two labels fall out."""

    DATASET_CLASS = builder.Builder
    SPLITS = {"train": 900, "validation": 150, "test": 150}  # noqa: RUF012 (TFDS reads it off the class)

    def setUp(self):
        super().setUp()
        csv = pathlib.Path(self.dummy_data / "tweets.csv")
        patcher = mock.patch.object(builder, "packaged_csv", return_value=csv)
        patcher.start()
        self.patchers.append(patcher)


if __name__ == "__main__":
    tfds.testing.test_main()
