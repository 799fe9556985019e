"""What is asked of every data set of tracks that `datasets/` reads out of the package aeon."""

import collections
import importlib.metadata
import sys

import numpy as np
import pytest

from tests.datasets.folders import DATASETS, INSTALL, is_pinned, real
from zoo import pipeline, prepared
from zoo.errors import RunError


class TrackDataSet:
    """Tests of one data set; a subclass says which, and what its card says of it.

    Attributes:
        builder: the module of its builder.
        task: its task.
        channels: D.
        counts: of the cases of each split, by class in the classes' order.
        lengths: the least and the greatest of each split.
        first: of each file's first track, the first values of some channels, copied from the file.
        cited: names in its citations.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def splits(cls):
        """The splits of the real files."""
        return cls.builder.read_splits(real(cls.builder.packaged_files))

    def test_the_real_splits(self, splits):
        assert splits.keys() == self.counts.keys()
        for name, cases in splits.items():
            found = collections.Counter(label for _, _, label in cases)
            assert [found[label] for label in self.task.classes] == self.counts[name]
            assert len(cases) == sum(self.counts[name])
            assert len({key for key, _, _ in cases}) == len(cases)
            lengths = [len(track) for _, track, _ in cases]
            assert (min(lengths), max(lengths)) == self.lengths[name]
            for _, track, _ in cases:
                assert track.dtype == np.float32
                assert track.shape[1:] == (self.channels,)
                assert np.isfinite(track).all()

    def test_validation_is_the_end_of_each_class(self, splits):
        for label, kept, held_out in zip(
            self.task.classes, self.counts["train"], self.counts["validation"], strict=True
        ):
            keys = [f"{label}_{number:02d}" for number in range(kept + held_out)]
            assert [key for key, _, mine in splits["train"] if mine == label] == keys[:kept]
            assert [key for key, _, mine in splits["validation"] if mine == label] == keys[kept:]

    def test_time_comes_first(self, splits):
        for name, channels in self.first.items():
            track = splits[name][0][1]
            for channel, values in channels.items():
                np.testing.assert_array_equal(
                    track[: len(values), channel], np.array(values, np.float32)
                )

    def test_no_real_track_stands_twice(self, splits):
        tracks = [track.tobytes() for cases in splits.values() for _, track, _ in cases]
        assert len(set(tracks)) == len(tracks)

    def test_the_card_tells_the_scale(self, splits):
        card = (DATASETS / self.task.builder / "README.md").read_text("utf-8")
        steps = np.concatenate([track for _, track, _ in splits["train"]]).astype("float64")
        for name in ("min", "mean", "max"):
            values = "|".join(f"{value:.2f}" for value in getattr(steps, name)(axis=0))
            assert f"\n|{name}|{values}|\n" in card

    def test_the_package_is_pinned(self):
        assert is_pinned("aeon==1.6.0")

    def test_the_folder_is_documented(self):
        metadata = self.builder.Builder.get_metadata()
        assert "Licence" in metadata.description
        for name in self.cited:
            assert name in metadata.citation
        assert "content.data-type.time-series" in metadata.tags

    def test_the_fixture_quotes_no_one(self, splits):
        folder = DATASETS / self.task.builder / "dummy_data"
        files = {name: next(folder.glob(f"*_{name.upper()}.ts")) for name in ("train", "test")}
        steps = {
            tuple(step) for cases in splits.values() for _, track, _ in cases for step in track
        }
        for cases in self.builder.read_splits(files).values():
            assert not any(tuple(step) in steps for _, track, _ in cases for step in track)

    def refused(self, data_dir):
        with pytest.raises(RunError) as caught:
            prepared.prepare(self.task, data_dir, DATASETS)
        assert "\n" not in str(caught.value)
        assert not data_dir.exists()
        return str(caught.value)

    def test_a_missing_package_says_what_to_install(self, tmp_path, monkeypatch):
        def missing(name):
            raise importlib.metadata.PackageNotFoundError(name)

        monkeypatch.setattr(importlib.metadata, "distribution", missing)
        said = self.refused(tmp_path / "data")
        assert "aeon is not installed" in said
        assert INSTALL in said

    @pytest.mark.parametrize("name", ["train", "test"])
    def test_a_damaged_file_says_what_to_install(self, name, tmp_path, monkeypatch, splits):
        """Of either file, where the other one is whole."""
        package = tmp_path / "package"
        for other, whole in self.builder.packaged_files().items():
            copy = package / self.builder._FILES[other][0]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(whole.read_bytes()[: -1 if other == name else None])

        class Distribution:
            def locate_file(self, path):
                return package / path

        monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
        said = self.refused(tmp_path / "data")
        assert f"{name.upper()}.ts is damaged" in said
        assert f"{INSTALL} --force-reinstall" in said

    def test_the_real_data_are_prepared_and_read_back(self, splits, tmp_path):
        assert prepared.prepare(self.task, tmp_path, DATASETS, progress=False)
        assert not prepared.prepare(self.task, tmp_path, DATASETS, progress=False)
        data = pipeline.encode(self.task, tmp_path, progress=False)
        assert data.num_features == self.channels
        for name, split in data.splits.items():
            assert split.values.dtype == np.float32
            found = sorted(
                (split.labels[row], split.row(row).tobytes()) for row in range(len(split))
            )
            assert found == sorted(
                (self.task.classes.index(label), track.tobytes())
                for _, track, label in splits[name]
            )
        assert "aeon" not in sys.modules  # the package is read, and none of its code runs
