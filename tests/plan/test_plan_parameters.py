"""The formulas count what PyTorch counts, part by part, for every size and every part that can be built."""

import pytest
import torch

from semmim_mini.config import Config, override
from semmim_mini.model.semmim import SemMIM
from semmim_mini.plan.layers import ImageLayer, TextLayer, linear
from semmim_mini.plan.parameters import ENCODERS, outside_layers, parameters, trainable
from semmim_mini.plan.sizes import sizes_of
from semmim_mini.presets import preset
from semmim_mini.training.parallel import units


def test_layers_by_hand():
    # Width 2, hidden 3: q k v 2·6 + 6, out 2·2 + 2, MLP 2·3 + 3 and 3·2 + 2, two norms of 2 + 2.
    assert ImageLayer(2, 3).parameters() == 18 + 6 + 9 + 8 + 8 == TextLayer(2, 3, heads=1).parameters()
    assert TextLayer(2, 3, heads=1, cross=True).parameters() == 49 + 4 * 6 + 4  # four more projections and a norm
    assert ImageLayer(2, 3, gated=True).parameters() == 49 + 4 * 6 + 4 + 1  # the gate
    assert linear(5, 7) == 42


def built(config: Config, vocab: int) -> SemMIM:
    """The real model without its numbers: shapes only, in no time and no memory."""
    with torch.device("meta"):
        return SemMIM(config, vocab)


def count(*modules: torch.nn.Module | None) -> int:
    parameters = {p for module in modules if module is not None for p in module.parameters()}
    return sum(p.numel() for p in parameters)


@pytest.mark.parametrize("name", ["tiny", "mini", "small", "base"])
def test_presets_part_by_part(name):
    sizes = sizes_of(preset(name))
    model, found = built(sizes.config, sizes.vocab), parameters(sizes)
    student = model.student
    assert found["image encoder"] == count(student.image)
    assert found["text encoder"] == count(student.text)
    assert found["ITC projections"] == count(student.image_projection, student.text_projection)
    assert found["encoding space"] == count(student.space)
    assert found["fusion encoder"] == count(model.fusion)
    # The word head writes with the text encoder's embeddings; 1 is the temperature.
    tied = student.text.bert.embeddings.word_embeddings.weight.numel()
    assert found["heads"] == count(model.itm_head, model.mlm_head) - tied + 1
    assert found.get("caption decoder", 0) == count(model.decoder)
    assert found["teacher"] == count(model.teacher) == sum(found[part] for part in ENCODERS)
    assert sum(found.values()) == count(model)
    assert trainable(sizes) == sum(p.numel() for _, p in model.trainable())


@pytest.mark.parametrize(
    "settings",
    [
        ["image.injection=gated", "text.width=96", "data.max_length=70"],
        ["image.readout=3", "text.readout=2", "text.pretrained=bert", "text.freeze=true"],
        ["space.shared=false", "losses.mim_target=pixels"],
        ["losses.mim_target=tokens", "losses.caption.weight=0", "masking.relevance=cross"],
        ["text.pretrained=bert", "text.freeze=true"],
        ["image.form=clip", "image.pretrained=clip", "image.freeze=3"],
    ],
    ids=lambda settings: settings[0],
)
def test_whatever_can_be_built(settings):
    sizes = sizes_of(override(preset("tiny"), settings), vocab=123)
    model = built(sizes.config, 123)
    assert sum(parameters(sizes).values()) == count(model)
    assert trainable(sizes) == sum(p.numel() for _, p in model.trainable())


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_what_belongs_to_no_layer(name):
    sizes = sizes_of(preset(name))
    model = built(sizes.config, sizes.vocab)
    assert outside_layers(sizes) == count(model) - count(*units(model))


def test_the_vocabulary_of_a_named_tokenizer_is_berts():
    assert sizes_of(preset("base")).vocab == 30_522
    assert sizes_of(preset("tiny")).vocab == preset("tiny").data.vocab_size
    assert sizes_of(preset("tiny"), vocab=99).vocab == 99
