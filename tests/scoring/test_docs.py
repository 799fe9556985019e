"""The page on scoring: its flags are the program's, its reasons those that are given."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.scoring import rows, sources

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/scoring.md").read_text("utf-8")


@pytest.fixture(scope="module")
def flags():
    """The program's flags with their defaults, as its help has them."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "trainers/score.py"), "--help"],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    parts = re.split(r"^ +--(?:\[no\])?(\w+):", done.stdout, flags=re.MULTILINE)[1:]
    defaults = (re.search(r"\(default: '(.*)'\)", text) for text in parts[1::2])
    return {
        name: found[1] if found else "" for name, found in zip(parts[::2], defaults, strict=True)
    }


def test_every_flag_is_told_with_its_default(flags):
    told = dict(re.findall(r"^\| `--(\w+)` \| (\S*) ?\|", PAGE, re.MULTILINE))
    assert told == flags


def test_the_commands_use_flags_that_there_are(flags):
    commands = re.findall(r"^python (trainers/score\.py .*)$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        program, *given = shlex.split(command)
        assert (ROOT / program).is_file()
        names = {flag.removeprefix("--").partition("=")[0] for flag in given}
        assert names - set(flags) <= {"runner", "flink_master"}


def test_every_reason_is_told():
    told = set(re.findall(r"`([^`|]+)`", PAGE.split("## What is set aside")[1]))
    for module in (rows, sources):
        text = Path(module.__file__).read_text("utf-8")
        for reason in re.findall(r'aside\(\w+, f?"([^:"{]+)', text):
            reason = {
                "over --max_bytes=": "over --max_bytes=N",
                "no column ": "no column 'NAME'",
            }.get(reason, reason)
            assert reason in told
    assert "refused by the model" in told


def test_what_it_links_to_is_there():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", PAGE):
        assert (ROOT / "docs" / link).resolve().is_file(), link
