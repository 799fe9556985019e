"""Writes a finished run as a SavedModel that takes raw strings and runs wherever TensorFlow does.

    python trainers/export.py --workdir=runs/first --name=first

Each export is a new version: saved_models/NAME/1, then 2, and so on.
"""

import command
from absl import flags

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the finished run", required=True)
_NAME = flags.DEFINE_string("name", None, "the SavedModel's name", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", "saved_models", "folder of all SavedModels")
_EXPLAIN = flags.DEFINE_boolean(
    "explain", True, "a signature that explains its answers too: some seconds more to write"
)


def main(argv: list[str]) -> None:
    """Flags in, a folder out."""
    del argv
    with command.quiet():
        from zoo.export import export
        from zoo.training import load_trained

    trained = load_trained(_WORKDIR.value)
    print(export(trained, _NAME.value, _EXPORT_DIR.value, explain=_EXPLAIN.value))


if __name__ == "__main__":
    command.run(main)
