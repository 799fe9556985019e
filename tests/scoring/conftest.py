import pytest

from tests.scoring.tiny import write_tiny


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("scoring") / "tiny")
