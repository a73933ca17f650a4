"""The image encoder: equal to timm's and transformers' without text; with text, isolated as each setting promises."""

import pytest
import torch
from einops import rearrange

from semmim_mini.model.image_encoder import ImageEncoder
from semmim_mini.model.layers import attention_weights

TEXT_WIDTH = 12


@pytest.fixture
def encoder(tiny):
    """`encoder("image.isolation=mask", …)`, with weights large enough that every path shows in the output."""

    def make(*settings: str) -> ImageEncoder:
        torch.manual_seed(0)
        config = tiny(*settings)
        made = ImageEncoder(config.image, config.data.resolution, TEXT_WIDTH).eval()
        for name, parameter in made.named_parameters():
            if parameter.ndim >= 1:
                torch.nn.init.normal_(parameter, std=0.3, mean=float(name.endswith("norm.weight")))
        return made

    return make


def words_of():
    """Two captions of five and three tokens: features and which of them are words."""
    return torch.randn(2, 5, TEXT_WIDTH), torch.arange(5) < torch.tensor([[5], [3]])


# Equal to trusted implementations -------------------------------------------------------------------------------------


def timm_weights(encoder: ImageEncoder) -> dict:
    weights = {
        "cls_token": encoder.cls.reshape(1, 1, -1),
        "pos_embed": encoder.positions[None],
        **{f"patch_embed.proj.{k}": v for k, v in encoder.patchify.state_dict().items()},
        **{f"norm.{k}": v for k, v in encoder.norm.state_dict().items()},
    }
    names = {"norm_attention": "norm1", "attention.qkv": "attn.qkv", "attention.out": "attn.proj"}
    names |= {"norm_mlp": "norm2", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    for i, layer in enumerate(encoder.layers):
        for ours, theirs in names.items():
            weights |= {f"blocks.{i}.{theirs}.{k}": v for k, v in layer.get_submodule(ours).state_dict().items()}
    return weights


def test_equals_timms_vision_transformer(encoder):
    timm = pytest.importorskip("timm.models.vision_transformer")
    ours, images = encoder("image.depth=3"), torch.randn(2, 3, 16, 16)
    theirs = timm.VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=0)
    theirs.load_state_dict(timm_weights(ours))
    torch.testing.assert_close(ours(images), theirs.eval().forward_features(images), atol=1e-5, rtol=1e-5)


def transformers_weights(encoder: ImageEncoder) -> dict:
    weights = {
        "embeddings.cls_token": encoder.cls.reshape(1, 1, -1),
        "embeddings.position_embeddings": encoder.positions[None],
        **{f"embeddings.patch_embeddings.projection.{k}": v for k, v in encoder.patchify.state_dict().items()},
        **{f"layernorm.{k}": v for k, v in encoder.norm.state_dict().items()},
    }
    names = {"norm_attention": "layernorm_before", "attention.out": "attention.o_proj"}
    names |= {"norm_mlp": "layernorm_after", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    for i, layer in enumerate(encoder.layers):
        for ours, theirs in names.items():
            weights |= {f"layers.{i}.{theirs}.{k}": v for k, v in layer.get_submodule(ours).state_dict().items()}
        for kind in ("weight", "bias"):
            thirds = getattr(layer.attention.qkv, kind).chunk(3)
            weights |= {f"layers.{i}.attention.{n}_proj.{kind}": v for n, v in zip("qkv", thirds, strict=True)}
    return weights


def test_equals_transformers_vit(encoder):
    from transformers import ViTConfig, ViTModel

    ours, images = encoder(), torch.randn(2, 3, 16, 16)
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=8)
    theirs = ViTModel(ViTConfig(**shape, layer_norm_eps=1e-6), add_pooling_layer=False).eval()
    if not {*transformers_weights(ours)} <= {*theirs.state_dict()}:
        pytest.skip("this version of transformers names the weights of its ViT otherwise")
    theirs.load_state_dict(transformers_weights(ours))
    torch.testing.assert_close(ours(images), theirs(images).last_hidden_state, atol=1e-5, rtol=1e-5)


