"""What `tf.saved_model.save` cannot be told, changed in the file that it wrote."""

from collections.abc import Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

# A fingerprint is written when a model is saved, and by nothing that is public.
from tensorflow.python.saved_model.fingerprinting_utils import write_fingerprint

# Of an operation whose gradient is written by hand: the name by which this process knows it.
_GRADIENT = "_gradient_op_type"


def amend(folder: Path, methods: Mapping[str, str]) -> None:
    """Gives signatures their methods, and drops what nobody but this process could look up.

    TensorFlow 2 calls the method of every signature `tensorflow/serving/predict`; TensorFlow
    Serving's Classify asks for another. A graph that holds a gradient, as one that explains does,
    names the gradient of each of its own operations besides, which are not saved with it: whoever
    loads it would be warned of each.

    Args:
        folder: of a SavedModel; its file and its fingerprint are written anew.
        methods: the method of each signature that is not to keep the one it has.

    Raises:
        KeyError: for a signature that is not there.
    """
    path = folder / tf.saved_model.SAVED_MODEL_FILENAME_PB
    saved = SavedModel.FromString(path.read_bytes())
    for meta_graph in saved.meta_graphs:
        for name, method in methods.items():
            if name not in meta_graph.signature_def:
                raise KeyError(name)
            meta_graph.signature_def[name].method_name = method
        graph = meta_graph.graph_def
        for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
            for node in nodes:
                node.attr.pop(_GRADIENT, None)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    write_fingerprint(str(folder))
