"""Times zoo-serve under load, against the same SavedModel with less around it.

    python trainers/benchmark_serving.py --model=saved_models/imdb-bilstm --out=serving

wrk and h2load are the callers, on this very machine: apt-get install wrk nghttp2-client.
"""

from datetime import date
from pathlib import Path

import command
from absl import flags

from zoo.errors import UsageError

_MODEL = flags.DEFINE_string("model", None, "SavedModel, NAME or NAME/VERSION", required=True)
_CALLERS = flags.DEFINE_list("callers", ["1", "8", "64", "256"], "callers at once, one run each")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "seconds of each run", lower_bound=1.0)
_WORDS = flags.DEFINE_integer("words", 60, "words of the text that is asked", lower_bound=1)
_WAIT = flags.DEFINE_float("batch_wait_ms", 0.0, "as zoo-serve's", lower_bound=0.0)
_OUT = flags.DEFINE_string("out", "", "write OUT.md and OUT.json; left out: print alone")


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    if not _CALLERS.value or not all(one.isdecimal() and int(one) for one in _CALLERS.value):
        raise UsageError(f"--callers={','.join(_CALLERS.value)} cannot work: give numbers like 1,8")
    out = Path(_OUT.value).expanduser()
    if _OUT.value and (not out.name or not out.parent.is_dir()):  # now, not after all the runs
        raise UsageError(f"--out={_OUT.value} cannot work: it must name files in a folder")
    with command.quiet():
        from zoo import benchmark_serving
        from zoo.benchmark import machine

        callers = [int(one) for one in _CALLERS.value]
        found = benchmark_serving.measure(
            Path(_MODEL.value), callers, _SECONDS.value, _WORDS.value, _WAIT.value
        )
    text = f"{machine()}, {date.today()}; {_WORDS.value} words\n\n{benchmark_serving.table(found)}"
    print(text)
    if _OUT.value:
        out.with_name(f"{out.name}.md").write_text(f"{text}\n", "utf-8")
        out.with_name(f"{out.name}.json").write_text(benchmark_serving.as_json(found), "utf-8")


if __name__ == "__main__":
    command.run(main)
