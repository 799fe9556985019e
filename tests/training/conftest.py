"""A tiny data set of texts, and a run on it that nothing befell."""

import numpy as np
import pytest
import tensorflow as tf

from tests.training.runs import SMALL, TASK
from zoo import run
from zoo.config import Config
from zoo.tasks import get_task
from zoo.training import train_and_evaluate


def make_texts(rows, seed, words=40):
    """The class is a word among many that say nothing, and now and then it is missing."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    texts = []
    for label in labels:
        text = [f"w{i}" for i in rng.integers(0, words, rng.integers(1, 17))]
        texts.append(" ".join(text + [("bad", "good")[label]] * (rng.random() < 0.9)))
    return tf.data.Dataset.from_tensor_slices({"text": texts, "label": labels})


def prepare(folder, words=40):
    """Writes the data set, of so many words that say nothing."""
    import tensorflow_datasets as tfds

    features = {
        "text": tfds.features.Text(),
        "label": tfds.features.ClassLabel(names=get_task(TASK).classes),
    }
    builder, _, config = get_task(TASK).builder.partition("/")
    tfds.dataset_builders.store_as_tfds_dataset(
        name=builder,
        config=config,
        version=get_task(TASK).version,
        features=tfds.features.FeaturesDict(features),
        split_datasets={
            "train": make_texts(203, 0, words),
            "validation": make_texts(53, 1, words),
            "test": make_texts(59, 2, words),
        },
        data_dir=folder,
    )


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare(folder)
    return folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory, data_dir):
    """A run that nothing befell."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    return workdir, train_and_evaluate(Config(**SMALL), workdir, data_dir)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """They have their own tests, and take longer than a tiny run."""
    monkeypatch.setattr(run.plots, "draw", lambda *_, **__: [])
