"""Every model family on the backend at hand; what else it must do: `tests/test_models.py`."""

import keras
import numpy as np
import pytest

from zoo.models import MODELS, WITHOUT_EMBEDDING, FeatureInputs, TokenInputs

# Every dimension is its own prime, so that a swapped axis cannot pass.
ROWS, STEPS, FEATURES, CLASSES, IDS = 5, 11, 7, 3, 29
REAL = np.arange(STEPS) < np.array([STEPS, 4, 1, 7, 2])[:, None]


@pytest.mark.parametrize(
    ("family", "kind"),
    [(family, "tokens") for family in sorted(MODELS)]
    + [(family, "features") for family in sorted(MODELS.keys() - WITHOUT_EMBEDDING)],
)
def test_it_answers_trains_and_takes_no_notice_of_padding(family, kind, rng, numpy):
    features = rng.normal(size=(ROWS, STEPS, FEATURES)).astype("float32")
    if kind == "tokens":
        inputs = TokenInputs(IDS)
        batch = {"ids": np.where(REAL, rng.integers(1, IDS, REAL.shape), 0).astype("int32")}
        longer = {"ids": np.pad(batch["ids"], ((0, 0), (0, 13)))}
    else:
        inputs = FeatureInputs(FEATURES)
        batch = {"features": features, "lengths": REAL.sum(1).astype("int32")}
        padded = np.pad(features, ((0, 0), (0, 13), (0, 0)), constant_values=np.nan)
        longer = {**batch, "features": padded}
    width = "num_buckets" if family in WITHOUT_EMBEDDING else "embedding_dim"
    model = MODELS[family](inputs, CLASSES, size=f"small,{width}=20", dropout_rate=0.0)
    logits = numpy(model(batch))
    assert logits.shape == (ROWS, CLASSES)
    np.testing.assert_allclose(numpy(model(longer)), logits, atol=1e-5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.001), loss)
    losses = [model.train_on_batch(longer, np.arange(ROWS) % CLASSES) for _ in range(3)]
    assert losses[2] < losses[0]
