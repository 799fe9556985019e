"""Arrays on disk, written part by part: the whole may be more than memory holds."""

from pathlib import Path

import numpy as np


class GrowingArray:
    """An array's file that parts are added to along the first axis; whole when it is closed.

    As np.save, whose error on a full disk counts bytes and does not say that the disk is full.

    Args:
        path: of the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.npy")
        ...     with GrowingArray(path) as file:
        ...         for part in ([1, 2], [3]):
        ...             file.append(np.array(part))
        ...     np.load(path)
        array([1, 2, 3])
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = 0

    def __enter__(self) -> "GrowingArray":
        self._file = self._path.open("wb")
        return self

    def append(self, part: np.ndarray) -> None:
        """Adds a part of the type and the shape, but for the first axis, of the ones before."""
        if not self._rows:
            self._header = np.lib.format.header_data_from_array_1_0(part)
            self._write_header(0)
        self._rows += len(part)
        self._file.write(np.ascontiguousarray(part).data)

    def _write_header(self, rows: int) -> None:
        # Its length is the same for any number of rows: NumPy leaves room for more digits.
        shape = (rows, *self._header["shape"][1:])
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, {**self._header, "shape": shape})

    def __exit__(self, *error: object) -> None:
        try:
            if self._rows:
                self._write_header(self._rows)
        finally:
            self._file.close()


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes an array as NumPy's own file.

    Raises:
        OSError: if the disk refuses, in its own words.
    """
    with GrowingArray(path) as file:
        file.append(array)
