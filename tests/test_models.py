"""What every model family must do, whatever lies inside it."""

import contextlib
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.layers import LSTM
from zoo.layers.own_gradient_fast import no_gradients
from zoo.models import MODELS, SIZES, WITHOUT_EMBEDDING, FeatureInputs, TokenInputs

# Every dimension is its own prime, so that a swapped axis cannot pass.
ROWS, STEPS, FEATURES, CLASSES, IDS = 5, 11, 7, 3, 29
KINDS = {"tokens": TokenInputs(IDS), "features": FeatureInputs(FEATURES)}
EMBEDDING = sorted(MODELS.keys() - WITHOUT_EMBEDDING)


@pytest.fixture(params=sorted(MODELS))
def family(request):
    return request.param


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    if request.param == "features" and request.node.callspec.params.get("family") in (
        WITHOUT_EMBEDDING
    ):
        pytest.skip("it counts words, and refuses features: tested below")
    return request.param


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(2)
    yield
    keras.config.set_dtype_policy("float32")


def make_batch(kind, rows=ROWS, steps=STEPS, seed=3):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, rows).astype("int32")
    lengths[0] = steps
    real = np.arange(steps) < lengths[:, None]
    if kind == "tokens":
        return {"ids": np.where(real, rng.integers(1, IDS, (rows, steps)), 0).astype("int32")}
    features = rng.normal(size=(rows, steps, FEATURES)).astype("float32")
    return {"features": features, "lengths": lengths}


def append_padding(batch, steps):
    """The same rows, longer; what is behind a track's length must not matter, so it is not zero."""
    if "ids" in batch:
        return {"ids": np.pad(batch["ids"], ((0, 0), (0, steps)))}
    extra = ((0, 0), (0, steps), (0, 0))
    return {**batch, "features": np.pad(batch["features"], extra, constant_values=9.0)}


def make_model(family, kind, **arguments):
    return MODELS[family](KINDS[kind], CLASSES, **arguments)


def predict(model, batch):
    return keras.ops.convert_to_numpy(model(batch, training=False))


@pytest.mark.parametrize("size", SIZES)
def test_both_sizes_give_float32_logits(family, kind, size):
    logits = predict(make_model(family, kind, size=size), make_batch(kind))
    assert logits.shape == (ROWS, CLASSES)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()


def test_base_is_larger_than_small(family, kind):
    small, base = (make_model(family, kind, size=size).count_params() for size in SIZES)
    assert base > small


def test_config_round_trip(family, kind):
    model = make_model(family, kind)
    copy = keras.Model.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    batch = make_batch(kind)
    np.testing.assert_allclose(predict(copy, batch), predict(model, batch), atol=1e-6)


def test_keras_file_round_trip(family, kind, tmp_path):
    model = make_model(family, kind)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    batch = make_batch(kind)
    np.testing.assert_allclose(predict(copy, batch), predict(model, batch), atol=1e-6)


def test_saved_model_round_trip(family, kind, tmp_path):
    model = make_model(family, kind)
    batch = make_batch(kind)
    signature = {
        name: tf.TensorSpec([None, None, FEATURES][: values.ndim], values.dtype)
        for name, values in batch.items()
    }
    module = tf.Module()
    module.variables_of_model = [v.value for v in model.variables]
    module.logits = tf.function(lambda inputs: model(inputs, training=False), [signature])
    # As our export does it, and as it comes out of one's own hands.
    with no_gradients() if kind == "tokens" else contextlib.nullcontext():
        module.logits.get_concrete_function()
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    tensors = {name: tf.constant(values) for name, values in batch.items()}
    np.testing.assert_allclose(loaded.logits(tensors), predict(model, batch), atol=1e-5)


def test_graph_equals_eager(family, kind):
    model = make_model(family, kind)
    batch = {name: tf.constant(values) for name, values in make_batch(kind).items()}
    graph = tf.function(lambda inputs: model(inputs, training=False))
    np.testing.assert_allclose(graph(batch), predict(model, batch), atol=1e-5)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_padding_changes_nothing(family, kind, policy):
    keras.config.set_dtype_policy(policy)
    model = make_model(family, kind)
    batch = make_batch(kind)
    expected = predict(model, batch)
    # Half precision may sum in another order when the shape changes; a lost mask costs far more.
    tolerance = 1e-5 if policy == "float32" else 2e-2
    for extra in (1, 13):
        padded = predict(model, append_padding(batch, extra))
        np.testing.assert_allclose(padded, expected, atol=tolerance)


