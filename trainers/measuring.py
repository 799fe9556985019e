"""What the programs that measure have in common."""

from pathlib import Path

from absl import flags

from zoo.errors import UsageError
from zoo.paths import expanded


def numbers(flag: str, example: str) -> list[int]:
    """The whole numbers above 0 that a flag lists."""
    given: list[str] = flags.FLAGS[flag].value or []
    if not given or not all(one.isdecimal() and int(one) for one in given):
        raise UsageError(f"--{flag}={','.join(given)} cannot work: give numbers like {example}")
    return [int(one) for one in given]


def out() -> Path | None:
    """The name in --out, if there is one; to be asked for before anything is measured."""
    path = expanded(flags.FLAGS.out)
    if flags.FLAGS.out and (not path.name or not path.parent.is_dir()):
        raise UsageError(f"--out={flags.FLAGS.out} cannot work: it must name files in a folder")
    return path if flags.FLAGS.out else None


def tell(text: str, as_json: str, out: Path | None) -> None:
    """Prints what was found and, where there is a name for it, writes OUT.md and OUT.json."""
    from zoo.whole_files import replacing  # late: it takes seconds

    print(text)
    if out is not None:
        for ending, content in ((".md", f"{text}\n"), (".json", as_json)):
            with replacing(out.with_name(f"{out.name}{ending}")) as beside:
                beside.write_text(content, "utf-8")
