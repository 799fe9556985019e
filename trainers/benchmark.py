"""Time our layers against Keras's, and PyTorch's where it is installed.

    python trainers/benchmark.py --cases=lstm --out=benchmark

Each case runs in a fresh process for each thread setting; a ratio is the peer's best time over
ours. Prints a table; `--out` writes it as text and JSON, and as a picture.
"""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# PyTorch gives memory back to the system after each step, and is unfairly slow, unless told so.
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**30))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1))

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("cases", "", "Run the cases whose name holds this; all of them if empty.")
flags.DEFINE_integer("rounds", 7, "How many times each is timed.", lower_bound=1)
flags.DEFINE_list("threads", ["1x2", "2x2"], "Settings to try, each within an op x across ops.")
flags.DEFINE_string("out", "", "Write OUT.txt, OUT.json and OUT.png.")
flags.DEFINE_string("child", "", "Used by the program itself: a setting to measure one case with.")


def measure(case: str, threads: str) -> dict[str, float]:
    """Seconds by name, in this process."""
    within, across = map(int, threads.split("x"))
    if os.environ.get("KERAS_BACKEND") == "torch":
        import torch

        torch.set_num_threads(max(within, across))
        torch.set_flush_denormal(True)
    else:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(within)
        tf.config.threading.set_inter_op_parallelism_threads(across)
    from zoo.benchmark import seconds

    return seconds(case, FLAGS.rounds)


def main(argv: list[str]) -> None:
    """Measures one case as a child, all of them as the parent."""
    del argv
    if FLAGS.child:
        print(json.dumps(measure(FLAGS.cases, FLAGS.child)))
        return
    from zoo.benchmark import CASES, machine, save, table

    if not any(FLAGS.cases in name for name in CASES):
        print(f"no case's name holds --cases={FLAGS.cases}: {', '.join(CASES)}", file=sys.stderr)
        sys.exit(2)
    results: dict[str, dict[str, dict[str, float]]] = {}
    for case in (name for name in CASES if FLAGS.cases in name):
        environment = {**os.environ, "KERAS_BACKEND": "torch" if "torch" in case else "tensorflow"}
        results[case] = {}
        for threads in FLAGS.threads:
            flag = [f"--cases={case}", f"--child={threads}", f"--rounds={FLAGS.rounds}"]
            child = [sys.executable, __file__, *flag]
            done = subprocess.run(child, env=environment, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"{case} failed with {threads} threads: {done.stderr.strip()[-500:]}")
            results[case][threads] = json.loads(done.stdout.splitlines()[-1])
        print(table({case: results[case]}), flush=True)
    title = f"{machine()}, {date.today()}"
    if FLAGS.out:
        save(Path(FLAGS.out), results, title)


if __name__ == "__main__":
    app.run(main)
