"""Layers: the written-out attention equals the fused one, padding is never looked at, and gates start shut."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from transformers.activations import QuickGELUActivation

from semmim_mini.model.layers import Attention, GatedTextAttention, Layer, QuickGELU, TextForImage, attention_weights


def some_text(hide_from_cls: bool = False) -> TextForImage:
    """Three captions of five, three and one token, of width 16."""
    words = torch.arange(5) < torch.tensor([[5], [3], [1]])
    return TextForImage(torch.randn(3, 5, 16), words, hide_from_cls)


def test_attention_weights_by_hand():
    # One head, c = 4: scores are q·k/2, here (ln 3, 0).
    query = torch.tensor([2 * torch.log(torch.tensor(3.0)), 0, 0, 0]).reshape(1, 1, 1, 4)
    key = torch.eye(4)[:2].reshape(1, 1, 2, 4)
    torch.testing.assert_close(attention_weights(query, key).flatten(), torch.tensor([0.75, 0.25]))


def test_forbidden_keys_get_exactly_nothing():
    allowed = torch.tensor([True, False, True]).reshape(1, 1, 1, 3)
    weights = attention_weights(torch.randn(2, 2, 4, 8), torch.randn(2, 2, 3, 8), allowed)
    assert (weights[..., 1] == 0).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, 4))


@pytest.mark.parametrize("kind", ["image only", "text", "text and mask"])
def test_explicit_weights_times_values_equal_the_fused_kernel(kind):
    attention, x = Attention(16, 4), torch.randn(3, 7, 16)
    text = some_text() if kind != "image only" else None
    tokens = text.tokens if text else None
    allowed = text.allowed(7) if kind == "text and mask" else None
    _, _, value = attention.project(x, tokens)
    mixed = torch.einsum("bhqs,bhsc->bhqc", attention.weights(x, tokens, allowed), value)
    explicit = attention.out(rearrange(mixed, "b h n c -> b n (h c)"))
    torch.testing.assert_close(attention(x, tokens, allowed), explicit)


def test_attention_without_text_equals_torchs():
    attention = Attention(16, 4)
    twin = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    twin.load_state_dict(
        {
            "in_proj_weight": attention.qkv.weight,
            "in_proj_bias": attention.qkv.bias,
            "out_proj.weight": attention.out.weight,
            "out_proj.bias": attention.out.bias,
        }
    )
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(attention(x), twin(x, x, x, need_weights=False)[0])


def test_text_is_projected_like_image_tokens():
    # Text as keys and values: the same numbers as if the text stood behind the image and only image rows were read.
    attention, x, text = Attention(16, 2), torch.randn(2, 4, 16), torch.randn(2, 3, 16)
    torch.testing.assert_close(attention(x, text), attention(torch.cat([x, text], dim=1))[:, :4])


def test_nothing_attends_to_padding():
    attention, x, text = Attention(16, 4), torch.randn(3, 7, 16), some_text()
    weights = attention.weights(x, text.tokens, text.allowed(7))
    on_text = weights[..., 7:]
    assert (on_text[~text.words[:, None, None, :].expand_as(on_text)] == 0).all()
    assert (on_text[text.words[:, None, None, :].expand_as(on_text)] > 0).all()


def test_the_mask_by_hand():
    # Two image tokens, three text tokens of which the last is padding.
    text = TextForImage(torch.zeros(1, 3, 4), torch.tensor([[True, True, False]]), hide_from_cls=True)
    assert text.allowed(2)[0, 0].int().tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0]]
    text.hide_from_cls = False
    assert text.allowed(2)[0, 0].int().tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]


@pytest.mark.parametrize("gated", [False, True])
def test_what_padding_holds_has_no_influence(gated):
    layer, x, text = Layer(16, 4, gated=gated), torch.randn(3, 7, 16), some_text()
    if gated:
        layer.text_attention.gate.data.fill_(1.0)
    before = layer(x, text)
    text.tokens = torch.where(text.words[..., None], text.tokens, 1e3)
    assert torch.equal(layer(x, text), before)


def test_a_shut_gate_changes_nothing():
    layer, x, text = Layer(16, 4, gated=True), torch.randn(3, 7, 16), some_text()
    assert torch.equal(layer(x, text), layer(x))
    layer.text_attention.gate.data.fill_(0.5)
    assert (layer(x, text) - layer(x)).abs().max() > 1e-4


def test_the_gate_can_open():
    attention = GatedTextAttention(16, 4)
    text = some_text()
    attention(torch.randn(3, 7, 16), text.tokens, text.words).sum().backward()
    assert attention.gate.grad.abs() > 0


@pytest.mark.parametrize("gated", [False, True])
def test_text_hidden_from_cls_reaches_patches_only(gated):
    layer, x = Layer(16, 4, gated=gated), torch.randn(3, 7, 16)
    if gated:
        layer.text_attention.gate.data.fill_(1.0)
    one, other = some_text(hide_from_cls=True), some_text(hide_from_cls=True)
    assert torch.equal(layer(x, one)[:, 0], layer(x, other)[:, 0])
    assert (layer(x, one)[:, 1:] - layer(x, other)[:, 1:]).abs().max() > 1e-4


def test_the_layer_is_two_residual_updates():
    layer, x = Layer(16, 2), torch.randn(2, 5, 16)
    norm = lambda y, module: F.layer_norm(y, (16,), module.weight, module.bias, 1e-6)  # noqa: E731
    after = x + layer.attention(norm(x, layer.norm_attention))
    hidden = F.gelu(F.linear(norm(after, layer.norm_mlp), layer.mlp[0].weight, layer.mlp[0].bias))
    torch.testing.assert_close(layer(x), after + F.linear(hidden, layer.mlp[2].weight, layer.mlp[2].bias))


def test_quick_gelu_equals_transformers():
    x, mine, theirs = torch.linspace(-30, 30, 601), QuickGELU(), QuickGELUActivation()
    grads = [torch.func.vmap(torch.func.grad(activation))(x) for activation in (mine, theirs)]
    torch.testing.assert_close(mine(x), theirs(x), rtol=2e-6, atol=1e-6)
    torch.testing.assert_close(*grads, rtol=2e-6, atol=2e-6)


def test_clips_activation_keeps_no_more_than_gelu():
    """What backward needs of one MLP, in numbers that are kept beyond the input and the weights."""

    def kept(form: str) -> int:
        layer, x = Layer(16, 2, form=form).mlp, torch.randn(5, 16)
        saved = {}  # the tensors themselves: the memory of one that is gone may be given to another
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.setdefault(t.data_ptr(), t), lambda t: t):
            layer(x)
        return sum(t.numel() for t in saved.values())

    assert kept("clip") == kept("vit")
