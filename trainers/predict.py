"""Classifies texts with an exported SavedModel.

    python trainers/predict.py --model=saved_models/first "I would see it again."
    python trainers/predict.py --model=saved_models/first --input=reviews.txt --format=csv
    cat reviews.txt | python trainers/predict.py --model=saved_models/first --format=jsonl

Texts come from the arguments, from a file of one text a line, or from standard input, and are
answered as they come.
"""

import contextlib
import csv
import json
import sys
from collections.abc import Iterable
from typing import Any

import command
from absl import flags

from zoo.errors import RunError, UsageError
from zoo.paths import expanded

_MODEL = flags.DEFINE_string(
    "model", None, "saved_models/NAME, for the highest version, or one version", required=True
)
_INPUT = flags.DEFINE_string("input", None, "file of one text a line; left out: arguments or stdin")
_OUTPUT = flags.DEFINE_string("output", None, "file to write; left out: standard output")
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl", "csv"], "what is written")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "most texts classified together", 1, 65_536)

# All that someone's reader may take for the end of a line.
_ESCAPED = str.maketrans({c: repr(c)[1:-1] for c in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"})


def _open(place: Any, stream: Any, name: str, mode: str, **how: Any) -> Any:
    if not place and stream is None:
        raise RunError(f"standard {name} is closed: give --{name}=FILE")
    return open(expanded(place) if place else stream.fileno(), mode, closefd=bool(place), **how)


def write(predictions: Iterable[Any], classes: tuple[str, ...], stream: Any) -> None:
    """Writes each prediction at once, so that a pipe's reader need not wait."""
    table = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    if _FORMAT.value == "csv":
        table.writerow(["text", "label", *classes])
    for found in predictions:
        text, label, probabilities = found.text, found.label, found.probabilities
        if _FORMAT.value == "csv":
            table.writerow([text, label, *probabilities.values()])
        elif _FORMAT.value == "jsonl":
            print(json.dumps(vars(found), ensure_ascii=False), file=stream)
        else:
            print(f"{label}\t{probabilities[label]:.4f}\t{text.translate(_ESCAPED)}", file=stream)
        stream.flush()


def main(argv: list[str]) -> None:
    """Texts in, one line each out."""
    with command.quiet():
        from zoo.export import lines_as_they_come, load_servable, predict
        from zoo.whole_files import replacing

    if argv[1:] and _INPUT.value:
        raise UsageError(f"give texts or --input={_INPUT.value}, not both")
    with contextlib.ExitStack() as files:
        batches: Iterable[list[str]] = [argv[1:]]
        if not argv[1:]:
            source = files.enter_context(_open(_INPUT.value, sys.stdin, "input", "rb"))
            batches = lines_as_they_come(source)
        model = load_servable(_MODEL.value)
        place = files.enter_context(replacing(expanded(_OUTPUT.value))) if _OUTPUT.value else None
        how = {"encoding": "utf-8", "newline": ""}
        target = files.enter_context(_open(place, sys.stdout, "output", "w", **how))
        found = (answer for some in batches for answer in predict(model, some, _BATCH_SIZE.value))
        write(found, model.classes, target)


if __name__ == "__main__":
    command.run(main, arguments=True)