def test_rows_do_not_see_one_another(family, kind):
    model = make_model(family, kind)
    batch = make_batch(kind)
    expected = predict(model, batch)
    order = np.random.default_rng(5).permutation(ROWS)
    shuffled = predict(model, {name: values[order] for name, values in batch.items()})
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-5)
    alone = predict(model, {name: values[1:2] for name, values in batch.items()})
    np.testing.assert_allclose(alone, expected[1:2], atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_gives_float32_logits_near_the_float32_ones(family, kind, policy):
    expected_model = make_model(family, kind)
    batch = make_batch(kind)
    keras.config.set_dtype_policy(policy)
    model = make_model(family, kind)
    model.set_weights(expected_model.get_weights())
    logits = predict(model, batch)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, predict(expected_model, batch), atol=0.05)


def test_an_odd_batch_gets_numbers(family, kind):
    """Rows of padding alone, and padding in the middle; what padding holds does not matter."""
    batch = make_batch(kind)
    if kind == "tokens":
        batch["ids"][1], batch["ids"][2, 1] = 0, 0
    else:
        batch["lengths"][1:3] = 0, STEPS + 97
        behind = np.arange(STEPS) >= batch["lengths"][:, None]
        batch["features"][behind] = np.nan
    model = make_model(family, kind)
    assert np.isfinite(predict(model, batch)).all()
    train_step(model, batch, np.arange(ROWS) % CLASSES, keras.optimizers.Adam(0.1))
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_a_clone_is_the_same_model(family, kind):
    model = make_model(family, kind)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    batch = make_batch(kind)
    np.testing.assert_allclose(predict(clone, batch), predict(model, batch), atol=1e-6)


@pytest.fixture
def chance_allowed():
    """No deterministic ops: a run asks for them, for its whole process, and Keras's XLA refuses."""
    from tensorflow.python.framework import config  # there is no public way back

    before = config.is_op_determinism_enabled()
    config.disable_op_determinism()
    yield
    if before:
        config.enable_op_determinism()


@pytest.mark.slow
@pytest.mark.usefixtures("chance_allowed")
def test_keras_own_fit_trains_it_under_xla(family):
    kind = "tokens" if family in WITHOUT_EMBEDDING else "features"
    model = make_model(family, kind, dropout_rate=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.001), loss, jit_compile=True)
    fitted = model.fit(make_batch(kind), np.arange(ROWS) % CLASSES, epochs=3, verbose=0)
    assert fitted.history["loss"][-1] < fitted.history["loss"][0]


def test_all_take_the_same_arguments():
    signatures = {str(inspect.signature(build)) for build in MODELS.values()}
    assert len(signatures) == 1


def train_step(model, batch, labels, optimizer):
    with tf.GradientTape() as tape:
        logits = model(batch, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    optimizer.apply(gradients, model.trainable_variables)
    return loss


def test_one_step_moves_every_weight(family, kind):
    model = make_model(family, kind, word_dropout_rate=0.1 if kind == "tokens" else 0.0)
    before = [np.array(v) for v in model.trainable_variables]
    labels = np.arange(ROWS) % CLASSES
    train_step(model, make_batch(kind), labels, keras.optimizers.Adam(0.1))
    still = [
        variable.path
        for variable, old in zip(model.trainable_variables, before, strict=True)
        if np.array_equal(np.array(variable), old)
    ]
    assert not still


@pytest.mark.slow
def test_overfits_32_examples(family, kind):
    model = make_model(family, kind, dropout_rate=0.0)
    batch = make_batch(kind, rows=32)
    labels = tf.constant(np.arange(32) % CLASSES)
    if kind == "features":
        # A bag sees no more than the mean of a track: seven numbers, which must tell the classes.
        batch["features"][..., :CLASSES] += 3 * np.eye(CLASSES)[labels.numpy()][:, None]
    tensors = {name: tf.constant(values) for name, values in batch.items()}
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(model.trainable_variables)
    step = tf.function(lambda: train_step(model, tensors, labels, optimizer))
    for _ in range(150):
        step()
    predicted = predict(model, batch).argmax(-1)
    assert (predicted == labels.numpy()).mean() == 1.0


def test_single_numbers_of_a_size_can_be_changed(kind):
    model = make_model("bilstm", kind, size="small,units=13")
    cells = [
        layer.forward_layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Bidirectional)
    ]
    assert [(type(cell), cell.units) for cell in cells] == [(LSTM, 13)]


