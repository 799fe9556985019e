"""SavedModels that are small enough to be written in a moment, and tell who they are."""

import os
import shutil
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2


class Echo(tf.Module):
    """Answers each text with the version that it is of, the text and its length.

    Args:
        version: what it says.
    """

    def __init__(self, version):
        super().__init__()
        self._version = tf.Variable(version, dtype=tf.int64)
        texts = tf.TensorSpec([None], tf.string, name="text")
        self.serve = tf.function(self._serve, input_signature=[texts])
        self.scores = tf.function(self._scores, input_signature=[texts])
        self.company = tf.function(self._company, input_signature=[texts])
        self.words = tf.function(self._words, input_signature=[texts])
        self.tracks = tf.function(
            self._tracks,
            input_signature=[
                tf.TensorSpec([None, None, 2], tf.float32, name="features"),
                tf.TensorSpec([None], tf.int32, name="lengths"),
            ],
        )
        self.sums = tf.function(
            self._sums, input_signature=[tf.TensorSpec([None, None], tf.int32, name="ids")]
        )
        self.failing = tf.function(
            self._failing, input_signature=[tf.TensorSpec([None], tf.int32, name="ids")]
        )

    def _serve(self, text):
        rows = tf.fill(tf.shape(text), self._version)
        return {"version": rows, "text": text, "length": tf.strings.length(text)}

    def _scores(self, text):
        return {"score": tf.cast(tf.strings.length(text), tf.float32) / 0.0}

    def _company(self, text):
        # How many rows were run together, those of other callers included.
        return {"rows": tf.fill(tf.shape(text), tf.shape(text)[0])}

    def _words(self, text):
        # As free in their number as rows are, and none.
        return {"words": tf.strings.split(text).values}

    def _tracks(self, features, lengths):
        # Of the steps that are there alone, so that what fills a track up must not count.
        mask = tf.sequence_mask(lengths, tf.shape(features)[1], tf.float32)
        return {"sum": tf.reduce_sum(features * mask[..., tf.newaxis], axis=1)}

    def _sums(self, ids):
        return {"sum": tf.reduce_sum(ids, axis=1), "steps": tf.shape(ids)[1:2]}

    def _failing(self, ids):
        with tf.control_dependencies([tf.debugging.assert_less(ids, 10, "ids run up to 9")]):
            return {"ids": tf.identity(ids)}


def signatures_of(module):
    return {
        "serving_default": module.serve,
        "scores": module.scores,
        "company": module.company,
        "words": module.words,
        "tracks": module.tracks,
        "sums": module.sums,
        "failing": module.failing,
    }


def write_echo(base, version, only=None):
    """Writes a version whole, beside, and renames it into place; `only` names one signature."""
    beside = Path(base) / f".unfinished-{version}"
    module = Echo(version)
    signatures = signatures_of(module)
    if only is not None:
        signatures = {only: signatures[only]}
    tf.saved_model.save(module, str(beside), signatures=signatures)
    return publish(beside, Path(base) / str(version))


def write_classifier(base, version):
    """A version whose default signature is for `Classify`, and another one for `Regress`."""
    beside = Path(base) / f".unfinished-{version}"
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session(graph=graph) as session:
        records = tf.compat.v1.placeholder(tf.string, [None], name="records")
        parsed = tf.io.parse_example(records, {"text": tf.io.FixedLenFeature([], tf.string)})
        length = tf.cast(tf.strings.length(parsed["text"]), tf.float32)
        scores = tf.stack([length, -length], axis=1)
        classes = tf.tile(tf.constant([["long", "short"]]), [tf.shape(records)[0], 1])
        build = tf.compat.v1.saved_model.build_signature_def
        inputs = {"inputs": _info(records)}
        builder = tf.compat.v1.saved_model.Builder(str(beside))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": build(
                    inputs,
                    {"classes": _info(classes), "scores": _info(scores)},
                    "tensorflow/serving/classify",
                ),
                "regress": build(inputs, {"outputs": _info(length)}, "tensorflow/serving/regress"),
            },
        )
        builder.save()
    return publish(beside, Path(base) / str(version))


def _info(tensor):
    return meta_graph_pb2.TensorInfo(
        name=tensor.name,
        dtype=tensor.dtype.as_datatype_enum,
        tensor_shape=tensor.shape.as_proto(),
    )


def copy_version(source, target, replace=None):
    """Copies a version into place as a whole; `replace` maps names of its files to new bytes."""
    beside = Path(target).with_name(f".unfinished-{Path(target).name}")
    shutil.copytree(source, beside)
    for name, content in (replace or {}).items():
        (beside / name).write_bytes(content)
    return publish(beside, Path(target))


def publish(beside, target):
    os.rename(beside, target)
    return target
