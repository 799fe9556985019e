"""Writes a task's ids into one file, which trainers/fit.py reads without TensorFlow.

    python trainers/archive.py --task=listops/lra --max_length=4000 --out=lra.npz

The task's data must be prepared.
"""

from dataclasses import fields

import command
from absl import flags

from zoo.config import Config
from zoo.errors import UsageError
from zoo.paths import expanded
from zoo.tasks import get_task

_SETTINGS = ("unit", "vocabulary_size", "max_length")
_OTHERS = {field.name for field in fields(Config)} - {"task", *_SETTINGS}
command.define(Config, skip=_OTHERS)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "prepared data; left out: TFDS's own folder")
_OUT = flags.DEFINE_string("out", None, "file to write", required=True)


def main(argv: list[str]) -> None:
    """Flags in, a file out."""
    del argv
    config: Config = command.read(Config)
    task, path = get_task(config.task), expanded(_OUT.value)
    if path.suffix != ".npz" or not path.parent.is_dir():
        raise UsageError(f"--out={_OUT.value} cannot work: it must name a .npz file in a folder")
    settings = {name: getattr(config, name) for name in _SETTINGS}
    if task.kind != "text" or config.unit == "wordpiece":
        raise UsageError(
            f"--task={task.name} --unit={config.unit} cannot work: give a task on text"
            ", and a unit that is learnt from it"
        )
    with command.quiet():
        from zoo import archive, pipeline
        from zoo.models import TokenInputs
        from zoo.text import TextSettings
        from zoo.wordpiece import make_encoder

    words = TextSettings(**settings)
    data = pipeline.encode(task, pipeline.resolve(_DATA_DIR.value), words)
    encoder = make_encoder(data.vocabulary, words)
    inputs = TokenInputs(encoder.num_ids, encoder.unknown_id)
    about = (task.name, settings, data.vocabulary, inputs, data.fingerprint)
    archive.save(archive.Archive(*about, data.splits), path)
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    command.run(main)
