"""A model as a finished run leaves it, to be exported."""

from dataclasses import replace

import keras

from zoo.config import Config
from zoo.models import MODELS, TokenInputs
from zoo.tasks import get_task
from zoo.text import TextEncoder, TextSettings
from zoo.training import Trained

WORDS = (
    "the",
    "film",
    "was",
    "good",
    "bad",
    "dull",
    "fine",
    ",",
    ".",
    "!",
    "never",
    "see",
    "again",
)

TEXTS = [
    "The film was good!",
    "",
    "never again",
    "a dull , dull story . the acting was fine , but never see a film again " * 5,
    "Ünknown wörds only",
    "好 film 🙂",
]


def make_trained(family="bilstm", **changes):
    keras.utils.set_random_seed(11)
    config = replace(Config(task="movie_reviews/imdb", model=family, max_length=13), **changes)
    encoder = TextEncoder(WORDS, TextSettings(max_length=13))
    model = MODELS[family](TokenInputs(encoder.num_ids), 2, size="small")
    return Trained(
        config=config,
        task=get_task("movie_reviews/imdb"),
        model=model,
        encoder=encoder,
        metrics={
            "validation": {"accuracy": 0.5, "versions": {"tensorflow": "2.3.5"}},
            "test": {"accuracy": 0.5, "versions": {"tensorflow": "2.3.5"}},
        },
    )
