"""A SavedModel like those that are exported, written in a moment, and what it answers."""

import tensorflow as tf

CLASSES = ("negative", "neutral", "positive")
REFUSED = "poison"


class Tiny(tf.Module):
    """Probabilities that tell the text's length and a hash of it; it refuses one text."""

    def __init__(self):
        super().__init__()
        texts = tf.TensorSpec([None], tf.string, name="text")
        self.serve = tf.function(self._serve, input_signature=[texts])
        self.class_names = tf.function(lambda: tf.constant(CLASSES), input_signature=[])

    def _serve(self, text):
        fine = tf.debugging.assert_none_equal(text, REFUSED, message="this text is refused")
        with tf.control_dependencies([fine]):
            length = tf.cast(tf.strings.length(text), tf.float32)
        other = tf.cast(tf.strings.to_hash_bucket_fast(text, 97), tf.float32)
        scores = tf.stack([tf.sin(length), tf.cos(length), tf.sin(other)], axis=1)
        probabilities = tf.nn.softmax(3.0 * scores)
        label = tf.gather(tf.constant(CLASSES), tf.argmax(probabilities, axis=1))
        return {"probabilities": probabilities, "label": label}


def write_tiny(folder):
    """Writes it as the first version of a model."""
    module = Tiny()
    tf.saved_model.save(module, str(folder / "1"), {"serving_default": module.serve})
    return folder


def answers(folder, texts):
    """What TensorFlow itself says: label and probabilities of each text."""
    serve = tf.saved_model.load(str(folder / "1")).signatures["serving_default"]
    found = serve(text=tf.constant(list(texts), tf.string))
    labels = [label.decode() for label in found["label"].numpy()]
    return list(zip(labels, found["probabilities"].numpy().tolist(), strict=True))
