"""Scoring in this process, and what is found of it on the disk."""

import json

from zoo.scoring.files import Asked
from zoo.scoring.pipeline import parse_options, score


def run(model, pattern, output, **asked):
    """Scores, and gives what is yielded by the names of files."""
    found = score(Asked(str(pattern), **asked), str(model), str(output), parse_options([]))
    return {item.outputs.name: (counts, known) for item, counts, known in found}


def lines_of(path):
    """The values of a JSON lines file; none if there is none."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]


def files_of(folder):
    """All files below a folder, and what they hold."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
