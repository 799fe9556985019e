"""datasets/packaged.py: what is said of a package that is not there, or not as it should be."""

import hashlib
import importlib.metadata

import pytest

from tests.datasets.folders import INSTALL, load

packaged = load("", "packaged")
CONTENT = b"some rows"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The file of a package that is installed."""

    class Distribution:
        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    path = tmp_path / "some" / "rows.csv"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def find():
    return packaged.packaged_file("some-rows", "some/rows.csv", SHA256)


def test_a_file_is_found(installed):
    assert find() == installed


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(FileNotFoundError, match="some-rows is not installed: " + INSTALL):
        find()


def test_a_missing_file_says_what_to_install(installed):
    installed.unlink()
    with pytest.raises(FileNotFoundError, match=f"is missing: {INSTALL} --force-reinstall"):
        find()


@pytest.mark.parametrize("content", [b"", CONTENT[:4], CONTENT + b"!"])
def test_a_damaged_file_says_what_to_install(content, installed):
    installed.write_bytes(content)
    with pytest.raises(ValueError, match=f"damaged or of another version.*{SHA256}") as caught:
        find()
    assert f"{INSTALL} --force-reinstall" in str(caught.value)
