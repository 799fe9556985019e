"""Weights of PyTorch's attention in ours and back, held to the numbers that they give."""

import keras
import numpy as np
import pytest

from zoo import convert
from zoo.layers import MultiHeadAttention

# Every dimension is its own prime or a product of two, so that a swapped axis cannot pass.
B, T, S, H, K, E, KD, VD = 5, 11, 13, 2, 7, 14, 17, 19


@pytest.fixture
def torch():
    module = pytest.importorskip("torch", reason="PyTorch is an optional peer")
    module.manual_seed(3)
    return module


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def numbers(rng, *shape):
    return rng.normal(size=shape).astype("float32")


FORMS = {"packed": {}, "separate": {"kdim": KD, "vdim": VD}, "keys": {"kdim": KD}}
MASKS = ("none", "causal", "heads", "padding", "both")


def make_peer(torch, form, bias):
    peer = torch.nn.MultiheadAttention(E, H, bias=bias, batch_first=True, **FORMS[form]).eval()
    with torch.no_grad():
        for weight in peer.parameters():
            weight.uniform_(-0.5, 0.5)
    return peer


def make_inputs(rng, form):
    widths = {"packed": (E, E), "separate": (KD, VD), "keys": (KD, E)}[form]
    key, value = (numbers(rng, B, S, width) for width in widths)
    return numbers(rng, B, T, E), key, value


def make_masks(rng, kind):
    """PyTorch's masks, true where attending is not allowed, and ours."""
    theirs, ours = {}, {}
    if kind in ("causal", "both"):
        theirs["attn_mask"] = np.arange(S) > np.arange(T)[:, None] + 3
        ours["attention_mask"] = ~theirs["attn_mask"]
    if kind == "heads":
        theirs["attn_mask"] = rng.random((B * H, T, S)) < 0.5
        theirs["attn_mask"][..., 0] = False
        ours["attention_mask"] = ~theirs["attn_mask"].reshape(B, H, T, S)
    if kind in ("padding", "both"):
        theirs["key_padding_mask"] = np.arange(S) >= np.array([S, 4, 1, 7, 9])[:, None]
        ours["value_mask"] = ~theirs["key_padding_mask"]
    return theirs, ours


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
@pytest.mark.parametrize("form", FORMS)
def test_attention_and_pytorch_agree_both_ways(form, bias, mask, torch, rng):
    peer = make_peer(torch, form, bias)
    (query, key, value), (theirs, ours) = make_inputs(rng, form), make_masks(rng, mask)
    layer = MultiHeadAttention(H, K, use_bias=bias)
    layer.build(query.shape, value.shape, key.shape)

    def check():
        result = layer(query, value, key, **ours)
        tensors = [torch.tensor(a) for a in (query, key, value)]
        with torch.no_grad():
            masks = {name: torch.tensor(m) for name, m in theirs.items()}
            expected = peer(*tensors, need_weights=False, **masks)[0]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(result), expected, atol=1e-5)

    layer.set_weights(convert.attention_from_torch(peer))
    check()
    layer.set_weights([0.4 * numbers(rng, *w.shape) for w in layer.get_weights()])
    peer.load_state_dict(convert.attention_to_torch(layer.get_weights()))
    check()


@pytest.mark.parametrize("form", FORMS)
def test_a_state_dict_needs_the_heads_and_goes_round(form, torch):
    state = {"mha." + k: v for k, v in make_peer(torch, form, True).state_dict().items()}
    with pytest.raises(ValueError, match="`num_heads` must be given"):
        convert.attention_from_torch(state, prefix="mha.")
    weights = convert.attention_from_torch(state, H, prefix="mha.")
    again = convert.attention_to_torch(weights, prefix="mha.")
    assert set(again) == set(state)
    assert all(torch.equal(again[name], state[name]) for name in state)


@pytest.mark.parametrize("option", ["add_bias_kv", "add_zero_attn"])
def test_what_our_attention_lacks_is_refused_by_name(option, torch):
    peer = torch.nn.MultiheadAttention(E, H, **{option: True})
    with pytest.raises(ValueError, match=f"{option}=True"):
        convert.attention_from_torch(peer)


def _attention(**changes):
    kernels = [np.ones((E, H, K))] * 3 + [np.ones((H, K, E))]
    state = convert.attention_to_torch(kernels, tensors=False) | changes
    return {name: array for name, array in state.items() if array is not None}


@pytest.mark.parametrize(
    ("state", "heads", "message"),
    [
        (_attention(), 3, "`num_heads`=3 does not divide the 14 features"),
        (_attention(), 0, "`num_heads` must be a positive integer, not 0"),
        (_attention(other=np.ones(2)), H, "has the weight 'other'"),
        (_attention(in_proj_weight=None), H, "lacks the weight 'q_proj_weight'"),
        (_attention(in_proj_weight=np.ones((E, E))), H, r"'in_proj_weight' of shape \(14, 14\)"),
        (_attention(in_proj_bias=np.ones(3 * E)), H, "lacks the weight 'out_proj.bias'"),
    ],
)
def test_what_is_no_attention_is_refused(state, heads, message):
    with pytest.raises(ValueError, match=message):
        convert.attention_from_torch(state, heads)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"use_gate": True}, "neither a gate nor norms"),
        ({"value_dim": 5}, "nn.MultiheadAttention needs"),
        ({"output_shape": 5}, "nn.MultiheadAttention needs"),
        ({"key_dim": 5}, "nn.MultiheadAttention needs"),
    ],
)
def test_attention_that_pytorch_lacks_is_refused(arguments, message):
    layer = MultiHeadAttention(**{"num_heads": H, "key_dim": K, **arguments})
    layer.build((B, T, E), (B, S, E))
    with pytest.raises(ValueError, match=message):
        convert.attention_to_torch(layer.get_weights())
