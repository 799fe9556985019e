"""The builder on a configuration of a few expressions, as TFDS tests its own."""

import importlib.util
import pathlib
import sys

import tensorflow_datasets as tfds

_NAME = "listops_dataset_builder"


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


class ListOpsTest(tfds.testing.DatasetBuilderTestCase):
    """Expressions of one operator and two or three digits, which a split draws more than once."""

    DATASET_CLASS = builder.Builder
    # TFDS wants some folder of files to download; there are none.
    EXAMPLE_DIR = pathlib.Path(__file__).parent
    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012 (TFDS reads it off the class)
        builder.ListOpsConfig(
            name="short_fixture",
            description="As short, of four or five tokens.",
            min_tokens=4,
            max_tokens=5,
            splits={"test": (1, 100), "validation": (2, 100), "train": (3, 300)},
        )
    ]
    SPLITS = {"train": 300, "validation": 100, "test": 100}  # noqa: RUF012


if __name__ == "__main__":
    tfds.testing.test_main()
