"""What is shown is what the model computed; how it looks is for eyes."""

import dataclasses
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.exports import TEXTS, WORDS, make_trained
from zoo import explain_picture
from zoo.errors import RunError, UsageError
from zoo.explain import explain, integrated_gradients, trace_attention, trace_gates
from zoo.explain_page import page, write_html
from zoo.explain_picture import draw, fonts_for, labels_of, picture
from zoo.layers import MaskedPooling
from zoo.metrics import softmax
from zoo.models import MODELS, TokenInputs
from zoo.text import TextEncoder, TextSettings

# Of an n-gram there is no vector, and so no way from nothing to it.
FAMILIES = sorted(MODELS.keys() - {"nb_ngram"})
RECURRENT = {"lstm": 1, "bilstm": 2, "lstm_attention": 2, "min_lstm": 4}
# Padded, for nothing may come from padding.
IDS = tf.constant([[2, 3, 4, 5, 6, 7, 1], [8, 9, 10, 0, 0, 0, 0]], "int32")
REAL = IDS.numpy() != 0
# In no font but the one that has a box for everything.
NOWHERE = chr(0x10FFFD)


@pytest.fixture(scope="module")
def runs():
    return {family: make_trained(family) for family in FAMILIES}


def with_encoder(family, encoder):
    model = MODELS[family](TokenInputs(encoder.num_ids), 2)
    return dataclasses.replace(make_trained("bag"), encoder=encoder, model=model)


def inner(model, name):
    """What the layer gave when the whole model ran."""
    return keras.Model(model.input, model.get_layer(name).output)({"ids": IDS}).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_explanation_is_complete(runs, family):
    found = explain(runs[family], TEXTS[0])
    assert found.tokens == ("the", "film", "was", "good", "!")
    assert found.attributions.shape == (5,)
    ids = runs[family].encoder.encode_dense(tf.constant(TEXTS[:1]))
    logits = runs[family].model({"ids": ids}, training=False).numpy()
    assert list(found.probabilities.values()) == pytest.approx(softmax(logits)[0], abs=1e-6)
    assert found.label == max(found.probabilities, key=found.probabilities.get)
    assert found.logit == pytest.approx(logits.max(), abs=1e-5)
    due = found.logit - found.baseline_logit
    # The transformer's ReLUs and maxima switch on the way; its large shares cancel each other.
    sizes = np.abs(found.attributions).sum()
    allowed = 0.01 * sizes if family == "transformer" else 1e-3 + 0.01 * abs(due)
    assert abs(found.completeness_error) < allowed
    assert found.completeness_error == pytest.approx(found.attributions.sum() - due)
    assert len(found.gates) == RECURRENT.get(family, 0)
    for gates in found.gates.values():
        assert list(gates.means) == ["forget", "input", "output"][: 2 + (family != "min_lstm")]
        for column in (*gates.means.values(), gates.state_norm):
            assert column.shape == (5,)
    assert set(found.attention) == (
        {"attention"} if family == "lstm_attention" else
        {"block_0"} if family == "transformer" else set()
    )  # fmt: skip
    assert all(weights.shape == (4, 5, 5) for weights in found.attention.values())


def test_more_steps_miss_less(runs):
    model, ids = runs["transformer"].model, np.arange(2, 13)
    missed = []
    for steps in (1, 64):
        shares, logit, baseline = integrated_gradients(model, ids, 0, steps)
        missed.append(abs(shares.sum() - (logit - baseline)))
    assert missed[1] < missed[0] / 10


def test_parts_of_the_path_add_up_to_the_whole(runs, monkeypatch):
    ids = np.arange(2, 9)
    whole, *_ = integrated_gradients(runs["bilstm"].model, ids, 1, steps=10)
    monkeypatch.setattr("zoo.attribution._TOKENS_AT_ONCE", 21)
    parts, *_ = integrated_gradients(runs["bilstm"].model, ids, 1, steps=10)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_linear_model_has_the_exact_answer(runs):
    model = runs["bag"].model
    vectors = model.get_layer("embedding").embeddings.numpy()
    kernel, bias = model.get_layer("logits").get_weights()
    ids = np.array([2, 5, 5, 1, 7])
    for target in (0, 1):
        shares, logit, baseline = integrated_gradients(model, ids, target, steps=3)
        np.testing.assert_allclose(shares, vectors[ids] @ kernel[:, target] / 5, atol=1e-6)
        assert baseline == pytest.approx(bias[target], abs=1e-6)
        assert logit == pytest.approx(baseline + shares.sum(), abs=1e-6)


@pytest.mark.parametrize("family", ["lstm", "bilstm", "lstm_attention"])
def test_gates_and_states_give_the_outputs_of_the_lstm(runs, family):
    model = runs[family].model
    traces = trace_gates(model, {"ids": IDS})
    for trace in traces.values():
        for gate in (trace.forget, trace.input, trace.output):
            assert np.all((gate[REAL] > 0) & (gate[REAL] < 1))
            assert not gate[~REAL].any()
    again = [trace.output * np.tanh(trace.state) for trace in traces.values()]
    outputs = inner(model, "lstm_0" if family == "lstm" else "bilstm_0")
    np.testing.assert_allclose(np.concatenate(again, -1)[REAL], outputs[REAL], atol=1e-5)


