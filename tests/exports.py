"""A model as a finished run leaves it, to be exported, and what is asked of an export."""

import os
import subprocess
import sys
from dataclasses import replace

import keras
import tensorflow as tf

from zoo.config import Config
from zoo.models import MODELS, TokenInputs
from zoo.tasks import get_task
from zoo.text import TextEncoder, TextSettings
from zoo.training import Trained

WORDS = (
    "the",
    "film",
    "was",
    "good",
    "bad",
    "dull",
    "fine",
    ",",
    ".",
    "!",
    "never",
    "see",
    "again",
)

TEXTS = [
    "The film was good!",
    "",
    "never again",
    "a dull , dull story . the acting was fine , but never see a film again " * 5,
    "Ünknown wörds only",
    "好 film 🙂",
]


def make_trained(family="bilstm", **changes):
    keras.utils.set_random_seed(11)
    config = replace(Config(task="movie_reviews/imdb", model=family, max_length=13), **changes)
    encoder = TextEncoder(WORDS, TextSettings(max_length=13))
    model = MODELS[family](TokenInputs(encoder.num_ids), 2, size=config.size)
    return Trained(
        config=config,
        task=get_task("movie_reviews/imdb"),
        model=model,
        encoder=encoder,
        metrics={
            "validation": {"accuracy": 0.5, "versions": {"tensorflow": "2.3.5"}},
            "test": {"accuracy": 0.5, "versions": {"tensorflow": "2.3.5"}},
        },
    )


# A process that has TensorFlow, and nothing of ours.
FRESH = """
import sys

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("zoo", "tensorflow_datasets", "absl_flags"):
            raise ImportError(name)

sys.meta_path.insert(0, Closed())
import json
import tensorflow as tf

serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answer = serve(text=tf.constant(json.loads(sys.argv[2])))
print(json.dumps(answer["probabilities"].numpy().tolist()))
"""


def run_python(arguments, cwd):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip


def assert_stock_ops_alone(loaded, signature="serving_default"):
    graph = loaded.signatures[signature].graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    own = {f.signature.name for f in graph.library.function}
    stock = set(tf.raw_ops.__dict__) | {"Placeholder", "Const", "_Arg", "_Retval"}
    assert {node.op for node in nodes} - own <= stock
    assert not [node.name for node in nodes if "xla" in node.op.lower()]
    compiled = [f for f in graph.library.function if f.attr["_XlaMustCompile"].b]
    assert not compiled
