"""Workers that tell words together tell them as one process does, however unequal their shares."""

import pytest

from tests.training.runs import TASK
from tests.training.test_workers import flags_of
from tests.training.workers import assert_ended, free_addresses, workers
from zoo.pretraining import pretrain
from zoo.pretraining_config import PretrainingConfig
from zoo.workdir import Workdir

# Which words are asked for does not depend on chance, and those that each is held against are the
# same for all workers.
CAUSAL = {
    "tasks": TASK,
    "model": "lstm",
    "size": "small,embedding_dim=6,units=4",
    "objective": "causal",
    "vocabulary_size": 60,
    "max_length": 11,
    "batch_tokens": 0,
    "batch_size": 5,
    "epochs": 2,
    "dropout_rate": 0.0,
    "sampled_words": 7,
}


@pytest.mark.slow
def test_two_workers_agree_with_one_process(data_dir, tmp_path):
    pretrain(PretrainingConfig(**CAUSAL), tmp_path / "alone", data_dir)
    config = PretrainingConfig(**CAUSAL, strategy="multi_worker")
    flags = flags_of(config, tmp_path / "run", data_dir)
    with workers(free_addresses(2), flags, program="pretrain.py") as both:
        assert_ended(both, [0, 0])
    ours, theirs = (Workdir(tmp_path / name).read_log() for name in ("run", "alone"))
    for row, expected in zip(ours, theirs, strict=True):
        for name in ("loss", "validation_log_loss"):
            assert row[name] == pytest.approx(expected[name], abs=1e-4), name