def test_the_states_of_a_min_lstm_are_its_outputs(runs):
    model = runs["min_lstm"].model
    traces = trace_gates(model, {"ids": IDS})
    for layer in ("min_lstm_0", "min_lstm_1"):
        both = [traces[f"{layer} {side}"] for side in ("forward", "backward")]
        states = np.concatenate([trace.state for trace in both], -1)
        np.testing.assert_allclose(states[REAL], inner(model, layer)[REAL], atol=1e-5)
        for trace in both:
            np.testing.assert_allclose((trace.forget + trace.input)[REAL], 1, atol=1e-6)


@pytest.mark.parametrize("family", ["lstm_attention", "transformer"])
def test_rows_of_attention_sum_to_one_over_what_is_real(runs, family):
    (weights,) = trace_attention(runs[family].model, {"ids": IDS}).values()
    assert weights.shape == (2, 4, 7, 7)
    for row in range(2):
        real = REAL[row]
        np.testing.assert_allclose(weights[row][:, real].sum(-1), 1, atol=1e-6)
        assert not weights[row][:, ~real].any()
        assert not weights[row][:, :, ~real].any()


def test_attention_weights_give_the_outputs_of_the_layer(runs):
    model = runs["lstm_attention"].model
    layer = model.get_layer("attention")
    (weights,) = trace_attention(model, {"ids": IDS}).values()
    values = np.einsum("btd,dhk->bthk", inner(model, "bilstm_0"), layer._value_dense.kernel)
    values += layer._value_dense.bias.numpy()
    context = np.einsum("bhts,bshk->bthk", weights, values)
    outputs = np.einsum("bthk,hkd->btd", context, layer._output_dense.kernel)
    outputs += layer._output_dense.bias.numpy()
    np.testing.assert_allclose(outputs[REAL], inner(model, "attention")[REAL], atol=1e-5)


@pytest.mark.parametrize("saved", [False, True])
def test_a_causal_model_is_shown_to_look_at_nothing_behind_a_step(tmp_path, saved):
    model = MODELS["transformer"](TokenInputs(13), 2, size="small,attention=causal,num_layers=2")
    if saved:
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    for weights in trace_attention(model, {"ids": IDS}).values():
        assert not np.triu(weights, 1).any()
        np.testing.assert_allclose(weights.sum(-1)[0], 1, atol=1e-6)


def test_attention_pooling_is_one_row():
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = keras.layers.Embedding(13, 5, mask_zero=True, name="embedding")(ids)
    model = keras.Model({"ids": ids}, MaskedPooling("attention", name="pool")(x))
    (weights,) = trace_attention(model, {"ids": IDS}).values()
    assert weights.shape == (2, 1, 1, 7)
    assert not weights[:, 0, 0][~REAL].any()
    pooled = np.einsum("bt,btd->bd", weights[:, 0, 0], inner(model, "embedding"))
    np.testing.assert_allclose(pooled, model({"ids": IDS}), atol=1e-6)


def test_tokens_are_those_that_the_model_saw(runs):
    text = "The Ünknown film, never!\nnever again , dull was fine was good was bad see THE END"
    found = explain(runs["bag"], text, steps=1)
    assert found.tokens == (
        *("the", "unknown", "film", ",", "never", "!", "never"),
        *("good", "was", "bad", "see", "the", "end"),
    )  # fmt: skip
    assert found.tokens_left_out == 6
    unknown = [token for token, out in zip(found.tokens, found.unknown, strict=True) if out]
    assert unknown == [token for token in found.tokens if token not in WORDS]


def test_nothing_at_all_and_no_text_are_explained_too(runs):
    found = explain(runs["bilstm"], "", steps=2)
    assert (found.tokens, found.unknown) == (("[empty]",), (True,))
    assert "�" in explain(runs["bag"], "good \udcff film", steps=1).tokens


def test_bytes_that_are_no_character_are_shown_by_their_number():
    trained = with_encoder("bag", TextEncoder((), TextSettings("byte", max_length=13)))
    assert explain(trained, "aé映", steps=1).tokens == ("a", "e", r"\xe6", r"\x98", r"\xa0")


def test_what_cannot_be_explained_is_refused(runs):
    with pytest.raises(UsageError, match="only models that read texts"):
        explain(dataclasses.replace(runs["bag"], encoder=None), "a film")
    with pytest.raises(UsageError, match="steps=0 cannot work"):
        explain(runs["bag"], "a film", steps=0)
    ids = keras.Input((None,), dtype="int32", name="ids")
    counts = keras.layers.CategoryEncoding(13, "count")(ids)
    model = keras.Model({"ids": ids}, keras.layers.Dense(2)(counts), name="counts")
    with pytest.raises(UsageError, match="counts has no Embedding"):
        explain(dataclasses.replace(runs["bag"], model=model), "a film")


