"""Writes text with a causal model that trainers/pretrain.py has made, word by word.

    python trainers/generate.py --workdir=runs/words --prompt="the film is"
    python trainers/generate.py --workdir=runs/words --prompt="i" --temperature=0.7 --top_p=0.9 --num_samples=3

One text a line, each with the prompt in front. A word of the prompt that the vocabulary lacks is
read as the unknown word, which is said on standard error; it is never written.
"""  # noqa: E501

import os
import sys

import command
from absl import flags

from zoo.errors import RunError
from zoo.generation_config import GenerationConfig

command.define(GenerationConfig)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the finished run of trainers/pretrain.py", required=True
)
_PROMPT = flags.DEFINE_string("prompt", "", "where the text begins; left out: anywhere")


def main(argv: list[str]) -> None:
    """Flags in, text out."""
    del argv
    config = command.read(GenerationConfig)
    if sys.stdout is None:
        raise RunError("standard output is closed: there is nowhere to write to")
    with command.quiet():
        from zoo.generation import load_generator

        generator, _ = load_generator(_WORKDIR.value)
    prompt = os.fsencode(_PROMPT.value)  # any bytes, as they were given
    if unknown := generator.unknown(prompt):
        print(f"read as the unknown word: {' '.join(unknown)}", file=sys.stderr)
    with open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False) as stream:
        for sample in range(config.num_samples):
            for piece in generator.stream(prompt, config, sample):
                stream.write(piece)
                stream.flush()
            print(file=stream, flush=True)


if __name__ == "__main__":
    command.run(main)
