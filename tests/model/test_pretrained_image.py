"""Image encoders from elsewhere: the smallest models of each family, saved to a folder, must say the same in our encoder."""

import pytest
import torch
from einops import rearrange
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from semmim_mini.errors import UserError
from semmim_mini.model.pretrained_image import load_pretrained_image, translate
from semmim_mini.training.optimizer import build_optimizer

SHAPE = dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, patch_size=8, image_size=16)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
FAMILIES = {
    "vit": (ViTModel, ViTConfig(**SHAPE, intermediate_size=64), HALF),
    "deit": (DeiTModel, DeiTConfig(**SHAPE, intermediate_size=64), IMAGENET),
    "dinov2": (Dinov2Model, Dinov2Config(**SHAPE, mlp_ratio=4), IMAGENET),
    "clip": (CLIPVisionModel, CLIPVisionConfig(**SHAPE, intermediate_size=64), CLIP),
}
CLIP_FORM = ("image.form=clip",)


@pytest.fixture
def source(tmp_path):
    """`source("dinov2")`: (model with weights that differ from their first values everywhere, folder, mean, deviation)."""

    def make(family: str, **changes):
        kind, config, statistics = FAMILIES[family]
        for name, value in changes.items():
            setattr(config := type(config)(**config.to_dict()), name, value)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / family)
        return model, str(tmp_path / family), *(torch.tensor(x).view(3, 1, 1) for x in statistics)

    return make


def seen(family: str, model, pixels):
    """The source's own tokens after its last norm. What only distilled models have is left out, as it is in ours."""
    if family == "deit":
        with torch.no_grad():
            x = model.embeddings(pixels, interpolate_pos_encoding=True)
            x = torch.cat([x[:, :1], x[:, 2:]], dim=1)
            for layer in model.layers:
                x = layer(x)
            return model.layernorm(x)
    options = {} if family == "dinov2" else {"interpolate_pos_encoding": True}
    with torch.no_grad():
        found = model(pixels, **options).last_hidden_state
        return model.get_submodule("post_layernorm")(found) if family == "clip" else found


@pytest.mark.parametrize("resolution", [16, 32], ids=["same grid", "finer grid"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_picture_gives_the_same_tokens(family, resolution, source, make_model):
    theirs, folder, mean, deviation = source(family)
    settings = CLIP_FORM if family == "clip" else ()
    model = make_model("image.depth=3", f"data.resolution={resolution}", *settings).eval()
    load_pretrained_image(model, folder)
    picture = torch.rand(2, 3, resolution, resolution)  # pixels in [0, 1]
    expected = seen(family, theirs, (picture - mean) / deviation)
    for encoders in (model.student, model.teacher):
        with torch.no_grad():
            torch.testing.assert_close(encoders.image(2 * picture - 1), expected, atol=2e-4, rtol=1e-3)


def test_fewer_layers_are_the_first_ones(source, make_model):
    theirs, folder, mean, deviation = source("vit")
    model = make_model("image.depth=2").eval()
    load_pretrained_image(model, folder)
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        hidden = theirs((picture - mean) / deviation, output_hidden_states=True).hidden_states[2]
        torch.testing.assert_close(model.student.image(2 * picture - 1), theirs.layernorm(hidden), atol=2e-4, rtol=1e-3)


def test_the_pixel_statistics_of_the_folder_come_first(source, make_model):
    theirs, folder, *_ = source("vit")
    mean, deviation = [0.1, 0.2, 0.3], [0.3, 0.4, 0.5]
    BitImageProcessor(image_mean=mean, image_std=deviation).save_pretrained(folder)
    model = make_model("image.depth=3").eval()
    load_pretrained_image(model, folder)
    picture = torch.rand(1, 3, 16, 16)
    pixels = (picture - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.student.image(2 * picture - 1), seen("vit", theirs, pixels), atol=2e-4, rtol=1e-3)


def test_of_a_whole_clip_the_image_half_is_taken(tmp_path, make_model):
    text = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=20)
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=FAMILIES["clip"][1].to_dict(), projection_dim=4)).eval()
    whole.save_pretrained(tmp_path / "whole")
    model = make_model("image.depth=3", *CLIP_FORM).eval()
    load_pretrained_image(model, str(tmp_path / "whole"))
    picture = torch.rand(1, 3, 16, 16)
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in CLIP)
    with torch.no_grad():
        states = whole.vision_model((picture - mean) / deviation).last_hidden_state
        expected = whole.vision_model.post_layernorm(states)
        torch.testing.assert_close(model.student.image(2 * picture - 1), expected, atol=2e-4, rtol=1e-3)


