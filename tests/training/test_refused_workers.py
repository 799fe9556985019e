"""A worker that is not of the chief's mind is refused, and another may take its place."""

import pytest

from tests.training.conftest import prepare
from tests.training.test_workers import LSTM, flags_of
from tests.training.workers import assert_ended, free_addresses, workers
from zoo.config import Config

CONFIG = Config(**LSTM | {"epochs": 1}, strategy="multi_worker")


@pytest.mark.slow
def test_a_worker_of_another_model_is_refused_and_its_place_taken(data_dir, tmp_path):
    flags, addresses = flags_of(CONFIG, tmp_path / "run", data_dir), free_addresses(2)
    size = "small,embedding_dim=5,units=4"
    with workers(addresses, flags, [0]) as (chief,):
        with workers(addresses, [*flags, f"--size={size}"], [1]) as (other,):
            assert_ended([other], [2])
        assert other.said == [
            f"train.py: the chief was started otherwise: size: {CONFIG.size} there, {size} asked"
        ]
        # Its model is being built by now.
        chief.until("a worker of the cluster is lost")
        with workers(addresses, flags, [1]) as (right,):
            assert_ended([chief, right], [0, 0])
    assert not any("Traceback" in line for line in chief.said)


@pytest.mark.slow
@pytest.mark.parametrize("words", [None, 30])
def test_a_worker_without_the_chiefs_data_is_refused(data_dir, tmp_path, words):
    other_dir = tmp_path / "data"
    if words:
        prepare(other_dir, words)
    flags, addresses = flags_of(CONFIG, tmp_path / "run", data_dir), free_addresses(2)
    with (
        workers(addresses, flags, [0]) as (chief,),
        workers(addresses, [*flags, f"--data_dir={other_dir}"], [1]) as (other,),
    ):
        assert_ended([other], [1])
        (line,) = other.said
        assert ("the chief has other data of" if words else "are not prepared in") in line
        chief.until("a worker of the cluster is lost")
        assert len(chief.said) == 1


@pytest.mark.slow
def test_a_chief_without_data_ends_all(data_dir, tmp_path):
    flags, addresses = flags_of(CONFIG, tmp_path / "run", data_dir), free_addresses(2)
    with (
        workers(addresses, [*flags, f"--data_dir={tmp_path}"], [0]) as (chief,),
        workers(addresses, flags, [1]) as (other,),
    ):
        assert_ended([chief, other], [1, 1])
    (why,) = chief.said
    assert other.said == [f"train.py: the chief has failed: {why.removeprefix('train.py: ')}"]
