"""Lets a model learn from text alone, for trainers/train.py --pretrained to begin with.

    python trainers/pretrain.py --tasks=movie_reviews/imdb --model=bilstm --workdir=runs/words
    python trainers/train.py --task=movie_reviews/imdb --model=bilstm --pretrained=runs/words --workdir=runs/first

Interrupted, even killed, the same command goes on where it was, to the very same result. No label
and no test split is read.
"""  # noqa: E501

import command
from absl import flags
from rejoin import rejoining

from zoo.pretraining_config import PretrainingConfig

command.define(PretrainingConfig)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run: state, figures, best model", required=True
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "folder of the prepared data; left out: TensorFlow Datasets' own"
)


def main(argv: list[str]) -> None:
    """Flags in, files out."""
    del argv
    config = command.read(PretrainingConfig)
    with command.quiet():
        from zoo.pretraining import pretrain

    with rejoining():
        pretrain(config, _WORKDIR.value, _DATA_DIR.value)


if __name__ == "__main__":
    command.run(main)