def test_names_of_older_and_newer_versions_of_transformers_are_understood(source):
    theirs, *_, mean, deviation = source("dinov2")
    old = {"attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key"}
    old |= {"attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense"}
    renamed = theirs.state_dict()
    if any("attention.attention.query" in key for key in renamed):  # the installed version is the older one
        old = {name: new for new, name in old.items()}
    for new, name in old.items():
        renamed = {key.replace(new, name): value for key, value in renamed.items()}
    assert renamed.keys() != theirs.state_dict().keys()
    one, other = (translate(x, 3, 2, mean.flatten(), deviation.flatten()) for x in (theirs.state_dict(), renamed))
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_what_has_no_counterpart_stays_fresh_and_learns_at_the_full_rate(source, make_model):
    _, folder, *_ = source("vit")
    model = make_model("image.depth=3", f"image.pretrained={folder}", "image.injection=gated", "optim.lr_pretrained=0.0005")
    before = {name: x.clone() for name, x in model.student.image.named_parameters()}
    load_pretrained_image(model, folder)
    changed = {name for name, x in model.student.image.named_parameters() if not torch.equal(x, before[name])}
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["base_lr"] for group in build_optimizer(model, model.config.optim).param_groups for p in group["params"]}
    for name in before:
        assert rates[f"student.image.{name}"] == (0.0005 if name in changed else 0.001), name
    fresh = before.keys() - changed
    assert {"mask_token", "text_map.weight", "text_map.bias"} < fresh and all("text" in name or name == "mask_token" for name in fresh)


def test_dinov2_brings_its_mask_token(source, make_model):
    theirs, folder, *_ = source("dinov2")
    model = make_model("image.depth=3")
    load_pretrained_image(model, folder)
    assert torch.equal(model.student.image.mask_token, theirs.embeddings.mask_token[0])


def test_frozen_layers_hold_still_and_the_others_learn(source, make_model, make_batch):
    _, folder, *_ = source("vit")
    model = make_model("image.depth=3", f"image.pretrained={folder}", "image.freeze=2")
    load_pretrained_image(model, folder)
    encoder = model.student.image
    encoder(make_batch(model.config).images[0], torch.ones(4, 4, dtype=torch.bool)).square().sum().backward()
    with_gradient = {name for name, x in encoder.named_parameters() if x.grad is not None}
    expected = {name for name, _ in encoder.named_parameters() if name.startswith(("layers.2.", "norm.", "mask_token"))}
    assert with_gradient == expected


@pytest.mark.parametrize(
    ("family", "change", "settings", "message"),
    [
        ("vit", {}, ("image.width=32",), "needs --set image.width=16"),
        ("vit", {}, ("image.heads=4",), "needs --set image.heads=2"),
        ("vit", {}, ("image.patch=4",), "needs --set image.patch=8"),
        ("vit", {"intermediate_size": 32}, (), "needs --set image.mlp_ratio=2.0"),
        ("clip", {}, (), "needs --set image.form=clip"),
        ("vit", {}, CLIP_FORM, "needs --set image.form=vit"),
        ("vit", {}, ("image.depth=4",), "image.depth=4 exceeds the 3 layers"),
        ("dinov2", {"use_swiglu_ffn": True}, (), "has gated layers"),
    ],
)
def test_what_does_not_fit_is_named_with_the_setting_to_make(family, change, settings, message, source, make_model):
    _, folder, *_ = source(family, **change)
    with pytest.raises(UserError, match=message):
        load_pretrained_image(make_model("image.depth=3", *settings), folder)


def test_another_architecture_is_refused(tmp_path, make_model):
    from transformers import ResNetConfig, ResNetModel

    ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1])).save_pretrained(tmp_path / "resnet")
    with pytest.raises(UserError, match="is a resnet; one of vit, deit"):
        load_pretrained_image(make_model(), str(tmp_path / "resnet"))


def test_nothing_loadable_is_said_in_one_line(tmp_path, make_model):
    with pytest.raises(UserError, match=r"image.pretrained=.*cannot be loaded") as caught:
        load_pretrained_image(make_model(), str(tmp_path))
    assert "\n" not in str(caught.value)


def test_patch_projection_takes_the_pixel_statistics_in(source):
    """By hand: a projection that adds up a patch, of a picture of one value."""
    mean, deviation = torch.tensor([0.25, 0.5, 0.75]), torch.tensor([0.5, 0.25, 1.0])
    theirs = {key: torch.zeros_like(value) for key, value in source("vit")[0].state_dict().items()}
    theirs["embeddings.patch_embeddings.projection.weight"][0] = 1.0
    ours = translate(theirs, 1, 2, mean, deviation)
    picture = torch.full((1, 3, 8, 8), 0.75)
    got = torch.nn.functional.conv2d(2 * picture - 1, ours["patchify.weight"], ours["patchify.bias"])
    # ((0.75 − 0.25)/0.5 + (0.75 − 0.5)/0.25 + 0) · 64 pixels = 2 · 64
    torch.testing.assert_close(rearrange(got, "1 d 1 1 -> d")[:2], torch.tensor([128.0, 0.0]))
