"""Figures of runs that nobody ran, for the tests of the leaderboard."""

import json
from pathlib import Path

from zoo import leaderboard
from zoo.config import Config

IMDB, TWEETS, VOWELS = "movie_reviews/imdb", "tweets", "japanese_vowels"


def read(flags):
    values = dict(flag[2:].split("=", 1) for flag in flags)
    values.pop("flagfile", None)
    if "embedding_step_rate" in values:
        values["embedding_step_rate"] = float(values["embedding_step_rate"])
    return Config(**values | {"seed": int(values["seed"])})


def jobs_of(*names, seeds=(0,), models=("bag",), recipes=Path(__file__).parent):
    return leaderboard.plan(names, models, seeds, recipes, read)


def figures_of(config, /, accuracy=0.8, seconds=12.0, examples=400, **changes):
    part = {"shortest": 3, "longest": 9, "examples": examples // 2, "accuracy": accuracy}
    return {
        "validation": {"accuracy": accuracy + 0.02},
        "test": {
            "accuracy": accuracy,
            "examples": examples,
            "expected_calibration_error": 0.05,
            "parameters": 1_234,
            "versions": {"tensorflow": "2.21.0", "keras": "3.15.1"},
            "by_length": [part, part | {"shortest": 10, "longest": 50}],
        },
        "train_seconds": seconds,
        "epochs": 4,
        "config": config.to_json(),
        "machine": {"cpu": "a processor", "cores": 2, "gpus": []},
    } | changes


def store(root, job, **values):
    folder = job.folder(root)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"config": job.config.to_json()}))
    (folder / "metrics.json").write_text(json.dumps(figures_of(job.config, **values)))
