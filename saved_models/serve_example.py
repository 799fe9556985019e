"""Asks an exported SavedModel, with nothing but TensorFlow: python serve_example.py FOLDER."""

import sys
from pathlib import Path

import tensorflow as tf

folder = Path(sys.argv[1])
if not (folder / "saved_model.pb").exists():  # a name without a version: the highest one
    folder = max((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
serve = tf.saved_model.load(str(folder)).signatures["serving_default"]

sentences = [
    "I laughed, I cried, and I would see it again tomorrow.",
    "A dull and predictable film: I want my two hours back.",
    "The acting is fine, but the story falls apart halfway through.",
]
answer = serve(text=tf.constant(sentences))
for label, row, sentence in zip(
    answer["label"].numpy(), answer["probabilities"].numpy(), sentences, strict=True
):
    print(f"{label.decode():9s} {row.max():.3f}  {sentence}")
