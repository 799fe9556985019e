"""Flags and exit codes, on a program of a few lines."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = '''"""Does what --act says."""

import contextlib
import gc
import os
import signal
import sys
import time
from dataclasses import dataclass, field

import command

from zoo.errors import RunError, UsageError


@dataclass(frozen=True)
class Settings:
    act: str = field(
        default="print",
        metadata={"help": "what to do", "group": "deeds", "choices": ("print", "raise")},
    )
    size: int = field(default=3, metadata={"help": "of it", "group": "shape", "instead_of": "rows"})
    rows: int = field(default=0, metadata={"help": "rows", "group": "shape", "instead_of": "size"})
    rate: float = field(default=0.5, metadata={"help": "a share", "group": "shape"})
    loud: bool = field(default=False, metadata={"help": "whether", "group": "deeds"})
    hidden: int = field(default=7, metadata={"help": "no flag", "group": "deeds"})


command.define(Settings, skip=["hidden"])


def drop(number, where):
    """Is sent a signal while Python drops all exceptions."""
    def callback(phase, info):
        gc.callbacks.clear()
        os.kill(os.getpid(), number)

    class Finalised:
        def __del__(self):
            os.kill(os.getpid(), number)

    if where == "collect":
        gc.callbacks.append(callback)
        gc.collect()
    else:
        Finalised()


def main(argv):
    settings = command.read(Settings)
    match settings.act:
        case "print":
            print(settings, argv[1:])
        case "usage":
            raise UsageError("--size=3 cannot work:\\n  two lines")
        case "run":
            raise RunError("no data")
        case "missing":
            open("/no/such/file")
        case "bug":
            {}["key"]
        case "remark":
            from absl import logging

            logging.info("a remark")
            logging.warning("a warning")
        case "interrupt":
            raise KeyboardInterrupt
        case "wait":
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("tidied up", flush=True)
        case "collect" | "finalise":
            number = signal.SIGINT if settings.act == "collect" else signal.SIGTERM
            try:
                drop(number, settings.act)
                time.sleep(60)
            finally:
                print("tidied up", flush=True)
        case "pour":
            while True:
                print("line")
        case "swallow":
            with command.quiet(), contextlib.suppress(SystemExit):
                os.kill(os.getpid(), signal.SIGTERM)
            print("went on")
        case "noise":
            with command.quiet():
                os.write(2, b"noise")
                settings.no_such_field


if __name__ == "__main__":
    command.run(main, arguments="ARGUMENTS" in os.environ)
'''


@pytest.fixture
def start(tmp_path):
    """Starts the program with some flags."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)

    def start(*flags, **environment):
        inherited = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
        paths = f"{ROOT}{os.pathsep}{ROOT / 'trainers'}"
        return subprocess.Popen(
            [sys.executable, str(path), *flags],
            env={**inherited, "PYTHONPATH": paths, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # What a script starts in the background, this suite maybe, would ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


@pytest.fixture
def end(start):
    """Runs the program to its end: exit code, output, errors."""

    def end(*flags, **environment):
        process = start(*flags, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return end


def test_flags_become_fields(end):
    code, out, err = end("--size=5", "--rate=0.25", "--loud")
    expected = "Settings(act='print', size=5, rows=0, rate=0.25, loud=True, hidden=7) []\n"
    assert (code, out, err) == (0, expected, "")


def test_a_flag_takes_its_alternatives_place(end):
    assert "size=0, rows=4" in end("--rows=4")[1]
    assert "size=2, rows=4" in end("--rows=4", "--size=2")[1]
    assert "size=3, rows=0" in end("--rows=0")[1]


def test_flags_come_from_a_file_too(end, tmp_path):
    (tmp_path / "flags").write_text("--size=11\n# a remark\n--noloud\n")
    assert "size=11" in end(f"--flagfile={tmp_path / 'flags'}")[1]
    (tmp_path / "binary").write_bytes(bytes(range(128, 256)))
    for file in ("/no/such/file", tmp_path / "binary"):
        code, _, err = end(f"--flagfile={file}")
        assert code == 2
        assert len(err.splitlines()) == 1


def test_a_backend_that_is_none_is_one_line(end):
    code, out, err = end(KERAS_BACKEND="tensorfow")
    hint = "did you mean 'tensorflow'? Known: jax, tensorflow, torch"
    assert (code, out, err) == (2, "", f"program.py: unknown KERAS_BACKEND 'tensorfow': {hint}\n")


def test_a_backend_that_is_not_installed_is_one_line(end, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    path = os.pathsep.join(map(str, (tmp_path, ROOT, ROOT / "trainers")))
    code, out, err = end(KERAS_BACKEND="torch", PYTHONPATH=path)
    message = "program.py: KERAS_BACKEND=torch cannot work: torch is not installed here\n"
    assert (code, out, err) == (2, "", message)


def test_a_signal_that_an_import_swallows_is_heeded(end):
    code, out, err = end("--act=swallow")
    assert (code, out, err) == (143, "", "")


@pytest.mark.parametrize(("act", "code"), [("collect", 130), ("finalise", 143)])
def test_a_signal_that_python_drops_comes_again(end, act, code):
    """A collector's callback, of which JAX has one, and a finaliser may raise nothing."""
    assert end(f"--act={act}") == (code, "tidied up\n", "")


@pytest.mark.parametrize("flag", ["--help", "-h", "-help", "--helpshort"])
def test_help_shows_the_program_and_its_flags_in_groups(end, flag):
    code, out, err = end(flag)
    assert (code, err) == (0, "")
    assert out.startswith("Does what --act says.\n")
    assert out.index("deeds flags:") < out.index("--act: what to do: print, raise")
    assert out.index("shape flags:") < out.index("--rate: a share")
    assert "(default: '0.5')" in out
    assert "--flagfile=FILE" in out
    assert "--hidden" not in out
    assert "--verbosity" not in out


def test_full_help_shows_the_libraries_flags_and_is_no_failure(end):
    code, out, _ = end("--helpfull")
    assert code == 0
    assert "--verbosity" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sizes=3"], "Unknown command line flag 'sizes'. Did you mean: size ?"),
        (["--size=three"], "flag --size=three: invalid literal"),
        (["--hidden=1"], "Unknown command line flag 'hidden'"),
        (["--act=usage"], "--size=3 cannot work: two lines"),
        (["left", "over"], "takes flags only, not 'left' 'over'"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(end, flags, message):
    code, out, err = end(*flags)
    assert (code, out) == (2, "")
    assert err.startswith(f"program.py: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("act", "message"),
    [("run", "no data"), ("missing", "[Errno 2] No such file or directory: '/no/such/file'")],
)
def test_a_failure_to_mend_is_one_line_and_code_1(end, act, message):
    assert end(f"--act={act}") == (1, "", f"program.py: {message}\n")


def test_a_bug_keeps_its_stack_trace(end):
    code, _, err = end("--act=bug")
    assert code == 1
    assert "Traceback" in err
    assert "KeyError: 'key'" in err


def test_arguments_are_for_programs_that_want_them(end):
    assert end("a", "b", "--", "--c", ARGUMENTS="1")[1].endswith("['a', 'b', '--c']\n")


def test_an_interrupt_is_code_130(end):
    assert end("--act=interrupt") == (130, "", "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_program_tidy_up(start, number, code):
    process = start("--act=wait")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (code, "tidied up\n", "")


def test_a_reader_that_has_seen_enough_is_no_failure_to_report(start):
    process = start("--act=pour")
    assert process.stdout.readline() == "line\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def test_remarks_are_kept_back_unless_asked_for(end):
    err = end("--act=remark")[2]
    assert "a warning" in err
    assert "a remark" not in err
    assert "a remark" in end("--act=remark", "--verbosity=0")[2]


def test_quiet_keeps_the_noise_and_lets_errors_through(end):
    code, _, err = end("--act=noise")
    assert code == 1
    assert err.startswith("Traceback")
    assert "AttributeError" in err
    assert "noise" in end("--act=noise", TF_CPP_MIN_LOG_LEVEL="0")[2].split("Traceback")[0]