@pytest.mark.parametrize(
    ("family", "size", "layer", "attributes"),
    [
        ("lstm", "layer_norm=yes,peephole=yes", "lstm_0", {"layer_norm": True, "peephole": True}),
        ("lstm", "projection_units=13", "lstm_0", {"units": 64, "projection_units": 13}),
        ("bilstm", "layer_norm=yes", "bilstm_0", {"layer_norm": True}),
        ("lstm_attention", "projection_units=14", "bilstm_0", {"projection_units": 14}),
        ("transformer", "position=rotary", "block_0", {"position": "rotary", "norm": "pre"}),
        ("transformer", "position=alibi,norm=post", "block_0", {"position": "alibi"}),
        ("transformer", "position=relative", "block_0", {"position": "relative"}),
        ("transformer", "position=learned", "positions", {"max_length": 512}),
        ("transformer", "embedding_norm=yes,norm=post", "embedding_norm", {"epsilon": 1e-6}),
        ("transformer", "epsilon=1e-12", "norm", {"epsilon": 1e-12}),
        ("transformer", "feedforward=swiglu", "block_0", {"gated": True, "position": None}),
    ],
)
def test_what_a_size_may_choose_reaches_the_layer(family, size, layer, attributes):
    model = make_model(family, "tokens", size=f"small,{size}", dropout_rate=0.0)
    found = model.get_layer(layer)
    found = getattr(found, "forward_layer", found)
    assert {name: getattr(found, name) for name in attributes} == attributes
    names = {one.name for one in model.layers}
    if family == "transformer":
        assert ("positions" in names) == ("position" not in size or "learned" in size)
        assert ("embedding_norm" in names) == ("embedding_norm" in size)
        assert ("norm" in names) == ("norm=post" not in size)
    batch = make_batch("tokens")
    expected = predict(model, batch)
    np.testing.assert_allclose(predict(model, append_padding(batch, 13)), expected, atol=1e-5)
    optimizer, labels = keras.optimizers.Adam(1e-4), np.arange(ROWS) % CLASSES
    losses = [train_step(model, batch, labels, optimizer) for _ in range(3)]
    assert losses[2] < losses[0]


def test_a_named_size_may_say_its_choices_and_a_change_still_counts():
    model = make_model("transformer", "tokens", size="minilm,num_layers=1,feedforward_dim=13")
    block = model.get_layer("block_0")
    assert (block.norm, block.epsilon, block.feedforward_dim) == ("post", 1e-12, 13)
    assert model.get_layer("positions").max_length == 512
    other = make_model("transformer", "tokens", size="minilm,num_layers=1,position=alibi,norm=pre")
    assert (other.get_layer("block_0").position, other.get_layer("block_0").norm) == (
        "alibi",
        "pre",
    )


def test_learnt_positions_are_refused_for_tracks():
    with pytest.raises(ValueError, match="position=learned cannot work: a track of features has"):
        make_model("transformer", "features", size="small,position=learned")


def test_word_dropout_puts_the_unknown_id_of_its_inputs():
    model = MODELS["bag"](TokenInputs(IDS, unknown_id=5), CLASSES, word_dropout_rate=0.5)
    assert model.get_layer("word_dropout").unknown_id == 5


