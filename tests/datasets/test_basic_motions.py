"""The folder datasets/basic_motions: TFDS's own test of it, its refusals, and the real files."""

from tests.datasets.folders import load
from tests.datasets.track_data import TrackDataSet
from zoo.tasks import TASKS

tfds_test = load("basic_motions", "basic_motions_dataset_builder_test")
# For pytest to find it here: the folder is on no path and in no package.
BasicMotionsTest = tfds_test.BasicMotionsTest


class TestBasicMotions(TrackDataSet):
    builder = tfds_test.builder
    task = TASKS["basic_motions"]
    channels = 6
    counts = {"train": [8] * 4, "validation": [2] * 4, "test": [10] * 4}  # noqa: RUF012
    lengths = dict.fromkeys(("train", "validation", "test"), (100, 100))
    first = {  # noqa: RUF012
        "train": {0: [0.079106, 0.079106, -0.903497, 1.116125], 5: [0.633883, 0.633883, 0.972131]},
        "test": {
            0: [-0.740653, -0.740653, 10.208449, 2.867009],
            5: [0.013317, 0.013317, -5.055081],
        },
    }
    cited = ("Bagnall", "Middlehurst")
