"""Shows why a finished run's model answers a text as it does: a page and a picture.

    python trainers/explain.py --workdir=runs/first "A film to fall asleep to, and I did."

Writes PREFIX.html, which needs nothing but a browser, and PREFIX.png: each token's share in the
answer, the gates of LSTM layers, and the maps of attention heads. docs/explain.md says how to read
them.
"""

import logging
import os

import command
from absl import flags

from zoo.errors import UsageError
from zoo.paths import expanded

_WORKDIR = flags.DEFINE_string("workdir", None, "folder of a finished run", required=True)
_OUT = flags.DEFINE_string(
    "out", None, "prefix of the files written; left out: WORKDIR/explanation; a folder: in there"
)
_STEPS = flags.DEFINE_integer(
    "steps", 128, "points at which the gradient is taken; more make the error smaller", 1, 4096
)


def main(argv: list[str]) -> None:
    """A text in, two files out."""
    if len(argv) != 2:
        raise UsageError(f"give one text, in quotes, not {len(argv) - 1}")
    out = expanded(_OUT.value or _WORKDIR.value)
    # It warns of each family of fonts without a weight called normal, as are many Chinese ones.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    prefix = out / "explanation" if out.is_dir() or not _OUT.value else out
    if _OUT.value and (not prefix.name or not prefix.parent.is_dir()):  # now, not after the work
        raise UsageError(f"--out={_OUT.value} cannot work: it must name files in a folder")
    with command.quiet():
        from zoo.explain import explain
        from zoo.explain_page import completeness, write_html
        from zoo.explain_picture import draw
        from zoo.training import load_trained

        trained = load_trained(_WORKDIR.value)
        # Bytes that are no text, as the model would see them.
        text = os.fsencode(argv[1]).decode("utf-8", "replace")
        found = explain(trained, text, _STEPS.value)
    print(f"{found.label}, {found.probabilities[found.label]:.1%}")
    print(completeness(found))
    page, picture = (prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("html", "png"))
    write_html(found, page)
    print(f"page     {page}", flush=True)
    if draw(found, picture):
        print(f"picture  {picture}")


if __name__ == "__main__":
    command.run(main, arguments=True)
