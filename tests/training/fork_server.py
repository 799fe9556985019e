"""Runs `trainers/train.py` in processes that begin at once, each to be killed at will.

To import TensorFlow takes longer than a tiny run. This program imports it once, computes nothing,
and forks: every fork then is a process that has just begun. Standard input has one JSON an order:

    {"run": flags, "phase": name, "out": file, "err": file}     answered by the new process's id
    {"wait": process id}                                        answered by its exit code
"""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf

import zoo.training
from zoo import export, pipeline, run
from zoo.learner import Learner
from zoo.workdir import Workdir

TRAINERS = Path(__file__).parents[2] / "trainers"
WAIT_SECONDS = 120


def die(*_, **__):
    """What no handler sees, and nothing is tidied up after."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_written(path, *_):
    Path(path).write_bytes(b"half")
    die()


def in_the_second(function, die_in=die):
    """A function whose second call ends the process."""
    calls = []

    def called(*args, **kwargs):
        calls.append(args)
        return (die_in if len(calls) == 2 else function)(*args, **kwargs)

    return called


def after(function):
    """A function that does what it is for, and ends the process."""

    def called(*args, **kwargs):
        function(*args, **kwargs)
        die()

    return called


def before_the_index(rename):
    """A checkpoint's files are renamed one by one, and its index comes last."""

    def called(path, target):
        if path.name == "unfinished.index":
            die()
        return rename(path, target)

    return called


def after_a_batch(evaluate):
    """Ends the process between two batches of validation."""
    return lambda logits_of, split, name, *_: evaluate(logits_of, split, name, die)


# Where the process ends, by what it is at.
PHASES = {
    "vocabulary": (pipeline, "learn_vocabulary", lambda _: die),
    "caching": (pipeline, "save_array", lambda save: in_the_second(save, die_half_written)),
    "training": (Learner, "step", in_the_second),
    "checkpoint": (tf.train.Checkpoint, "write", lambda write: in_the_second(write, after(write))),
    "renaming": (Path, "replace", before_the_index),
    "validation": (run, "evaluate_split", after_a_batch),
    "model": (keras.Model, "save", lambda _: lambda model, path: die_half_written(path)),
    "figures": (Workdir, "finish", lambda _: die),
    "export": (tf.saved_model, "save", after),
    "card": (export, "_write_card", after),
    "publishing": (export, "_publish", lambda _: die),
}


def become(order):
    """Turns this process into one of `python trainers/train.py`."""
    for number, (name, flags) in enumerate(
        (
            (os.devnull, os.O_RDONLY),
            *((order[to], os.O_WRONLY | os.O_CREAT) for to in ("out", "err")),
        )
    ):
        os.dup2(os.open(name, flags), number)
    if order["phase"]:
        owner, name, change = PHASES[order["phase"]]
        setattr(owner, name, change(getattr(owner, name)))
    sys.path.insert(0, str(TRAINERS))
    sys.argv = [str(TRAINERS / "train.py"), *order["run"]]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        return ended.code or 0
    finally:
        sys.stdout.flush()
    return 0


def wait(process):
    """The exit code of a process; below 0, the signal that ended it."""
    for _ in range(WAIT_SECONDS * 100):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return "too late"


def serve():
    assert zoo.training
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            answer = wait(order["wait"])
        elif not (answer := os.fork()):
            code = 70
            try:
                code = become(order)
            finally:
                os._exit(code)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
