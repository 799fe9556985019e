"""Serves SavedModels over TensorFlow Serving's REST and gRPC protocols.

    zoo-serve saved_models/imdb-bilstm
    zoo-serve --model_config_file=models.config

Each folder holds versions: saved_models/NAME/1, saved_models/NAME/2 and so on. New ones are served
as they appear. SIGTERM and Ctrl-C end the server once all is answered; a second one, at once.
"""

import contextlib
import ipaddress
import math
import os
import re
import resource
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from absl import flags

from zoo.errors import RunError, UsageError, reason
from zoo.paths import expanded
from zoo.silence import silenced

_MOST_SECONDS = 86_400.0


def _flags() -> flags.FlagValues:
    # Of its own, and not absl's: importing this module must define nothing for who imports it.
    own = flags.FlagValues()
    text, number, whole = flags.DEFINE_string, flags.DEFINE_float, flags.DEFINE_integer
    text("model_config_file", "", "models in TensorFlow Serving's text format", own)
    text("host", "127.0.0.1", "address to listen on; 0.0.0.0 is every one of this machine's", own)
    whole("rest_port", 8501, "port for HTTP; 0 for any free one", 0, 65535, own)
    whole("grpc_port", 8500, "port for gRPC; 0 for any free one", 0, 65535, own)
    whole("max_body_bytes", 4 << 20, "bytes of a request", 1, 1 << 30, own)
    whole("max_batch_rows", 16, "rows that are run together", 1, 1 << 16, own)
    number("batch_wait_ms", 0.0, "milliseconds that a batch waits to be full", 0, 10_000, own)
    whole("max_queued_rows", 4096, "rows that may wait", 1, 1 << 24, own)
    threads = "tensorflow_intra_op_parallelism"
    whole(threads, 1, "threads that share one operation; 0 for one of each core", 0, 1 << 10, own)
    poll = "file_system_poll_seconds"
    number(poll, 1.0, "seconds between two looks at the folders", 0.01, _MOST_SECONDS, own)
    number("drain_seconds", 30.0, "seconds to finish in after SIGTERM", 0, _MOST_SECONDS, own)
    text("token_file", "", "file of the token that callers must show", own)
    text("tls_certificate", "", "PEM file of the certificate chain", own)
    text("tls_key", "", "PEM file of the certificate's key", own)
    flags.DEFINE_multi_string("allow_origin", [], "origin whose pages may ask; repeatable", own)
    hosts = "name that HTTP's callers may know the server by; without any, on the loopback address "
    hosts += "and without a token, its own ones, else all; repeatable"
    flags.DEFINE_multi_string("allow_host", [], hosts, own)
    return own


def main(argv: list[str] | None = None) -> int:
    """Runs the server until a signal ends it.

    Args:
        argv: the program's name and its arguments; those of the process, if left out.

    Returns:
        The exit code: 0 stopped by a signal, 1 a failure to mend, 2 a bad flag.
    """
    own, arguments = _flags(), sys.argv if argv is None else argv
    if {"-h", "-help", "--help"}.intersection(arguments[1:]):
        print(__doc__, own.get_help(), sep="\n")
        return 0
    try:
        folders = own(arguments)[1:]
        _serve(own, folders)
    except (UsageError, RunError, OSError, flags.Error) as error:
        line = reason(error) if isinstance(error, OSError) else " ".join(str(error).split())
        print(f"zoo-serve: {line}", file=sys.stderr)
        return 1 if isinstance(error, RunError | OSError) else 2
    return 0


