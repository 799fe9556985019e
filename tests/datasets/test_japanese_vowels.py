"""The folder datasets/japanese_vowels: TFDS's own test of it, its refusals, and the real files."""

from tests.datasets.folders import load
from tests.datasets.track_data import TrackDataSet
from zoo.tasks import TASKS

tfds_test = load("japanese_vowels", "japanese_vowels_dataset_builder_test")
# For pytest to find it here: the folder is on no path and in no package.
JapaneseVowelsTest = tfds_test.JapaneseVowelsTest


class TestJapaneseVowels(TrackDataSet):
    builder = tfds_test.builder
    task = TASKS["japanese_vowels"]
    channels = 12
    counts = {  # noqa: RUF012
        "train": [24] * 9,
        "validation": [6] * 9,
        "test": [31, 35, 88, 44, 29, 24, 40, 50, 29],
    }
    lengths = {"train": (7, 26), "validation": (9, 25), "test": (7, 29)}  # noqa: RUF012
    first = {  # noqa: RUF012
        "train": {0: [1.860936, 1.891651, 1.939205], 1: [-0.207383, -0.193249, -0.239664]},
        "test": {0: [1.635533, 1.547694, 1.602593], 1: [0.024848, 0.008754, -0.21052]},
    }
    cited = ("Kudo", "Bagnall", "Middlehurst")
