"""A run that begins with the words and the weights of another one."""

import numpy as np
import pytest
import tensorflow as tf

from tests.fixtures import write_records
from tests.training.runs import SMALL, TASK, assert_same_run, without_times
from zoo.config import Config
from zoo.errors import RunError, UsageError
from zoo.tasks import get_task
from zoo.training import evaluate, load_trained, train_and_evaluate
from zoo.workdir import Workdir

# So small a step that nothing moves.
STILL = SMALL | {"epochs": 1, "learning_rate": 1e-12, "calibrate": False}


@pytest.fixture(scope="module")
def few_words(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("few")
    train_and_evaluate(Config(**SMALL | {"vocabulary_size": 12}), workdir, data_dir)
    return workdir


@pytest.fixture(scope="module")
def warm(few_words, data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("warm")
    figures = train_and_evaluate(Config(**STILL, warm_start=str(few_words)), workdir, data_dir)
    return workdir, figures


def test_it_knows_the_words_of_both_and_answers_as_the_first_did(few_words, warm):
    before, after = load_trained(few_words), load_trained(warm[0])
    assert len(before.encoder.vocabulary) == 10
    assert after.encoder.vocabulary[:10] == before.encoder.vocabulary
    assert len(set(after.encoder.vocabulary)) == len(after.encoder.vocabulary) > 10
    # A word that is new begins as the unknown one was.
    texts = tf.constant([" ".join(after.encoder.vocabulary), "good", "bad film", "never seen"])
    answers = [t.model({"ids": t.encoder.encode_dense(texts)}) for t in (before, after)]
    np.testing.assert_allclose(*answers, atol=1e-5)


def test_its_figures_are_found_again_without_the_first_run(warm, data_dir, monkeypatch):
    workdir, figures = warm
    again = evaluate(load_trained(workdir), "validation", data_dir)
    assert without_times(again) == without_times(figures["validation"])


def test_other_data_than_its_own_are_refused(warm, tmp_path):
    write_records(get_task(TASK), tmp_path, rows=11)
    with pytest.raises(RunError, match="the data of movie_reviews/imdb have changed since"):
        evaluate(load_trained(warm[0]), "validation", tmp_path)


def test_it_is_repeatable_and_its_seed_is_its_own(few_words, data_dir, tmp_path):
    settings = SMALL | {"epochs": 1, "warm_start": str(few_words)}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        train_and_evaluate(Config(**settings, seed=seed), tmp_path / name, data_dir)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    one, other = (Workdir(tmp_path / name).load_model().get_weights() for name in ("one", "other"))
    assert any(np.any(a != b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "bilstm", "size": "small"}, "that run has model 'bag', not 'bilstm'"),
        ({"size": "small"}, "that run has size 'small,embedding_dim=7', not 'small'"),
        ({"unit": "character"}, "that run has unit 'word', not 'character'"),
    ],
)
def test_a_run_of_another_kind_is_refused(few_words, data_dir, tmp_path, changes, words):
    config = Config(**SMALL | changes, warm_start=str(few_words))
    with pytest.raises(UsageError, match=words):
        train_and_evaluate(config, tmp_path / "run", data_dir)


def test_an_unfinished_run_is_refused(data_dir, tmp_path):
    with pytest.raises(RunError, match="holds no finished run"):
        train_and_evaluate(Config(**SMALL, warm_start=str(tmp_path)), tmp_path / "run", data_dir)


def test_word_vectors_of_both_kinds_are_refused():
    with pytest.raises(UsageError, match="--word_vectors=ppmi --warm_start=runs/a cannot work"):
        Config(warm_start="runs/a", word_vectors="ppmi")
