"""Times zoo-serve under load, against the same SavedModel with less around it.

    python trainers/benchmark_serving.py --model=saved_models/imdb-bilstm --out=serving

wrk and h2load are the callers, on this very machine: apt-get install wrk nghttp2-client.
"""

from datetime import date

import command
import measuring
from absl import flags

from zoo.paths import expanded

_MODEL = flags.DEFINE_string("model", None, "SavedModel, NAME or NAME/VERSION", required=True)
flags.DEFINE_list("callers", ["1", "8", "64", "256"], "callers at once, one run each")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "seconds of each run", lower_bound=1.0)
_WORDS = flags.DEFINE_integer("words", 60, "words of the text that is asked", lower_bound=1)
_WAIT = flags.DEFINE_float("batch_wait_ms", 0.0, "as zoo-serve's", lower_bound=0.0)
flags.DEFINE_string("out", "", "write OUT.md and OUT.json; left out: print alone")


def main(argv: list[str]) -> None:
    """Flags in, a table out."""
    del argv
    callers, out = measuring.numbers("callers", "1,8"), measuring.out()
    with command.quiet():
        from zoo import benchmark_floor, benchmark_serving
        from zoo.benchmark import machine

        found = benchmark_serving.measure(
            expanded(_MODEL.value), callers, _SECONDS.value, _WORDS.value, _WAIT.value
        )
        floor = benchmark_floor.in_own_process(
            expanded(_MODEL.value), _WORDS.value, _SECONDS.value / 4
        )
    text = f"{machine()}, {date.today()}; {_WORDS.value} words\n\n{benchmark_serving.table(found)}"
    text += f"\n\nBatches with no one to talk to:\n\n{benchmark_floor.table(floor)}"
    capacity = max(one.at_once for one in floor)
    text += (
        f"\n\nWith those and nothing else to do:\n\n{benchmark_serving.ceiling(found, capacity)}"
    )
    measuring.tell(text, benchmark_serving.as_json(found), out)


if __name__ == "__main__":
    command.run(main)
