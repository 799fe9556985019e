"""Where flags meet exit codes: 0 done, 1 a failure to mend, 2 a bad flag, 130 and 143 stopped."""

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import fields
from typing import Any

from absl import app, flags
from quiet import SIGNALS, quiet

from zoo.errors import RunError, UsageError

_DEFINE = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}


def define(config_class: Any, skip: Collection[str] = (), to: Any = flags.FLAGS) -> None:
    """One flag for every field: its help and its group are the field's metadata."""
    for field in (field for field in fields(config_class) if field.name not in skip):
        make: Any = _DEFINE.get(field.type, flags.DEFINE_string)  # type: ignore[arg-type]
        about, group = field.metadata, f"{field.metadata['group']} flags"
        text = ": ".join(filter(None, (about["help"], ", ".join(about.get("choices", ())))))
        make(field.name, field.default, text, flag_values=to, module_name=group)


def read(config_class: Any, given: Any = flags.FLAGS) -> Any:
    """The configuration that the flags describe; a flag given takes its alternative's place."""
    known = [field for field in fields(config_class) if field.name in given]
    present = {field.name for field in known if given[field.name].present}
    values = {field.name: given[field.name].value for field in known}
    for field in known:
        other = field.metadata.get("instead_of")
        if other in present and values[other] and field.name not in present:
            values[field.name] = 0
    with quiet():
        return config_class(**values)


def run(main: Callable[[list[str]], Any], arguments: bool = False, others: bool = False) -> None:
    """Parses flags, `others` left over or not, calls `main(argv)`, and ends with an exit code."""
    try:
        app.run(lambda a: _guarded(main, a, arguments), flags_parser=lambda a: _parse(a, others))
    except BrokenPipeError:  # who reads our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(argv: list[str], others: bool) -> list[str]:
    if {"-h", "-help", "--help", "--helpshort"}.intersection(argv[1:]):
        groups = [name for name in flags.FLAGS.flags_by_module_dict() if name.endswith(" flags")]
        print(sys.modules["__main__"].__doc__, flags.FLAGS.main_module_help(), sep="\n")
        flagfile = "\n--flagfile=FILE reads flags from a file; --helpfull shows the libraries' too."
        print(*map(flags.FLAGS.module_help, groups), flagfile, sep="\n")
        sys.exit(0)
    # Warnings and worse, unless asked for more: app.run overrides a default, but not a value.
    flags.FLAGS.verbosity = -1  # type: ignore[assignment]
    try:
        return flags.FLAGS(argv, known_only=others)
    except (flags.Error, UnicodeDecodeError) as error:  # the latter from a --flagfile
        sys.exit(_say(error, 2))
    except SystemExit:  # absl's --helpfull would end with 1
        sys.exit(0)


def _guarded(main: Callable[[list[str]], Any], argv: list[str], arguments: bool) -> Any:
    try:
        if argv[1:] and not arguments:
            raise UsageError(f"takes flags only, not {' '.join(map(repr, argv[1:]))}")
        with SIGNALS:
            return main(argv)
    except BrokenPipeError:
        raise
    except (UsageError, RunError, OSError) as error:
        return _say(error, 2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        return 130


def _say(error: Exception, code: int) -> int:
    print(f"{os.path.basename(sys.argv[0])}: {' '.join(str(error).split())}", file=sys.stderr)
    return code
