"""A home folder is known wherever a path is typed, and one that there is not is one line."""

import re
from pathlib import Path

import pytest

from zoo import corpus, ensemble, export, prepared, pretrained, serving_config
from zoo.errors import UsageError
from zoo.leaderboard_table import ready
from zoo.paths import expanded, expanded_text
from zoo.workdir import Workdir

ROOT = Path(__file__).parents[1]
NO_ONE = "~no-such-user/x"
TYPED = {
    "workdir": Workdir,
    "data_dir": prepared.resolve,
    "pretrained": pretrained.folder_of,
    "export_dir": lambda path: export.check_target("a", path),
    "model": export.load_servable,
    "serving_config": lambda path: serving_config.check_serving_config("a", path),
    "ensemble": lambda path: ensemble.join([], path),
    "out": lambda path: ready(Path(path)),
    "text_files": lambda path: corpus._files([path]),
}


@pytest.mark.parametrize("typed", TYPED)
def test_a_home_folder_that_there_is_not_is_a_mistake_of_one_line(typed):
    with pytest.raises(UsageError, match=r"^~no-such-user/x cannot work: there is no home folder"):
        TYPED[typed](NO_ONE)


def test_what_begins_with_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == expanded(Path("~/a")) == tmp_path / "a"
    assert expanded_text("~/a/*/") == f"{tmp_path}/a/*/"
    assert expanded_text("~") == str(tmp_path)
    for path in ("a/~", "./~a", "gs://a/~", "/~a", ""):
        assert expanded_text(path) == path
    assert prepared.resolve("~/data") == tmp_path / "data"


def test_data_elsewhere_need_no_home_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared.tfds.core.constants, "DATA_DIR", NO_ONE)
    assert prepared.resolve(tmp_path) == tmp_path
    with pytest.raises(UsageError, match="there is no home folder"):
        prepared.resolve(None)
    task = prepared.TASKS["tweets"]
    assert f"--data_dir={tmp_path}" in prepared.prepare_command(task, tmp_path)


def test_no_other_file_looks_for_home_folders():
    for folder in ("zoo", "trainers"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != ROOT / "zoo/paths.py":
                assert not re.search("expanduser", path.read_text("utf-8")), path
