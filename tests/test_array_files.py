"""Files of arrays, as NumPy writes them."""

import numpy as np

from zoo.array_files import GrowingArray, save_array


def test_arrays_are_saved_as_numpy_saves_them(tmp_path):
    for array in (np.arange(5, dtype="int32"), np.ones((4, 3), "float32"), np.zeros(0, "int64")):
        save_array(tmp_path / "ours.npy", array)
        np.save(tmp_path / "theirs.npy", array)
        assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_an_array_that_grew_is_as_if_it_had_been_saved_at_once(tmp_path):
    array = np.arange(3_303, dtype="float32").reshape(-1, 3)
    with GrowingArray(tmp_path / "ours.npy") as file:
        for part in np.split(array, [0, 1, 10, 1_000]):
            file.append(part)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
