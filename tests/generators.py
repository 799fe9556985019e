"""Causal models as finished runs of pretraining leave them, with weights drawn by chance."""

import numpy as np

from zoo.models import MODELS, TokenInputs
from zoo.models.words import build_predictor, objective_words
from zoo.pretraining import Pretrained
from zoo.pretraining_config import PretrainingConfig
from zoo.text import TextEncoder, TextSettings
from zoo.workdir import Workdir

WORDS = ("the", "film", "was", "good", "bad", ",", ".", "!", "never", "see", "again", "片", "it's")
CHARACTERS = ("a", "b", "c", "␣", ".", "é", "片")
LSTM = "small,embedding_dim=13,units=5"
TRANSFORMER = "small,embedding_dim=12,num_heads=3,feedforward_dim=17,attention=causal"
# Of each way to keep what was read, and each way to tell places.
CAUSAL = [
    ("lstm", LSTM),
    ("lstm", f"{LSTM},num_layers=2,layer_norm=yes"),
    ("transformer", TRANSFORMER),
    ("transformer", f"{TRANSFORMER},position=learned,max_positions=64,norm=post"),
    ("transformer", f"{TRANSFORMER},position=rotary,num_layers=2"),
    ("transformer", f"{TRANSFORMER},position=alibi"),
]


def make_pretrained(
    model="lstm", size=LSTM, unit="word", max_length=13, objective="causal", vocabulary=None
):
    """A finished run; of another objective than `"causal"`, one that cannot write."""
    config = PretrainingConfig(
        tasks="tweets",
        model=model,
        size=size,
        unit=unit,
        max_length=max_length,
        objective=objective,
    )
    if vocabulary is None:
        vocabulary = {"word": WORDS, "byte": ()}.get(unit, CHARACTERS)
    encoder = TextEncoder(vocabulary, TextSettings(unit, 300, max_length))
    classifier = MODELS[model](TokenInputs(encoder.num_ids), 2, size=size)
    predictor = build_predictor(classifier, objective_words(model, size, objective))
    rng = np.random.default_rng(3)
    predictor.set_weights(
        [
            rng.normal(size=w.shape, scale=0.7) if w.dtype.kind == "f" else w
            for w in predictor.get_weights()
        ]
    )
    figures = {"validation": {"perplexity": 9.5, "versions": {"tensorflow": "2.3.5"}}}
    return Pretrained(config, predictor, encoder, figures)


def write_run(folder, **arguments):
    """The files of such a run, as `zoo.generation.load_generator` reads them."""
    pretrained = make_pretrained(**arguments)
    workdir = Workdir(folder, type(pretrained.config))
    folder.mkdir(parents=True)
    workdir.begin(pretrained.config, "of no data", pretrained.encoder.vocabulary)
    pretrained.model.save(workdir.model)
    workdir.finish(pretrained.metrics)
    return pretrained
