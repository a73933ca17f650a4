"""The readout: at first nothing changes; then [CLS] is a linear map of exactly the notes it says, whatever the layers are cut into."""

import pytest
import torch
import torch.nn.functional as F

from semmim_mini.config import override
from semmim_mini.errors import UserError
from semmim_mini.model.image_encoder import ImageEncoder
from semmim_mini.model.readout import Readout, note, replace_cls
from semmim_mini.model.text_encoder import TextEncoder
from semmim_mini.presets import preset
from semmim_mini.training.optimizer import build_optimizer

VOCAB, TEXT_WIDTH = 30, 12


def loud(module: torch.nn.Module) -> torch.nn.Module:
    """Weights large enough that every path shows in the output, the same with a readout and without; the readout stays as it begins."""
    torch.manual_seed(0)
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 1 and not name.startswith("readout."):
            torch.nn.init.normal_(parameter, std=0.3, mean=float(name.endswith("norm.weight")))
    return module.eval()


@pytest.fixture
def image_encoder(tiny):
    """`image_encoder(3, "image.inject_from=1")`: a readout of three layers, of four."""

    def make(layers: int, *settings: str) -> ImageEncoder:
        config = tiny("image.depth=4", f"image.readout={layers}", *settings)
        return loud(ImageEncoder(config.image, config.data.resolution, TEXT_WIDTH))

    return make


def text_encoder(tiny, layers: int) -> TextEncoder:
    return loud(TextEncoder(tiny("text.depth=3", f"text.readout={layers}").text, VOCAB, 8))


def some_words():
    """Ids of captions of six and four tokens, and which of them are words."""
    return torch.randint(5, VOCAB, (2, 6)), torch.arange(6) < torch.tensor([[6], [4]])


def outputs_of(layers, run) -> list[torch.Tensor]:
    """What each layer gives while `run` runs."""
    heard = []
    hooks = [layer.register_forward_hook(lambda module, args, output: heard.append(output)) for layer in layers]
    run()
    for hook in hooks:
        hook.remove()
    return [x[0] if isinstance(x, tuple) else x for x in heard]


# Alone --------------------------------------------------------------------------------------------------------------------


def test_it_begins_as_the_last_layers_cls():
    notes = torch.randn(5, 6, 4)  # three layers of width 4: [CLS], mean, [CLS], mean, …
    assert torch.equal(Readout(4, 3)(notes), notes[:, 4])


def test_by_hand():
    readout = Readout(2, 1)
    readout.linear.weight.data = torch.tensor([[1.0, 0, 0, 10], [0, 1, 100, 0]])
    readout.linear.bias.data = torch.tensor([1000.0, 0])
    notes = note(torch.tensor([[1.0, 2]]), torch.tensor([[3.0, 4]]))
    assert readout(notes).tolist() == [[1 + 40 + 1000, 2 + 300]]
    assert replace_cls(torch.zeros(1, 3, 2), readout(notes)).tolist() == [[[1041, 302], [0, 0], [0, 0]]]


# In the image encoder -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_an_image_encoder_begins_as_it_was_without(image_encoder, layers):
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(image_encoder(layers)(images), image_encoder(0)(images), rtol=0, atol=0)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("m", [0, 2, 3])
def test_cls_is_read_from_normed_cls_tokens_and_mean_patches(image_encoder, layers, m):
    net, images = image_encoder(layers, f"image.inject_from={m}"), torch.randn(2, 3, 16, 16)
    torch.nn.init.normal_(net.readout.linear.weight)
    torch.nn.init.normal_(net.readout.linear.bias)
    found = outputs_of(net.layers, lambda: net(images))[-layers:]
    notes = torch.cat([part for x in found for part in (net.norm(x[:, 0]), net.norm(x[:, 1:].mean(dim=1)))], dim=1)
    out = net(images)
    torch.testing.assert_close(out[:, 0], F.linear(notes, net.readout.linear.weight, net.readout.linear.bias), atol=1e-5, rtol=1e-5)
    assert torch.equal(out[:, 1:], image_encoder(0, f"image.inject_from={m}")(images)[:, 1:])  # patches know nothing of it


def test_what_else_reads_the_trunk_does_not_see_the_notes(image_encoder):
    images, text_cls = torch.randn(2, 3, 16, 16), torch.randn(2, TEXT_WIDTH)
    plain, noted = image_encoder(0, "image.inject_from=2"), image_encoder(4, "image.inject_from=2")
    assert noted.trunk(images).shape[1] == plain.trunk(images).shape[1] + 4
    assert torch.equal(noted.cls_attention(noted.trunk(images)), plain.cls_attention(plain.trunk(images)))
    for one, other in zip(noted.text_query(noted.trunk(images), text_cls), plain.text_query(plain.trunk(images), text_cls), strict=True):
        assert torch.equal(one, other)


def test_activation_checkpointing_changes_nothing(image_encoder):
    gradients, images = [], torch.randn(2, 3, 16, 16)
    for checkpointed in (False, True):
        net = image_encoder(3)
        net.checkpointed = checkpointed
        net(images).square().sum().backward()
        gradients.append({name: x.grad for name, x in net.named_parameters() if x.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and "readout.linear.weight" in gradients[0]
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


# In the text encoder ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_text_encoder_begins_as_it_was_without(tiny, layers):
    ids, words = some_words()
    torch.testing.assert_close(text_encoder(tiny, layers)(ids, words)[words], text_encoder(tiny, 0)(ids, words)[words], rtol=0, atol=1e-6)


def test_cls_of_a_text_is_read_from_cls_tokens_and_mean_words(tiny):
    net, (ids, words) = text_encoder(tiny, 2), some_words()
    torch.nn.init.normal_(net.readout.linear.weight)
    found = outputs_of(net.bert.encoder.layer, lambda: net(ids, words))[-2:]
    for row, length in ((0, 6), (1, 4)):
        notes = torch.cat([part for x in found for part in (x[row, 0], x[row, :length].mean(dim=0))])
        out = net(ids, words)[row]
        torch.testing.assert_close(out[0], net.readout.linear.weight @ notes, atol=1e-5, rtol=1e-5)
        assert torch.equal(out[1:length], found[-1][row, 1:length])


def test_padding_has_no_influence(tiny):
    net, (ids, words) = text_encoder(tiny, 2), some_words()
    torch.nn.init.normal_(net.readout.linear.weight)
    alone = net(ids[1:, :4], words[1:, :4])
    torch.testing.assert_close(net(torch.where(words, ids, 7), words)[1, 0], alone[0, 0])


# In a model ---------------------------------------------------------------------------------------------------------------


def test_it_learns_at_the_full_rate_beside_held_and_pre_trained_layers(make_model):
    frozen = ("image.pretrained=x", "image.freeze=2", "text.pretrained=x", "text.freeze=true")
    model = make_model(*frozen, "image.readout=2", "text.readout=1", "optim.lr_pretrained=0.0005")
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {names[id(p)]: group["base_lr"] for group in build_optimizer(model, model.config.optim).param_groups for p in group["params"]}
    for side in ("image", "text"):
        assert rates[f"student.{side}.readout.linear.weight"] == model.config.optim.lr != 0.0005
    assert not any(name.startswith("student.text.bert") for name in rates)


def test_with_mask_isolation_it_would_leak_the_caption_and_is_refused():
    with pytest.raises(UserError, match=r"image\.isolation='mask' is impossible: means of patches that read text .* take fork"):
        override(preset("tiny"), ["image.readout=1", "image.isolation=mask"])