# Trunk, branch and mask token -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [0, 1, 2])
def test_trunk_and_branch_make_the_whole(encoder, m):
    net, images = encoder("image.depth=3", f"image.inject_from={m}"), torch.randn(2, 3, 16, 16)
    text = net.read(*words_of())
    assert torch.equal(net.branch(net.trunk(images), text), net(images, text=text))


def test_layers_below_m_are_the_same_for_every_caption(encoder):
    net, images = encoder("image.depth=3", "image.inject_from=2"), torch.randn(2, 3, 16, 16)
    heard = []
    hooks = [layer.register_forward_hook(lambda module, args, output: heard.append(output)) for layer in net.layers]
    net(images, text=net.read(*words_of()))
    net(images)
    for hook in hooks:
        hook.remove()
    assert torch.equal(heard[0], heard[3]) and torch.equal(heard[1], heard[4]) and not torch.equal(heard[2], heard[5])


def test_the_mask_token_takes_the_patchs_place_before_its_position(encoder):
    net, images = encoder(), torch.randn(2, 3, 16, 16)
    mask = torch.tensor([[True, False, True, False], [False] * 4])
    hidden, clean = net.embed(images, mask), net.embed(images)
    torch.testing.assert_close(hidden[0, 1], net.mask_token + net.positions[1])
    # Two hidden patches differ by their positions and by nothing else.
    torch.testing.assert_close(hidden[0, 1] - hidden[0, 3], net.positions[1] - net.positions[3])
    assert torch.equal(hidden[0, [0, 2, 4]], clean[0, [0, 2, 4]]) and torch.equal(hidden[1], clean[1])


def test_what_a_hidden_patch_shows_has_no_influence(encoder):
    net, images = encoder(), torch.randn(1, 3, 16, 16)
    mask = torch.tensor([[False, True, False, False]])  # the upper right patch
    other = images.clone()
    other[..., :8, 8:] = 7
    assert torch.equal(net(images, mask), net(other, mask))
    assert not torch.equal(net(images), net(other))


