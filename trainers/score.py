"""Scores files of any size with an exported SavedModel, as an Apache Beam pipeline.

    python trainers/score.py --model=saved_models/first --input='reviews/*.csv.gz' --output=scored
    python trainers/score.py --model=saved_models/first --input=reviews.jsonl --output=scored \\
        --runner=FlinkRunner --flink_master=localhost:8081

Each input's rows go to rows.NAME.FORMAT, in order; what could not be scored to aside.NAME.jsonl,
with the reason. A file that is done is not done again. All flags that are not listed here are
Beam's; without --runner, the pipeline runs in this process. docs/scoring.md tells the rest.
"""

import time
from collections import Counter

import command
from absl import flags

from zoo.errors import UsageError

_MODEL = flags.DEFINE_string("model", None, "saved_models/NAME, or one version", required=True)
_INPUT = flags.DEFINE_string("input", None, "a file, or a pattern with * and **", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "folder of all outputs", required=True)
_FORMATS = ["text", "csv", "jsonl", "parquet"]
_FORMAT = flags.DEFINE_enum("format", None, _FORMATS, "of the inputs; left out: by their names")
_OUTPUT_FORMAT = flags.DEFINE_enum("output_format", "jsonl", _FORMATS[1:], "of the rows")
_TEXT_COLUMN = flags.DEFINE_string("text_column", "text", "column with the text")
_KEY_COLUMN = flags.DEFINE_string(
    "key_column", None, "column that names a row; left out: its place"
)
_WITH_TEXT = flags.DEFINE_boolean("with_text", False, "the text in the output too")
_SORT = flags.DEFINE_enum("sort", "position", ["position", "key"], "order of each file's rows")
_MAX_BYTES = flags.DEFINE_integer("max_bytes", 1_000_000, "most bytes of a row", 1, 1 << 30)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 256, "most rows scored together", 1, 65_536)
_COMPARE = flags.DEFINE_boolean("compare", False, "time a plain loop over the same files too")


def main(argv: list[str]) -> None:
    """Files in, files out."""
    try:
        with command.quiet():
            from zoo.scoring.files import Asked
            from zoo.scoring.pipeline import parse_options, score
            from zoo.scoring.plain_loop import time_plain_loop
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        message = f"{name} is missing: pip install 'sequence-zoo[beam]' brings it"
        raise UsageError(message) from error

    options = parse_options(argv[1:], list(flags.FLAGS))
    given = flags.FLAGS.flag_values_dict()
    asked = Asked(**{name: given[name] for name in Asked.__dataclass_fields__})
    total: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    items = []
    start = time.perf_counter()
    for item, counts, known in score(asked, _MODEL.value, _OUTPUT.value, options):
        before = ", done before" if known else ""
        aside = sum(counts.aside.values())
        print(f"{item.metadata.path}: {counts.rows_out:,} scored, {aside:,} aside{before}")
        total += Counter(files=1, rows=counts.rows_in, out=counts.rows_out, aside=aside)
        items.append(item)
        total["new"] += 0 if known else counts.rows_in
        reasons += Counter(counts.aside)
    seconds = time.perf_counter() - start
    print(
        f"{total['files']:,} files: {total['rows']:,} rows in = {total['out']:,} rows out "
        f"+ {total['aside']:,} aside"
    )
    for reason, number in reasons.most_common():
        print(f"  aside: {number:,} {reason}")
    if total["new"]:
        print(f"pipeline: {total['new'] / seconds:,.0f} rows/s ({seconds:.1f} s, loading included)")
    if _COMPARE.value:
        rows, seconds = time_plain_loop(asked, _MODEL.value, items)
        print(f"plain loop: {rows / seconds:,.0f} rows/s ({seconds:.1f} s, loading included)")


if __name__ == "__main__":
    command.run(main, arguments=True, others=True)
