"""A finished run as a file for another runtime: LiteRT (phones, browsers, small boards), or ONNX.

Both take ids, for neither runtime knows strings as TensorFlow does. The tokenizer's rule therefore
stands beside the file: as tables, `tokenizer.json`, and as plain Python that reads them,
`tokenizer.py`; `example.py` asks the model with that and the runtime alone.

What is written has been run: a conversion may succeed, and its result fail, or answer otherwise.
"""

import contextlib
import functools
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo import plain_tokenizer
from zoo.errors import RunError, UsageError, reason, unknown_name
from zoo.export import publish_folder, trained_card
from zoo.layers.own_gradient_fast import no_gradients, plain_loops
from zoo.servable import use_no_cudnn
from zoo.text import KINDS, PAD_ID, UNKNOWN_ID, TextEncoder, foldings
from zoo.training import Trained
from zoo.wordpiece import WordPieceEncoder

# What the runtime's probabilities may be off those of the model.
TOLERANCE = 1e-5

_EXAMPLE = '''"""Asks the model beside this file; needs {needs}: python example.py "a text" …"""

import sys
from pathlib import Path

import numpy as np
{imports}

folder = Path(__file__).parent
tokenizer = Tokenizer(folder)
labels = (folder / "labels.txt").read_text("utf-8").split("\\n")[:-1]
{load}
for text in sys.argv[1:]:
{ask}
    print(labels[probabilities.argmax()], *(f"{{p:.6f}}" for p in probabilities), sep="\\t")
'''


@dataclass(frozen=True)
class Format:
    """Another runtime's format.

    Args:
        file: the model's file name.
        extra: the extra of this package that converts and runs it.
        packages: what that extra brings, by the names that are imported.
        takes: what the model takes, `ids`.
        convert: from a model and the most tokens of a text to the file's bytes.
        runner: from the file's bytes to a function of `int32[T]`, ids without padding, that gives
            the probabilities `float32[C]`.
        example: a program that asks it.
    """

    file: str
    extra: str
    packages: tuple[str, ...]
    takes: str
    convert: Callable[[Any, int], bytes]
    runner: Callable[[bytes, int], Callable[[np.ndarray], np.ndarray]]
    example: str


def export_portable(
    trained: Trained, format: str, name: str, export_dir: str | os.PathLike[str]
) -> Path:
    """Writes a finished run in another runtime's format, when that runtime has answered alike.

    The folder holds the model, `vocabulary.txt`, `labels.txt`, `tokenizer.json`, `tokenizer.py`,
    `example.py` and `card.json`. It appears whole or not at all.

    Args:
        trained: the run, of a task on texts.
        format: `"litert"` or `"onnx"`.
        name: as `zoo.export.export`; the format is added to it, for TensorFlow Serving must not
            find these versions among its own.
        export_dir: folder of all exports; made if it is missing.

    Returns:
        `export_dir/name-format/version`, the version one above the highest there.

    Raises:
        UsageError: for another format, a run on features or on word pieces, or as
            `zoo.export.check_target`.
        RunError: if a package is missing, the model cannot be converted, the runtime answers
            otherwise than the model, or the files cannot be written.

    Example:
        >>> from zoo.training import load_trained
        >>> run = load_trained("runs/first")  # doctest: +SKIP
        >>> export_portable(run, "onnx", "first", "saved_models")  # doctest: +SKIP
        PosixPath('saved_models/first-onnx/1')
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    kind, encoder = FORMATS[format], trained.encoder
    if encoder is None:
        raise UsageError(
            f"--format={format} cannot work: {trained.task.name} is a task on features, and the "
            "file would take ids; --format=saved_model works"
        )
    if isinstance(encoder, WordPieceEncoder):
        raise UsageError(
            f"--format={format} cannot work: the run reads word pieces, for which there is no rule "
            "in plain Python; --format=saved_model works"
        )
    missing = [package for package in kind.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise RunError(
            f"--format={format} needs {', '.join(missing)}: "
            f"pip install 'sequence-zoo[{kind.extra}]' brings it"
        )

    def write(folder: Path) -> None:
        content = _convert(kind, format, trained, encoder)
        (folder / kind.file).write_bytes(content)
        _write_tokenizer(folder, encoder)
        (folder / "labels.txt").write_text(_lines(trained.task.classes), "utf-8")
        (folder / "example.py").write_text(kind.example, "utf-8")
        card = trained_card(trained, f"{name}-{format}") | {
            "format": format,
            "inputs": {"ids": kind.takes},
            "outputs": {"probabilities": "float32[B, C]"},
        }
        (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")

    return publish_folder(write, f"{name}-{format}", export_dir)


def _convert(kind: Format, format: str, trained: Trained, encoder: TextEncoder) -> bytes:
    use_no_cudnn(trained.model)
    with _only_errors_logged():
        try:
            content = kind.convert(trained.model, encoder.settings.max_length)
            run = kind.runner(content, encoder.settings.max_length)
            rows = _probes(encoder)
            found = np.array([run(row) for row in rows])
        except Exception as error:  # there is no saying what a converter or a runtime raises
            raise RunError(
                f"a model {trained.config.model} of size {trained.config.size} cannot be "
                f"converted to {format}: {reason(error)}; --format=saved_model works"
            ) from error
    ids = [{"ids": tf.constant(row[None])} for row in rows]
    expected = np.array([tf.nn.softmax(trained.model(one, training=False))[0] for one in ids])
    if not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
        raise RunError(
            f"{format} answers {np.abs(found - expected).max():.1e} off the model, more than "
            f"{TOLERANCE}: nothing was written; --format=saved_model works"
        )
    return content


def _probes(encoder: TextEncoder) -> list[np.ndarray]:
    """Texts as ids: of one token, of the usual ones, and as long as they may be."""
    longest, number = encoder.settings.max_length, encoder.num_ids
    generator = np.random.default_rng(0)
    lengths = sorted({1, min(7, longest), longest})
    return [generator.integers(UNKNOWN_ID, number, length).astype("int32") for length in lengths]


@contextlib.contextmanager
def _only_errors_logged() -> Iterator[None]:
    """Keeps back what converters say of their own ways."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl", "tf2onnx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _function(model: Any, spec: tf.TensorSpec) -> Any:
    def answer(ids: tf.Tensor) -> dict[str, tf.Tensor]:
        with plain_loops():
            return {"probabilities": tf.nn.softmax(model({"ids": ids}, training=False))}

    return tf.function(answer, input_signature=[spec])


