"""A small task, and its ids made with few settings."""

import dataclasses

from zoo.pipeline import encode
from zoo.tasks import TASKS
from zoo.text import TextSettings

TASK = TASKS["movie_reviews/rotten_tomatoes"]
SETTINGS = TextSettings(vocabulary_size=9, max_length=12)


def run(data_dir, **changes):
    return encode(TASK, data_dir, dataclasses.replace(SETTINGS, **changes), progress=False)


# Its beginning is no memory of anyone's: reading it is the error of a failing disk.
UNREADABLE = "/proc/self/mem"


def unfinished(data_dir):
    return list(data_dir.glob("encoded/**/.unfinished-*"))


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)
