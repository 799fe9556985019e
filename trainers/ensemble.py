"""Joins finished runs of one task into one classifier, scores it, and exports it if asked to.

    python trainers/ensemble.py --members=runs/a,runs/b,runs/c --workdir=runs/together \\
        --export_dir=saved_models --export_name=together

Weights and temperature are chosen on validation; test is looked at once.
"""

import command
from absl import flags

from zoo.errors import UsageError

_MEMBERS = flags.DEFINE_list(
    "members", None, "folders of finished runs of one task, commas between them", required=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the ensemble: its weights and figures", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "folder for one SavedModel of all members; left out: none is made"
)
_EXPORT_NAME = flags.DEFINE_string(
    "export_name", None, "the SavedModel's name; left out: made of the task"
)
_SCORE_TEST = flags.DEFINE_boolean(
    "score_test", True, "look at the test split; not while members are chosen"
)


def main(argv: list[str]) -> None:
    """Flags in, files out."""
    del argv
    if _EXPORT_NAME.value is not None and _EXPORT_DIR.value is None:
        raise UsageError(f"--export_name={_EXPORT_NAME.value} needs --export_dir: where to?")
    with command.quiet():
        from zoo.ensemble import export_ensemble, join, load_members
        from zoo.export import check_target

    members = load_members(_MEMBERS.value)
    name = _EXPORT_NAME.value or f"{members[0].trained.task.name}-ensemble".replace("/", "-")
    if _EXPORT_DIR.value is not None:
        check_target(name, _EXPORT_DIR.value)  # now, not after all the scoring
    ensemble = join(members, _WORKDIR.value, _DATA_DIR.value, score_test=_SCORE_TEST.value)
    if _EXPORT_DIR.value is not None:
        print(f"exported to {export_ensemble(ensemble, name, _EXPORT_DIR.value)}")


if __name__ == "__main__":
    command.run(main)
