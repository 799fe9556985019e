"""Scoring by its program: what it prints, its exit codes, and what a killed one leaves."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scoring.scored import files_of, lines_of, run
from tests.scoring.tiny import write_tiny
from zoo.scoring.files import claimed

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
    "PYTHONPATH": str(ROOT)
}
PROGRAM = str(ROOT / "trainers/score.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("score")
    write_tiny(folder / "tiny")
    (folder / "in").mkdir()
    (folder / "fine.txt").write_text("a film\nits end\n")
    for number in range(6):
        rows = [{"id": row, "text": f"film {row} of {number}"} for row in range(50)]
        lines = [json.dumps(row) for row in rows] + ["{", '{"text": "poison"}', "\xff"]
        (folder / f"in/{number}.jsonl").write_text("\n".join(lines), "latin-1")
    return folder


def score(folder, *arguments, program=(PROGRAM,), model="{folder}/tiny", **environment):
    arguments = [str(a).format(folder=folder) for a in (f"--model={model}", *arguments)]
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=300, cwd=folder,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_what_is_printed(folder):
    asked = ["--input=in/*.jsonl", "--output=out", "--direct_num_workers=1"]
    code, out, error = score(folder, *asked, "--with_text")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert lines[:6] == [f"in/{number}.jsonl: 50 scored, 3 aside" for number in range(6)]
    assert lines[6:10] == [
        "6 files: 318 rows in = 300 rows out + 18 aside",
        "  aside: 6 broken JSON",
        "  aside: 6 invalid UTF-8",
        "  aside: 6 refused by the model",
    ]
    assert re.fullmatch(r"pipeline: [\d,]+ rows/s \(.* s, loading included\)", lines[10])
    aside = lines_of(folder / "out/aside.3.jsonl.jsonl")
    assert [(row["input"], row["row"]) for row in aside] == [
        ("in/3.jsonl", "{"),
        ("in/3.jsonl", "poison"),
        ("in/3.jsonl", "\ufffd"),
    ]
    assert "this text is refused" in aside[1]["reason"]
    code, out, error = score(folder, *asked, "--with_text", "--compare")
    assert (code, out.count(", done before")) == (1, 6)
    assert error.startswith("score.py: a plain loop ends where the model refuses: ")
    assert error.count("\n") == 1


def test_a_plain_loop_is_timed_too(folder):
    code, out, error = score(folder, "--input=fine.txt", "--output=fine", "--compare")
    assert (code, error) == (0, "")
    for line, name in zip(out.splitlines()[2:], ("pipeline", "plain loop"), strict=True):
        assert re.fullmatch(rf"{name}: [\d,]+ rows/s \(.* s, loading included\)", line)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input=x"], 2, "--output"),
        (["--input={folder}/none*", "--output=out"], 1, "names no file"),
        (["--input={folder}/in/*", "--output=out", "--format=xml"], 2, "--format"),
        (["--input={folder}/in/*", "--output=out", "--sorted=key"], 2, "did you mean --sort?"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(folder, arguments, code, message):
    found, out, error = score(folder, *arguments)
    assert (found, out) == (code, ""), error
    assert message in error
    assert error.count("\n") == 1, error


def test_home_folders_are_known(folder):
    asked = ["--input=~/fine.txt", "--output=~/home/scored"]
    found = score(folder, *asked, model="~/tiny", HOME=str(folder))
    assert found[::2] == (0, ""), found
    assert len(lines_of(folder / "home/scored/rows.fine.txt.jsonl")) == 2
    assert not (folder / "~").exists()
    for flag in ("input", "output"):
        code, out, error = score(folder, *asked, f"--{flag}=~no-such-user/x")
        assert (code, out, error.count("\n")) == (2, "", 1), error
        assert error.startswith("score.py: ~no-such-user/x cannot work: there is no home folder")


def test_what_cannot_be_replaced_is_one_line(folder):
    (folder / "full/rows.0.jsonl.jsonl").mkdir(parents=True)
    (folder / "full/rows.0.jsonl.jsonl/taken").write_text("")
    code, out, error = score(folder, "--input=in/0.jsonl", "--output=full")
    assert (code, out) == (1, "")
    assert "rows.0.jsonl.jsonl" in error
    assert error.count("\n") == 1, error
    assert not (folder / "full/.unfinished").exists()


def test_without_beam_it_says_what_brings_it(folder):
    blocked = (
        "import runpy, sys; sys.modules['apache_beam'] = None;"
        f"sys.path.insert(0, {str(ROOT / 'trainers')!r}); sys.argv[0] = 'score.py';"
        f"runpy.run_path({PROGRAM!r}, run_name='__main__')"
    )
    code, out, error = score(folder, "--input=x", "--output=y", program=("-c", blocked))
    assert (code, out) == (2, "")
    assert error == (
        "score.py: apache_beam is missing: pip install 'sequence-zoo[beam]' brings it\n"
    )


# Scores with a pipeline a file, and says when each is finished.
SLOWLY = """
import sys
from zoo.scoring import pipeline
from zoo.scoring.files import Asked
pipeline._PIPELINE_BYTES = 1
for item, _, known in pipeline.score(Asked(sys.argv[1]), *sys.argv[2:], pipeline.parse_options([])):
    print(item.outputs.name, known, flush=True)
"""


def started(folder, output):
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, f"{folder}/in/*", f"{folder}/tiny", str(output)],
        env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip


def test_killed_and_started_again_it_ends_with_the_same_files(folder):
    run(folder / "tiny", folder / "in/*", folder / "whole")
    with started(folder, folder / "killed") as process:
        for number in range(3):
            assert process.stdout.readline() == f"{number}.jsonl False\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    found = run(folder / "tiny", folder / "in/*", folder / "killed")
    known = [known for _, known in found.values()]
    assert known[:3] == [True, True, True]
    assert not known[-1]
    assert files_of(folder / "killed") == files_of(folder / "whole")


def test_two_at_once_are_refused(folder):
    with claimed(str(folder / "shared")):
        code, out, error = score(folder, "--input=in/*", "--output=shared")
    assert (code, out) == (1, "")
    assert error == "score.py: another process is scoring into shared\n"