def _serve(own: flags.FlagValues, folders: list[str]) -> None:
    if bool(folders) == bool(own.model_config_file):
        raise UsageError("give folders such as saved_models/imdb-bilstm, or --model_config_file")
    token, tls = _token(own.token_file), _tls(own.tls_certificate, own.tls_key)
    _check(own)
    ended = _signal_to_end()
    # It would say in its own words what the server says in one line.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with silenced(), _extra_needed():
        from zoo.serving.batching import BatchSettings
        from zoo.serving.limits import Limits
        from zoo.serving.model_config import of_file, of_folders
        from zoo.serving.server import Server, ServerSettings
    models = of_file(own.model_config_file) if own.model_config_file else of_folders(folders)
    settings = ServerSettings(
        host=own.host,
        rest_port=own.rest_port,
        grpc_port=own.grpc_port,
        batching=BatchSettings(
            own.max_batch_rows,
            own.batch_wait_ms,
            own.max_queued_rows,
            own.tensorflow_intra_op_parallelism,
        ),
        limits=Limits(body_bytes=own.max_body_bytes),
        poll_seconds=own.file_system_poll_seconds,
        token=token,
        tls=tls,
        origins=tuple(own.allow_origin),
        hosts=_hosts(own),
    )
    _allow_many_connections()
    server = Server(models, settings, _say)
    if warning := _warning(own.host, bool(token), bool(tls)):
        _say(warning)
    server.start()
    scheme = "https" if tls else "http"
    print(f"REST {scheme}://{_address(own.host, server.rest_port)}", flush=True)
    print(f"gRPC {_address(own.host, server.grpc_port)}", flush=True)
    ended.wait()
    if not server.stop(own.drain_seconds):
        _say(f"gave up on what was not finished within {own.drain_seconds:g} seconds")
    sys.stdout.flush()
    # A model that is being loaded, or a call that was given up on, would keep the process.
    os._exit(0)


def _check(own: flags.FlagValues) -> None:
    for name in ("batch_wait_ms", "file_system_poll_seconds", "drain_seconds"):
        if not math.isfinite(float(own[name].value or 0)):  # a bound refuses no NaN
            raise UsageError(f"--{name}={own[name].value} is no number")
    for origin in own.allow_origin:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise UsageError(f"--allow_origin={origin} is no origin such as https://example.com")
    for name in own.allow_host:
        if name != "*" and (not name or re.search(r"[\s/\[\]*]", name) or name.count(":") == 1):
            raise UsageError(f"--allow_host={name} is no name such as example.com, without a port")


def _hosts(own: flags.FlagValues) -> tuple[str, ...]:
    """The names that are answered to, all of them if there are none."""
    if own.allow_host:
        return () if "*" in own.allow_host else tuple(name.lower() for name in own.allow_host)
    # A page of another name that leads here cannot know the token.
    if own.token_file or not _is_loopback(own.host):
        return ()
    return tuple(dict.fromkeys(("localhost", "127.0.0.1", "::1", own.host)))


@contextlib.contextmanager
def _extra_needed() -> Any:
    try:
        yield
    except ImportError as error:
        message = f"{error.name} is missing: pip install 'sequence-zoo[serve]' brings it"
        raise RunError(message) from error


def _signal_to_end() -> threading.Event:
    """What SIGTERM or Ctrl-C sets, from now on."""
    ended = threading.Event()

    def end(number: int, frame: Any) -> None:
        # Who sends another one does not want to wait.
        signal.signal(number, signal.SIG_DFL)
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ended


def _token(path: str) -> str:
    if not path:
        return ""
    try:
        token = expanded(path).read_text("ascii").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"--token_file={path} must hold ASCII") from error
    if not token or not token.isprintable() or " " in token:
        raise UsageError(f"--token_file={path} must hold one word")
    return token


def _tls(certificate: str, key: str) -> tuple[Path, Path] | None:
    if bool(certificate) != bool(key):
        raise UsageError("--tls_certificate and --tls_key go together")
    if not certificate:
        return None
    return expanded(certificate), expanded(key)


def _warning(host: str, token: bool, tls: bool) -> str:
    """What an address that others reach lacks; empty if nothing, or if none but this machine do."""
    if _is_loopback(host) or (token and tls):
        return ""
    lacking = "without TLS" if token else "without a token" if tls else "without token or TLS"
    return f"warning: anyone who reaches {host} may ask, {lacking}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _allow_many_connections() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # who read it may be gone
        print(f"zoo-serve: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
