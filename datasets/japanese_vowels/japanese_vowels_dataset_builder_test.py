"""The builder on a fixture of invented numbers, as TFDS tests its own; it needs no package."""

import importlib.util
import pathlib
import sys
from unittest import mock

import tensorflow_datasets as tfds

_NAME = "japanese_vowels_dataset_builder"


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


class JapaneseVowelsTest(tfds.testing.DatasetBuilderTestCase):
    """Three training utterances a speaker, of which one is held out, and one to test on."""

    DATASET_CLASS = builder.Builder
    SPLITS = {"train": 18, "validation": 9, "test": 9}  # noqa: RUF012 (TFDS reads it off the class)

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.dummy_data)
        files = {name: folder / f"JapaneseVowels_{name.upper()}.ts" for name in ("train", "test")}
        for patcher in (
            mock.patch.object(builder, "packaged_files", return_value=files),
            mock.patch.object(builder, "_HELD_OUT", 1),
        ):
            patcher.start()
            self.patchers.append(patcher)


if __name__ == "__main__":
    tfds.testing.test_main()
