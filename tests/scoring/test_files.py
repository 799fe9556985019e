"""Which files a pattern names, and where the outputs of each are."""

import pytest

from zoo.scoring.files import Asked, find_inputs


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder, the one that patterns start in, with some files."""
    for name in ("a1.txt", "b2.txt", "deep/c3.txt", "deep/er/d4.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("a film\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(pattern, output="out"):
    return find_inputs(Asked(pattern), str(output), "a model")


@pytest.mark.parametrize("pattern", ["*.txt", "?[0-9].txt", "[ab]*", "**", "b*", "de*/c3.txt"])
def test_a_pattern_without_a_folder_starts_here(here, pattern):
    inputs, others = found(pattern), found(f"./{pattern}")
    assert inputs
    assert [item.metadata.path for item in inputs] == [
        item.metadata.path.removeprefix("./") for item in others
    ]
    names = [item.outputs.name for item in inputs]
    assert names == [item.outputs.name for item in others]
    assert names == [item.metadata.path for item in inputs]