@pytest.fixture(scope="module")
def explained(runs):
    text = '<script>alert("1")</script> & http://film.example/?a=1 好 ' + NOWHERE
    encoder = TextEncoder((*WORDS, "<", "script", "好"), TextSettings(max_length=40))
    return explain(with_encoder("lstm_attention", encoder), text, steps=2)


def test_the_page_fetches_nothing_and_runs_nothing(explained):
    html = page(explained)
    assert not re.search(r"<(script|link|iframe|object|embed|base)\b", html)
    assert not re.search(r"\b(src|url|@import|on\w+)\s*[=(]", html)
    assert re.findall(r'href="(?!data:image/png;base64,)', html) == []
    assert not re.search(r"https?:", html)
    assert "&lt;" in html
    assert "&amp;" in html
    assert html.count("<figure>") == 4


def test_names_are_escaped_as_well_as_tokens(explained):
    odd = '<b onload="x">'
    changed = dataclasses.replace(
        explained,
        label=odd,
        probabilities={odd: 1.0},
        model=odd,
        task=odd,
        tokens=(odd, *explained.tokens[1:]),
        gates={odd: next(iter(explained.gates.values()))},
        attention={odd: next(iter(explained.attention.values()))},
    )
    assert "<b " not in page(changed)


def test_a_row_of_the_page_is_a_token(explained):
    html = page(explained)
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    rows = body.strip().split("</tr>")[:-1]
    assert len(rows) == len(explained.tokens)
    for n, (row, share) in enumerate(zip(rows, explained.attributions, strict=True), start=1):
        assert f"<td>{n}</td>" in row
        assert f"{share:+.3f}" in row
    assert "好" in rows[explained.tokens.index("好")]
    assert f"completeness error {explained.completeness_error:+.2e} at 2 steps" in html


def test_files_are_written_whole_or_not_at_all(explained, tmp_path):
    write_html(explained, tmp_path / "why.html")
    assert draw(explained, tmp_path / "why.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["why.html", "why.png"]
    assert (tmp_path / "why.html").read_text("utf-8") == page(explained)
    for write in (write_html, draw):
        with pytest.raises(RunError, match="cannot write"):
            write(explained, tmp_path / "missing" / "why")


def test_the_picture_holds_the_numbers(explained):
    upper, lower = picture(explained).subfigs
    bars = [bar.get_height() for bar in upper.axes[0].patches]
    np.testing.assert_allclose(bars, explained.attributions)
    gates = next(iter(explained.gates.values()))
    for line, means in zip(upper.axes[1].lines, gates.means.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), means)
    for axes, head in zip(lower.axes, explained.attention["attention"], strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), head)


def test_a_character_without_a_font_becomes_a_number(explained):
    assert NOWHERE in explained.tokens
    families, missing = fonts_for(f"film {NOWHERE}")
    assert (families, missing) == (["DejaVu Sans"], {NOWHERE})
    shown = picture(explained)
    labels = [label.get_text() for label in shown.subfigs[0].axes[0].get_xticklabels()]
    assert labels[1] == "2 script"
    assert labels[explained.tokens.index(NOWHERE)] == str(len(labels))
    assert "No font of this machine" in shown.get_supxlabel()


def test_a_font_of_the_machine_is_found(monkeypatch):
    every = {"DejaVu Sans": set("abc"), "STIXGeneral": set("abcde"), "cmr10": set("abcd")}
    from matplotlib import font_manager

    names = {font_manager.findfont(name): name for name in every}
    monkeypatch.setattr(
        explain_picture, "_lacking", lambda path, some: some - every.get(names.get(path), set())
    )
    assert fonts_for("abe") == (["DejaVu Sans", "STIXGeneral"], set())
    assert fonts_for("df") == (["DejaVu Sans", "STIXGeneral"], {"f"})


def test_dollars_are_no_mathematics(explained, tmp_path):
    tokens = ("$x_{$", *explained.tokens[1:-1], "fine")
    assert labels_of(tokens, set())[0] == "$x_{$"
    assert draw(dataclasses.replace(explained, tokens=tokens), tmp_path / "why.png")


def test_without_matplotlib_one_line_says_how_to_get_it(explained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not draw(explained, tmp_path / "why.png")
    assert "pip install 'sequence-zoo[plot]'" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_of_many_tokens_every_tenth_is_labelled_by_its_number(explained):
    times = 6
    changed = dataclasses.replace(
        explained,
        tokens=explained.tokens * times,
        attributions=np.tile(explained.attributions, times),
        gates={},
        attention={},
    )
    shown = picture(changed)
    labels = [label.get_text() for label in shown.subfigs[0].axes[0].get_xticklabels()]
    assert [label for label in labels if label][:3] == ["10", "20", "30"]
    assert labels[9] == "10"
    assert "on the HTML page" in shown.get_supxlabel()