def test_recomputing_activations_changes_neither_outputs_nor_gradients(encoder):
    net, images = encoder(), torch.randn(2, 3, 16, 16)
    results = []
    for net.checkpointed in (False, True):
        net.zero_grad()
        torch.manual_seed(3)
        out = net(images, text=net.read(*words_of()))
        out.square().sum().backward()
        results.append([out.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


# Isolation of [CLS] ---------------------------------------------------------------------------------------------------


def cls_under_two_captions(net: ImageEncoder):
    images, words = torch.randn(2, 3, 16, 16), torch.arange(5) < torch.tensor([[5], [3]])
    one, other = (net(images, text=net.read(torch.randn(2, 5, TEXT_WIDTH), words)) for _ in range(2))
    assert not torch.equal(one[:, 1:], other[:, 1:])  # patches read the caption under every setting
    return one[:, 0], other[:, 0]


def test_without_isolation_cls_quotes_the_caption(encoder):
    one, other = cls_under_two_captions(encoder("image.isolation=none"))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("injection", ["append", "gated"])
def test_a_mask_isolates_cls_in_one_injected_layer_and_leaks_through_two(encoder, injection):
    settings = ("image.isolation=mask", f"image.injection={injection}", "image.depth=3")
    for m, isolated in ((2, True), (1, False), (0, False)):
        net = encoder(*settings, f"image.inject_from={m}")
        if injection == "gated":
            for layer in net.layers[m:]:
                layer.text_attention.gate.data.fill_(1.0)
        one, other = cls_under_two_captions(net)
        assert torch.equal(one, other) == isolated, f"{3 - m} injected layers"


def test_zero_gates_leave_the_encoder_as_it_was_without_text(encoder):
    net, images = encoder("image.injection=gated", "image.inject_from=0"), torch.randn(2, 3, 16, 16)
    assert all(layer.text_attention.gate == 0 for layer in net.layers)
    assert torch.equal(net(images, text=net.read(*words_of())), net(images))


def test_only_layers_from_m_on_have_gates(encoder):
    net = encoder("image.injection=gated", "image.depth=3", "image.inject_from=2")
    assert [layer.text_attention is not None for layer in net.layers] == [False, False, True]


def test_padding_of_the_caption_has_no_influence(encoder):
    net, images, (tokens, words) = encoder(), torch.randn(2, 3, 16, 16), words_of()
    garbage = torch.where(words[..., None], tokens, 99.0)
    assert torch.equal(net(images, text=net.read(tokens, words)), net(images, text=net.read(garbage, words)))
    longer = (
        torch.cat([tokens, torch.randn(2, 3, TEXT_WIDTH)], dim=1),
        torch.cat([words, torch.zeros(2, 3).bool()], dim=1),
    )
    torch.testing.assert_close(net(images, text=net.read(*longer)), net(images, text=net.read(tokens, words)))


# What masking reads ---------------------------------------------------------------------------------------------------


def test_cls_attention_is_the_last_layers(encoder):
    net, images = encoder("image.depth=3", "image.inject_from=1"), torch.randn(2, 3, 16, 16)
    x = net.embed(images)
    for layer in net.layers[:-1]:
        x = layer(x)
    last = net.layers[-1]
    query, key, _ = last.attention.project(last.norm_attention(x))
    expected = (query[:, :, :1] @ key.transpose(-1, -2) / 8**0.5).softmax(dim=-1)[:, :, 0].mean(dim=1)
    torch.testing.assert_close(net.cls_attention(net.trunk(images)), expected[:, 1:])
    assert (expected[:, 1:].sum(dim=1) < 1).all()  # [CLS] keeps a part for itself


def test_the_text_query_meets_the_patch_keys_of_layer_m(encoder):
    net, images, text_cls = encoder(), torch.randn(2, 3, 16, 16), torch.randn(2, TEXT_WIDTH)
    trunk, layer = net.trunk(images), net.layers[1]
    query, keys = net.text_query(trunk, text_cls)
    assert query.shape == (2, 2, 1, 8) and keys.shape == (2, 2, 4, 8)
    third = rearrange(layer.attention.qkv(layer.norm_attention(net.text_map(text_cls))), "b (three h c) -> three b h c", three=3, h=2)
    torch.testing.assert_close(query[:, :, 0], third[0])
    everything = layer.attention.weights(layer.norm_attention(trunk))  # with [CLS]; its ratios among patches are the keys'
    cls_query = layer.attention.project(layer.norm_attention(trunk))[0][:, :, :1]
    patches = everything[:, :, :1, 1:] / everything[:, :, :1, 1:].sum(dim=-1, keepdim=True)
    torch.testing.assert_close(attention_weights(cls_query, keys), patches)


def test_first_weights_are_scaled_by_fan_in(tiny):
    net = ImageEncoder(tiny("image.width=128", "image.heads=4").image, resolution=64, text_width=128)
    first = {name: parameter for name, parameter in net.named_parameters() if parameter.ndim >= 2 and name != "positions"}
    assert len(first) == 2 + 2 * 4  # patches, text, and four matrices in each of two layers
    for name, weight in first.items():
        half = name.endswith(("attention.out.weight", "mlp.2.weight"))  # residual updates start at half size
        assert weight.std().item() == pytest.approx(weight[0].numel() ** -0.5 * (0.5 if half else 1), rel=0.06), name
        assert weight.mean().abs() < 0.05 * weight.std(), name
    assert net.positions.std().item() == pytest.approx(0.2, rel=0.15)
    for name, bias in net.named_parameters():
        assert not name.endswith(".bias") or not bias.any(), name