def _to_litert(model: Any, max_length: int) -> bytes:
    # A fixed shape and lists that are lowered, or else the loop over time asks for TensorFlow's
    # own operations, which a plain runtime lacks: the conversion would pass, and no call would.
    function = _function(model, tf.TensorSpec([1, max_length], tf.int32, name="ids"))
    with no_gradients():
        concrete = function.get_concrete_function()
    owner = (
        tf.Module()
    )  # given the model itself, the converter takes values that are not its weights
    owner.variables_of_model = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter._experimental_lower_tensor_list_ops = True
    return converter.convert()


def _run_litert(content: bytes, max_length: int) -> Callable[[np.ndarray], np.ndarray]:
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content).get_signature_runner()

    def run(ids: np.ndarray) -> np.ndarray:
        padded = np.full((1, max_length), PAD_ID, "int32")
        padded[0, : len(ids)] = ids
        return runner(ids=padded)["probabilities"][0]

    return run


def _to_onnx(model: Any, max_length: int) -> bytes:
    del max_length  # any length will do
    import tf2onnx

    spec = tf.TensorSpec([None, None], tf.int32, name="ids")
    function = _function(model, spec)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=_OPSET)
    return proto.SerializeToString()


def _run_onnx(content: bytes, max_length: int) -> Callable[[np.ndarray], np.ndarray]:
    del max_length
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda ids: session.run(["probabilities"], {"ids": ids[None]})[0][0]


# The newest that tf2onnx 1.17 writes.
_OPSET = 18

FORMATS = {
    "litert": Format(
        file="model.tflite",
        extra="litert",
        packages=("ai_edge_litert",),
        takes="int32[1, T], T being tokens.max_length, 0 behind a text's end",
        convert=_to_litert,
        runner=_run_litert,
        example=_EXAMPLE.format(
            needs="ai-edge-litert and NumPy",
            imports="from ai_edge_litert.interpreter import Interpreter\n"
            "from tokenizer import Tokenizer",
            load='interpreter = Interpreter(str(folder / "model.tflite"))\n'
            "ask = interpreter.get_signature_runner()",
            ask="    found = tokenizer(text)\n"
            "    ids = np.zeros((1, tokenizer.max_length), np.int32)\n"
            "    ids[0, : len(found)] = found\n"
            '    (probabilities,) = ask(ids=ids)["probabilities"]',
        ),
    ),
    "onnx": Format(
        file="model.onnx",
        extra="onnx",
        packages=("tf2onnx", "onnxruntime"),
        takes="int32[B, T], 0 behind a text's end",
        convert=_to_onnx,
        runner=_run_onnx,
        example=_EXAMPLE.format(
            needs="onnxruntime and NumPy",
            imports="import onnxruntime\nfrom tokenizer import Tokenizer",
            load='session = onnxruntime.InferenceSession(str(folder / "model.onnx"))',
            ask="    ids = np.array([tokenizer(text)], np.int32)\n"
            '    ((probabilities,),) = session.run(["probabilities"], {"ids": ids})',
        ),
    ),
}


def _write_tokenizer(folder: Path, encoder: TextEncoder) -> None:
    settings = encoder.settings
    rule = {
        "unit": settings.unit,
        "max_length": settings.max_length,
        "padding_id": PAD_ID,
        "unknown_id": UNKNOWN_ID,
        "folding": dict(zip(*foldings(), strict=True)),
        **_ranges(),
    }
    text = json.dumps(rule, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text + "\n", "utf-8")
    (folder / "vocabulary.txt").write_text(_lines(encoder.vocabulary), "utf-8")
    shutil.copyfile(plain_tokenizer.__file__, folder / "tokenizer.py")


@functools.cache
def _ranges() -> dict[str, list[tuple[int, int]]]:
    """The ranges of code points of each kind of character, asked of TensorFlow's own RE2."""
    points = np.array([*range(0xD800), *range(0xE000, 0x110000)])
    characters = tf.strings.unicode_encode(points[:, None].astype("int32"), "UTF-8")
    found = {}
    for kind, pattern in KINDS.items():
        inside = points[tf.strings.regex_full_match(characters, pattern).numpy()]
        breaks = np.flatnonzero(np.diff(inside) > 1)
        firsts, lasts = inside[[0, *breaks + 1]], inside[[*breaks, -1]]
        found[kind] = list(zip(firsts.tolist(), lasts.tolist(), strict=True))
    return found


def _lines(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)
