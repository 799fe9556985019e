"""A run's figures for TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.errors import RunError, reason

_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"),
    data_class="DATA_CLASS_SCALAR",
)


class EventLog:
    """A run's figures for TensorBoard, made anew from its history when it goes on.

    Args:
        folder: where the event files go; those that are there are removed.
        history: the epochs so far.
    """

    def __init__(self, folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
        try:
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = tf.summary.create_file_writer(str(folder))
        except (OSError, tf.errors.OpError) as error:
            raise RunError(f"cannot write to {folder}: {reason(error)}") from error
        self._folder = folder
        for row in history:
            self.write(row)

    def write(self, row: Mapping[str, Any]) -> None:
        """Adds an epoch's row."""
        try:
            with self._writer.as_default(step=row["epoch"]):
                for name, value in row.items():
                    if name != "epoch":
                        # tf.summary.scalar would need the package tensorboard to write.
                        tf.summary.write(name, float(value), metadata=_SCALAR)
            self._writer.flush()
        except tf.errors.OpError as error:
            raise RunError(f"cannot write to {self._folder}: {reason(error)}") from error

    def close(self) -> None:
        """Ends the event file."""
        self._writer.close()