@pytest.mark.parametrize("family", ["lstm", "bilstm", "lstm_attention"])
def test_recurrent_weights_are_dropped_in_training_alone(family):
    arguments = {"dropout_rate": 0.0, "size": "small,embedding_dim=20"}
    model = make_model(family, "tokens", recurrent_dropout_rate=0.5, **arguments)
    whole = make_model(family, "tokens", **arguments)
    for ours, theirs in zip(whole.trainable_variables, model.trainable_variables, strict=True):
        ours.assign(theirs)
    batch = make_batch("tokens")
    np.testing.assert_allclose(predict(model, batch), predict(whole, batch), atol=1e-6)
    dropped = keras.ops.convert_to_numpy(model(batch, training=True))
    assert abs(dropped - predict(whole, batch)).max() > 1e-4


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("bilstm", {"size": "huge"}, "size 'huge' is unknown: it is one of small, base"),
        ("bilstm", {"size": "smal"}, "size 'smal' is unknown: did you mean 'small'"),
        ("bilstm", {"size": "small,unit=3"}, "no number 'unit': did you mean 'units'"),
        ("bag", {"size": "small,num_heads=3"}, "no number 'num_heads': it has embedding_dim"),
        ("bilstm", {"size": "small,units=0"}, "units must be a whole number above 0, not '0'"),
        ("bilstm", {"size": "small,units"}, "units must be a whole number above 0, not ''"),
        ("bilstm", {"size": "small,units=8,units=9"}, "units is given twice"),
        ("bilstm", {"size": None}, "size 'None' is unknown"),
        ("transformer", {"size": "small,norm=last"}, "norm must be one of pre, post, not 'last'"),
        ("lstm", {"size": "small,peephole=yes,peephole=no"}, "peephole is given twice"),
        ("transformer", {"size": "small,num_heads=7"}, "200 cannot be shared by num_heads=7"),
        ("lstm_attention", {"size": "small,units=31,num_heads=4"}, "62 cannot be shared"),
    ],
)
def test_a_size_that_cannot_work_is_refused_by_name(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(family, "tokens", **arguments)


def test_other_bad_arguments_are_refused_by_name(family):
    for number in (1, 2.5, "3", None, True):
        with pytest.raises(ValueError, match=f"num_classes must be .* at least 2, not {number!r}"):
            MODELS[family](TokenInputs(IDS), number)
    for rate in (1.5, -0.1, "0.1", None):
        for name in ("dropout_rate", "word_dropout_rate", "recurrent_dropout_rate"):
            with pytest.raises(ValueError, match=f"`{name}` must be between 0 and 1, not {rate!r}"):
                MODELS[family](TokenInputs(IDS), CLASSES, **{name: rate})
    if family not in ("lstm", "bilstm", "lstm_attention"):
        with pytest.raises(ValueError, match="this model has no recurrent weights; use 0"):
            MODELS[family](TokenInputs(IDS), CLASSES, recurrent_dropout_rate=0.1)
    if family in EMBEDDING:
        with pytest.raises(ValueError, match="features have no words"):
            MODELS[family](FeatureInputs(FEATURES), CLASSES, word_dropout_rate=0.1)
    with pytest.raises(ValueError, match="inputs must be TokenInputs or FeatureInputs, not 29"):
        MODELS[family](29, CLASSES)
    for number in (1, 2.5, None):
        with pytest.raises(ValueError, match="num_ids must be a whole number of at least 2"):
            TokenInputs(number)
    for number in (0, True):
        with pytest.raises(ValueError, match="num_features must be a whole number of at least 1"):
            FeatureInputs(number)


@pytest.mark.parametrize("family", sorted(WITHOUT_EMBEDDING))
def test_a_family_that_counts_words_refuses_features(family):
    with pytest.raises(ValueError, match=r"inputs=FeatureInputs\(num_features=7\): .* no words"):
        MODELS[family](FeatureInputs(FEATURES), CLASSES)


def test_numpys_whole_numbers_are_whole_numbers(family):
    model = MODELS[family](TokenInputs(np.int64(IDS)), np.int64(CLASSES))
    assert keras.Model.from_config(model.get_config()).output_shape == (None, CLASSES)


@pytest.mark.parametrize("size", SIZES)
def test_places_do_not_drown_the_words(size):
    """Before anything is learnt, words differ about as much as their places do."""
    model = make_model("transformer", "tokens", size=size)
    seen = keras.Model(model.input, model.get_layer("positions").output)
    ids = np.arange(1, IDS)[:, None].repeat(STEPS, axis=1).astype("int32")
    x = np.asarray(seen({"ids": ids}))  # float32[words, places, D]
    words, places = x.var(axis=0).mean(), x.var(axis=1).mean()
    assert 0.3 < words / places < 3
