"""Asks an exported SavedModel, with nothing but TensorFlow: python serve_example.py FOLDER."""

import sys
from pathlib import Path

if len(sys.argv) != 2:
    print("serve_example.py: give one folder, such as saved_models/NAME", file=sys.stderr)
    sys.exit(2)
folder = Path(sys.argv[1])
if not (folder / "saved_model.pb").exists():  # a name without a version: the highest one
    numbers = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    folder = folder / str(max(numbers, default=""))
if not (folder / "saved_model.pb").exists():
    sys.exit(f"serve_example.py: {sys.argv[1]} holds no SavedModel: give saved_models/NAME")

import tensorflow as tf  # noqa: E402 - it takes seconds, and has things to say

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
