"""What `zoo-serve` gives and takes under load, against the same SavedModel with less around it.

The callers are public load tools, wrk for REST and h2load for gRPC, on the same machine as the
server, whose cores they share. Each caller sends one text and waits for the answer before it sends
the next. Beside the server stand

    alone     the SavedModel called in this process, one text at a time
    batches   the same in batches of 64 texts: what the machine could do with no one to talk to
    plain     `zoo.benchmark_plain`, a web service of one endpoint around the SavedModel
    nothing   `zoo.benchmark_nothing`, the libraries of either protocol and no model
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from zoo.errors import RunError
from zoo.export import load_servable

BATCH = 64
# The program, and the package of Debian that has it.
_TOOLS = {"wrk": "wrk", "h2load": "nghttp2-client"}
# Until a server answers: it loads TensorFlow and a model first.
_START_SECONDS = 180
# The very version that is measured beside it.
_CONFIG = """model_config_list {{ config {{
  name: "{name}"
  base_path: "{base}"
  model_version_policy {{ specific {{ versions: {number} }} }}
}} }}
"""
_SENTENCE = "the film that never ends is dull and yet its actors are a joy to see"
_SCRIPT = """
local file = io.open(os.getenv("BODY"))
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
function done(summary, latency, requests)
  local bad = summary.errors
  io.write(string.format('\\n{"seconds": %f, "answers": %d, "failures": %d, "milliseconds": [%f, %f, %f]}\\n',
    summary.duration / 1e6, summary.requests,
    bad.connect + bad.read + bad.write + bad.status + bad.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
"""  # noqa: E501


@dataclass(frozen=True)
class Load:
    """What one kind of caller measured.

    Args:
        what: who was asked, and how.
        callers: at once.
        rows_per_second: texts answered.
        milliseconds: the 50th, 95th and 99th percentile of the time to an answer.
    """

    what: str
    callers: int
    rows_per_second: float
    milliseconds: tuple[float, float, float]


def sample_text(words: int) -> str:
    """A text of so many words, as long as they are in reviews.

    Example:
        >>> sample_text(4)
        'the film that never'
    """
    some = itertools.cycle(_SENTENCE.split())
    return " ".join(itertools.islice(some, words))


def measure(
    model: Path, callers: Sequence[int], seconds: float, words: int, wait_ms: float = 0.0
) -> list[Load]:
    """Measures all of it, one after the other.

    Args:
        model: a SavedModel's folder, `NAME/VERSION` or `NAME`.
        callers: how many ask at once.
        seconds: how long each measurement lasts.
        words: of the text that is asked.
        wait_ms: `--batch_wait_ms` of the server.

    Raises:
        RunError: if a tool is missing, a server does not start, or an answer is none.
    """
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise RunError(f"{tool} is needed: apt-get install {package} brings it")
    text = sample_text(words)
    servable = load_servable(model)
    found = [_in_process(servable.module, text, rows, seconds) for rows in (1, BATCH)]
    version = servable.path
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        body = scratch / "body.json"
        body.write_text(json.dumps({"instances": [text]}), "utf-8")
        port = _free_port()
        plain = [sys.executable, "-m", "zoo.benchmark_plain", str(version), str(port)]
        with _running(plain, f"http://127.0.0.1:{port}/predict", body):
            url = f"http://127.0.0.1:{port}/predict"
            found += [_wrk("plain", url, body, count, seconds, scratch) for count in callers]
        found += _nothing(body, callers, seconds, scratch)
        rest, grpc = _free_port(), _free_port()
        name, number = version.parent.name, int(version.name)
        config = scratch / "models.config"
        config.write_text(_CONFIG.format(name=name, base=version.parent.resolve(), number=number))
        command = [sys.executable, "-m", "zoo.serving.command", f"--model_config_file={config}"]
        command += [f"--rest_port={rest}", f"--grpc_port={grpc}", f"--batch_wait_ms={wait_ms:g}"]
        url = f"http://127.0.0.1:{rest}/v1/models/{name}:predict"
        with _running(command, url, body):
            found += [
                _wrk("zoo-serve, REST", url, body, count, seconds, scratch) for count in callers
            ]
            message = scratch / "message.bin"
            message.write_bytes(_grpc_message(name, text))
            target = f"http://127.0.0.1:{grpc}/tensorflow.serving.PredictionService/Predict"
            metrics = f"http://127.0.0.1:{rest}/monitoring/prometheus/metrics"
            for count in callers:
                found.append(_h2load("zoo-serve, gRPC", target, message, count, seconds, scratch))
            _refuse_failures(metrics)
    return found


def table(found: Sequence[Load]) -> str:
    """The figures as Markdown, each with its ratios to what it is held against.

    The last is that of the 99th percentile to what half the single calls take at most.

    Example:
        >>> print(table([Load("alone", 1, 100.0, (10.0, 11.0, 12.0))]))
        | what | callers | texts a second | p50 (ms) | p95 | p99 | of plain | batches | alone |
        |---|--:|--:|--:|--:|--:|--:|--:|--:|
        | alone | 1 | 100 | 10.0 | 11.0 | 12.0 |  |  |  |
    """
    plain = {one.callers: one.rows_per_second for one in found if one.what == "plain"}
    whole = next((one.rows_per_second for one in found if one.what == "batches"), None)
    alone = next((one.milliseconds[0] for one in found if one.what == "alone"), None)
    lines = [
        "| what | callers | texts a second | p50 (ms) | p95 | p99 | of plain | batches | alone |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        served = one.what.startswith("zoo-serve")
        against = (plain.get(one.callers), whole) if served else (None, None)
        ratios = [f"{one.rows_per_second / other:.2f}" if other else "" for other in against]
        ratios.append(f"{one.milliseconds[2] / alone:.1f}" if served and alone else "")
        times = (f"{time:.1f}" for time in one.milliseconds)
        cells = (one.what, one.callers, f"{one.rows_per_second:,.0f}", *times, *ratios)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def as_json(found: Sequence[Load]) -> str:
    """The figures as JSON."""
    return json.dumps([asdict(one) for one in found], indent=2) + "\n"


def _in_process(module: tf.Module, text: str, rows: int, seconds: float) -> Load:
    batch = tf.constant([text] * rows)
    serve = module.signatures["serving_default"]
    for _ in range(3):
        serve(text=batch)
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        serve(text=batch)["label"].numpy()
        times.append(time.perf_counter() - start)
    name = "alone" if rows == 1 else "batches"
    return Load(name, 1, rows * len(times) / sum(times), _percentiles(np.array(times) * 1e3))


def _percentiles(milliseconds: np.ndarray) -> tuple[float, float, float]:
    low, high, highest = np.percentile(milliseconds, (50, 95, 99)).tolist()
    return low, high, highest


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def _running(command: Sequence[str], url: str, body: Path) -> Iterator[None]:
    """A server in a process of its own, which answers by then, and is ended in the end."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            _until_it_answers(process, url, body)
            yield
        finally:
            process.kill()


def _until_it_answers(process: subprocess.Popen[str], url: str, body: Path) -> None:
    headers = {"Content-Type": "application/json"}
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        request = urllib.request.Request(url, body.read_bytes(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    process.kill()
    assert process.stderr is not None
    last = process.stderr.read().strip().splitlines()[-1:]
    raise RunError(f"the server at {url} did not answer: {' '.join(last)}")


def _wrk(what: str, url: str, body: Path, callers: int, seconds: float, scratch: Path) -> Load:
    script = scratch / "wrk.lua"
    script.write_text(_SCRIPT, "utf-8")
    command = ["wrk", "--threads=1", f"--connections={callers}", f"--duration={seconds:g}s"]
    command += ["--timeout=60s", f"--script={script}", url]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "BODY": str(body)}, check=False
    )
    if done.returncode:
        raise RunError(f"wrk failed: {done.stderr.strip()}")
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    if figures["failures"] or not figures["answers"]:
        raise RunError(f"{what}, {callers} callers: {figures['failures']} requests failed")
    low, high, highest = figures["milliseconds"]
    return Load(what, callers, figures["answers"] / figures["seconds"], (low, high, highest))


def _nothing(body: Path, callers: Sequence[int], seconds: float, scratch: Path) -> list[Load]:
    from zoo.benchmark_nothing import METHOD, SERVICE

    http, grpc = _free_port(), _free_port()
    command = [sys.executable, "-m", "zoo.benchmark_nothing", str(http), str(grpc)]
    url, target = f"http://127.0.0.1:{http}/predict", f"http://127.0.0.1:{grpc}/{SERVICE}/{METHOD}"
    message = scratch / "nothing.bin"
    message.write_bytes(_framed(body.read_bytes()))
    with _running(command, url, body):
        found = [_wrk("nothing, REST", url, body, count, seconds, scratch) for count in callers]
        for count in callers:
            found.append(_h2load("nothing, gRPC", target, message, count, seconds, scratch))
    return found


def ceiling(found: Sequence[Load], capacity: float) -> str:
    """What a server of these libraries could give at most, as Markdown.

    A text costs at least what it costs in the best of batches, with no one to talk to, and what
    the protocol's library takes to answer anything at all; both want the same cores.

    Args:
        found: as `measure` returns it.
        capacity: texts a second in those batches.

    Example:
        >>> loads = [
        ...     Load("plain", 64, 400.0, (1.0, 1.0, 1.0)),
        ...     Load("nothing, gRPC", 64, 6000.0, (1.0, 1.0, 1.0)),
        ...     Load("zoo-serve, gRPC", 64, 900.0, (1.0, 1.0, 1.0)),
        ... ]
        >>> print(ceiling(loads, 1500.0))
        | | callers | texts a second at most | of plain | reached |
        |---|--:|--:|--:|--:|
        | gRPC | 64 | 1,200 | 3.00 | 75 % |
    """
    rates = {(one.what, one.callers): one.rows_per_second for one in found}
    lines = ["| | callers | texts a second at most | of plain | reached |", "|---|--:|--:|--:|--:|"]
    for (what, callers), rate in rates.items():
        nothing, _, protocol = what.partition(", ")
        if nothing == "nothing":
            most = 1 / (1 / capacity + 1 / rate)
            of_plain = f"{most / rates['plain', callers]:.2f}"
            reached = f"{100 * rates[f'zoo-serve, {protocol}', callers] / most:.0f} %"
            lines.append(f"| {protocol} | {callers} | {most:,.0f} | {of_plain} | {reached} |")
    return "\n".join(lines)


def _h2load(
    what: str, target: str, message: Path, callers: int, seconds: float, scratch: Path
) -> Load:
    log = scratch / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["h2load", "--no-tls-proto=h2c", f"--clients={callers}", "--max-concurrent-streams=1"]
    command += [f"--duration={max(1, round(seconds))}", f"--log-file={log}", f"--data={message}"]
    command += ["--header=content-type: application/grpc", "--header=te: trailers", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not log.exists():
        raise RunError(f"h2load failed: {done.stderr.strip()}")
    # A line an answer: when it was asked for, its status, how long it took, in microseconds.
    rows = np.array([line.split()[:3] for line in log.read_text().splitlines()], dtype="int64")
    if not len(rows) or (rows[:, 1] != 200).any():
        raise RunError(f"gRPC, {callers} callers: requests failed: {done.stdout.strip()}")
    ended = rows[:, 0] + rows[:, 2]
    rate = len(rows) / ((ended.max() - rows[:, 0].min()) / 1e6)
    return Load(what, callers, rate, _percentiles(rows[:, 2] / 1e3))


def _grpc_message(name: str, text: str) -> bytes:
    """A request to Predict as gRPC frames it."""
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["text"].CopyFrom(tf.make_tensor_proto([text]))
    return _framed(request.SerializeToString())


def _framed(content: bytes) -> bytes:
    """No compression, its length, itself."""
    return struct.pack(">BI", 0, len(content)) + content


def _refuse_failures(metrics: str) -> None:
    """Of gRPC's failures h2load knows nothing: their status is 200 all the same."""
    with urllib.request.urlopen(metrics, timeout=30) as page:
        lines = page.read().decode().splitlines()
    counts = (line for line in lines if re.match(r"\w*requests_total\{", line))
    # While the server started, it was asked over REST until it answered.
    grpc = [line for line in counts if 'protocol="GRPC"' in line]
    # When its time is over, h2load hangs up on what it still waits for.
    fine = ('code="OK"', 'code="CANCELLED"')
    failed = [
        line for line in grpc if not any(map(line.__contains__, fine)) and not line.endswith(" 0.0")
    ]
    if failed or not grpc:
        raise RunError(f"some gRPC requests failed: {'; '.join(failed)}")
