"""Writes a finished run as a SavedModel that takes raw strings and runs wherever TensorFlow does.

    python trainers/export.py --workdir=runs/first --name=first
    python trainers/export.py --workdir=runs/first --name=first --format=onnx
    python trainers/export.py --workdir=runs/first --name=first --serving_config=serving/first

Each export is a new version: saved_models/NAME/1, then 2, and so on. Other formats take ids, with
the tokenizer and an example beside them, and go to saved_models/NAME-FORMAT; docs/formats.md. A run
of trainers/pretrain.py becomes a SavedModel that writes text; docs/generate.md.
"""

import command
from absl import flags

from zoo.errors import UsageError

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the finished run", required=True)
_NAME = flags.DEFINE_string("name", None, "the SavedModel's name", required=True)
_EXPORT_DIR = flags.DEFINE_string("export_dir", "saved_models", "folder of all SavedModels")
_FORMAT = flags.DEFINE_enum(
    "format", "saved_model", ["saved_model", "litert", "onnx"], "what is written"
)
_EXPLAIN = flags.DEFINE_boolean(
    "explain", True, "a signature that explains its answers too: some seconds more to write"
)
_SERVING_CONFIG = flags.DEFINE_string(
    "serving_config",
    None,
    "folder for what TensorFlow Serving, Docker, Kubernetes and KServe are told; left out: none",
)


def main(argv: list[str]) -> None:
    """Flags in, a folder out."""
    del argv
    other, config = _FORMAT.value != "saved_model", _SERVING_CONFIG.value
    for flag in ("explain", "serving_config"):
        if other and flags.FLAGS[flag].present:
            raise UsageError(f"--{flag} is for --format=saved_model, not for {_FORMAT.value}")
    with command.quiet():
        from zoo.export import check_target, export
        from zoo.generation import load_generator
        from zoo.generation_export import export_generator
        from zoo.serving_config import check_serving_config, write_serving_config
        from zoo.training import load_trained
        from zoo.workdir import Workdir

    check_target(_NAME.value, _EXPORT_DIR.value)
    if Workdir(_WORKDIR.value).is_of_pretraining:
        for flag in ("explain", "serving_config", "format"):
            if flags.FLAGS[flag].present:
                raise UsageError(f"--{flag} is for a classifier, and {_WORKDIR.value} holds none")
        print(export_generator(*load_generator(_WORKDIR.value), _NAME.value, _EXPORT_DIR.value))
        return
    if config is not None:
        check_serving_config(_NAME.value, config)
    trained = load_trained(_WORKDIR.value)
    if other:
        with command.quiet():  # converters and runtimes say much of themselves
            from zoo.portable import export_portable

            path = export_portable(trained, _FORMAT.value, _NAME.value, _EXPORT_DIR.value)
        print(path)
        return
    print(export(trained, _NAME.value, _EXPORT_DIR.value, explain=_EXPLAIN.value))
    if config is not None:
        for path in write_serving_config(_NAME.value, config, text=trained.encoder is not None):
            print(path)


if __name__ == "__main__":
    command.run(main)
