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
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import command
from absl import flags

_MODEL = flags.DEFINE_string(
    "model", None, "saved_models/NAME, for the highest version, or one version", required=True
)
_INPUT = flags.DEFINE_string("input", None, "file of one text a line; left out: arguments or stdin")
_OUTPUT = flags.DEFINE_string("output", None, "file to write; left out: standard output")
_FORMAT = flags.DEFINE_enum("format", "text", ["text", "jsonl", "csv"], "what is written")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "texts classified together", lower_bound=1)


def lines(stream: IO[str]) -> Iterator[str]:
    """One text a line, without its end; read as it comes."""
    yield from (line.rstrip("\r\n") for line in iter(stream.readline, ""))


def _open(place: Any, mode: str) -> IO[str]:
    # Bytes that are not UTF-8 pass through as they are: the model knows what to do with them.
    own = not isinstance(place, int)
    return open(place, mode, encoding="utf-8", errors="surrogateescape", newline="", closefd=own)


def write(predictions: Iterable[Any], classes: tuple[str, ...], stream: IO[str]) -> None:
    """Writes each prediction at once, so that a pipe's reader need not wait."""
    table = csv.writer(stream, lineterminator="\n")
    if _FORMAT.value == "csv":
        table.writerow(["text", "label", *classes])
    for found in predictions:
        probabilities = found.probabilities
        if _FORMAT.value == "csv":
            table.writerow([found.text, found.label, *probabilities.values()])
        elif _FORMAT.value == "jsonl":
            print(json.dumps(vars(found), ensure_ascii=False), file=stream)
        else:
            print(f"{found.label}\t{probabilities[found.label]:.4f}\t{found.text}", file=stream)
        stream.flush()


def main(argv: list[str]) -> None:
    """Texts in, one line each out."""
    with command.quiet():
        from zoo.checkpoint import replacing
        from zoo.errors import UsageError
        from zoo.export import load_servable, predict

    if argv[1:] and _INPUT.value:
        raise UsageError(f"give texts or --input={_INPUT.value}, not both")
    with contextlib.ExitStack() as files:
        source = files.enter_context(_open(_INPUT.value or sys.stdin.fileno(), "r"))
        model = load_servable(_MODEL.value)
        place = files.enter_context(replacing(Path(_OUTPUT.value))) if _OUTPUT.value else None
        target = files.enter_context(_open(place or sys.stdout.fileno(), "w"))
        # Who types wants an answer to each line.
        batch_size = 1 if source.isatty() else _BATCH_SIZE.value
        write(predict(model, argv[1:] or lines(source), batch_size), model.classes, target)


if __name__ == "__main__":
    command.run(main, arguments=True)
