"""What a run of pretraining is told, and what it refuses."""

import pytest

from zoo.errors import UsageError
from zoo.pretraining_config import PretrainingConfig


def test_it_comes_back_from_json_and_says_what_it_reads():
    config = PretrainingConfig(tasks="tweets,movie_reviews/imdb", text_files="a.txt", mask_rate=0.3)
    assert PretrainingConfig.from_json(config.to_json()) == config
    assert config.task_names == ["tweets", "movie_reviews/imdb"]
    assert PretrainingConfig(tasks="tweets,tweets").task_names == ["tweets"]
    assert config.task == "tweets,movie_reviews/imdb and a.txt"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ""}, "give one of them, or both"),
        ({"tasks": ","}, "give one of them, or both"),
        ({"unit": "wordpiece"}, "word pieces are a pretrained model's"),
        ({"tasks": "twets"}, "tweets"),
        ({"tasks": "japanese_vowels"}, "japanese_vowels has no words"),
        ({"model": "bag"}, "without those around them"),
        ({"model": "nb_ngram"}, "without those around them"),
        ({"model": "lstm"}, "give --objective=causal"),
        ({"model": "transformer", "objective": "causal"}, "give --objective=masked"),
        ({"model": "transformer", "size": "huge"}, "size 'huge' is unknown"),
        ({"objective": "both"}, "causal, masked"),
        ({"mask_rate": 0.0}, "must be above 0 and below 1"),
        ({"batch_size": 4}, "exactly one of them must be above 0"),
    ],
)
def test_what_cannot_work_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        PretrainingConfig(**{"tasks": "tweets"} | changes)
