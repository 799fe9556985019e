"""Devices of one machine that share a run come to what one of them comes to alone."""

import subprocess
import sys

import keras
import pytest

from tests.training.runs import SMALL
from tests.training.test_workers import LSTM, assert_agree, flags_of
from tests.training.workers import ENVIRONMENT, ROOT
from zoo.config import Config
from zoo.training import train_and_evaluate
from zoo.workdir import Workdir

# A program has as many CPU devices as it asks for before anything else.
SPLIT = """
import sys
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
sys.path.insert(0, "trainers")
import runpy

sys.argv[0] = "trainers/train.py"
runpy.run_path("trainers/train.py", run_name="__main__")
"""


def train_on_two(config, workdir, data_dir):
    done = subprocess.run(
        [sys.executable, "-c", SPLIT, *flags_of(config, workdir, data_dir)],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{}, {"model": "bag", "size": "small,embedding_dim=7", "layer_step_rate": 0.5}],
)
def test_two_devices_agree_with_one(data_dir, tmp_path, changes):
    values = LSTM | changes
    train_and_evaluate(Config(**values), tmp_path / "one", data_dir)
    config = Config(**values, strategy="mirrored")
    train_on_two(config, tmp_path / "two", data_dir)
    assert_agree(tmp_path / "two", tmp_path / "one")


def test_one_device_is_mirrored_by_itself(whole, data_dir, tmp_path):
    train_and_evaluate(Config(**SMALL, strategy="mirrored"), tmp_path, data_dir)
    rows, expected = (Workdir(path).read_log() for path in (tmp_path, whole[0]))
    for row, other in zip(rows, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-6)


def test_what_is_overridden_of_keras_is_still_there():
    """Else gradients would be summed twice, and Adam, blind to scale, would not show it."""
    assert callable(keras.optimizers.AdamW._all_reduce_sum_gradients)
