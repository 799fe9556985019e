"""Records and their ids on disk."""

import shutil

import pytest

from tests.fixtures import write_records
from tests.pipeline.ids import SETTINGS, TASK, run
from zoo.pipeline import encode


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Records and ids of 40 rows a split, to be read only."""
    folder = tmp_path_factory.mktemp("data")
    write_records(TASK, folder)
    return folder, encode(TASK, folder, SETTINGS, progress=False)


@pytest.fixture(scope="module")
def six_rows(tmp_path_factory):
    """Records and ids of 6 rows a split, to be copied."""
    folder = tmp_path_factory.mktemp("six")
    write_records(TASK, folder, rows=6)
    run(folder)
    return folder


@pytest.fixture
def data_dir(six_rows, tmp_path):
    """Records alone."""
    shutil.copytree(six_rows, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "encoded")
    return tmp_path


@pytest.fixture
def encoded(six_rows, tmp_path):
    """The folder of the ids, beside their records."""
    shutil.copytree(six_rows, tmp_path, dirs_exist_ok=True)
    return next((tmp_path / "encoded").glob("*/*"))
