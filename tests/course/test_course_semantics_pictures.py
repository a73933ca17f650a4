"""Pictures of notebook 08: the numbers that they claim, on scenes and tables whose numbers are known."""

import pytest
import torch

from semmim_mini.config import override
from semmim_mini.course.explorer import Explorer
from semmim_mini.course.pictures import png
from semmim_mini.course.semantics_pictures import contingency, measures_of_nothing, panels, swapped_captions
from semmim_mini.course.word_region_pictures import MAPS, explored_scene, gradcam_steps, pointing_table
from semmim_mini.errors import UserError
from semmim_mini.figures.style import WIDTH
from semmim_mini.instruments.mask_quality import named_and_objects
from semmim_mini.instruments.semantics import ami, concept_labels, patch_codes
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.grounding import evaluate_grounding


@pytest.fixture(scope="module")
def model(tiny, tokenizer):
    torch.manual_seed(0)
    config = override(tiny(), ["data.resolution=32", "data.max_length=20", "text.decoder_depth=1", "losses.caption.weight=1"])
    return SemMIM(config, len(tokenizer)).eval()


def check(drawn):
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000 and drawn.number


def written(drawn) -> list[str]:
    return [text.get_text() for axes in drawn.figure.axes for text in axes.texts]


def test_the_table_shows_counts_and_sums(batch):
    table = torch.tensor([[0, 9, 0], [4, 0, 3]])
    drawn = contingency(batch, 0, torch.arange(16), ["background", "dog"], table)
    check(drawn)
    assert drawn.number == {"things": 2.0, "codes": 3.0, "patches": 16.0}
    # Row by row, codes in the order of the thing they meet most; zeros are left out, sums of rows and columns are not.
    assert written(drawn) == ["9", "9", "4", "3", "7", "9", "4", "3", "16"]


def test_the_last_of_the_random_codes_is_told():
    curves = {"purity": [0.5, 0.8], "NMI": [0.0, 0.4], "AMI": [0.0, 0.01]}
    drawn = measures_of_nothing(curves, [2, 8192], {"purity": 0.7, "NMI": 0.5, "AMI": 0.3}, 100)
    check(drawn)
    assert drawn.number == {"purity": 0.8, "NMI": 0.4, "AMI": 0.01, "purity_real": 0.7, "NMI_real": 0.5, "AMI_real": 0.3}
    assert "purity 0.80, NMI 0.40, AMI 0.01" in drawn.figure.texts[0].get_text()


def test_panels_write_numbers_or_shares():
    scores = {"all": {"codes": 0.25, "pixels": -0.1}, "across": {"codes": 0.036, "pixels": 0.0}}
    drawn = panels("Codes", scores, {"all": 0.0, "across": 0.006}, "Dashed: chance.", bold=("codes",), shares=("across",))
    check(drawn)
    assert drawn.number["all: codes"] == 0.25 and drawn.number["across: chance"] == 0.006
    assert written(drawn) == ["0.25", "-0.10", "3.6\u00a0%", "0.0\u00a0%"]


def test_surviving_codes_are_counted_on_objects_and_ground(batch):
    objects = named_and_objects(batch, 8)[1]
    right = torch.arange(16).expand(8, 16)
    wrong = torch.where(objects, right, right + 1)  # all codes on the ground change, and none on objects
    drawn = swapped_captions(batch, ["a wrong caption"] * 8, (0, 3), (right, wrong), objects)
    check(drawn)
    assert drawn.number == {"all": pytest.approx(float(objects.float().mean())), "objects": 1.0, "background": 0.0}
    assert sum("wrong" in text.get_text() for text in drawn.figure.texts) == 3  # two captions and the head of the column


def test_steps_of_gradcam_point_or_miss(batch):
    target = torch.arange(16) == 5
    steps = {"attention": target.float(), "gradient": -target.float(), "nothing": torch.zeros(16)}
    drawn = gradcam_steps(batch.images[0][0], "a dog", steps, target)
    check(drawn)
    assert drawn.number == {"attention": 1.0, "gradient": 0.0, "nothing": 0.0}


def test_the_table_of_pointing_has_the_evaluations_numbers(model, tokenizer, scenes):
    found = evaluate_grounding(model, tokenizer, scenes)
    drawn = pointing_table(found, {name: (0.1, 0.02) for name in found["maps"]})
    check(drawn)
    assert drawn.number["chance"] == found["chance"]["pointing"] and drawn.number["any_object"] == found["any_object"]["pointing"]
    assert drawn.number["fusion_pointing"] == found["maps"]["fusion"]["best"]["pointing"] and drawn.number["words_reading"] == 0.1
    assert len(written(drawn)) == sum(len(kind["table"]) for kind in found["maps"].values())


# a scene to explore ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAPS)
def test_every_map_of_a_scene(model, tokenizer, scenes, batch, kind):
    drawn = explored_scene(model, tokenizer, scenes, scene=2, caption=2, map=kind, layer=1, head="mean")
    check(drawn)
    labels, codes = (x.reshape(8, 16)[2] for x in (concept_labels([batch], 8), patch_codes(model.teacher, [batch])))
    assert drawn.number["ami"] == pytest.approx(ami(labels, codes))
    assert 0 < drawn.number["chance"] <= drawn.number["any_object"] <= 1 and drawn.number["n"] >= 1


def test_a_layer_or_head_that_is_not_there_is_said(model, tokenizer, scenes):
    def draw(**choices):
        return explored_scene(
            model, tokenizer, scenes, **({"scene": 0, "caption": 0, "map": "fusion", "layer": 1, "head": "mean"} | choices)
        )

    with pytest.raises(UserError, match=r"layer=2: decoder_reads has 1; choose 1$"):
        draw(map="decoder_reads", layer=2)
    with pytest.raises(UserError, match=r"head=9 is none of \d+; choose 1 to \d+, or mean"):
        draw(head=9)
    assert draw(map="words", layer=7, head=9).number["n"] >= 1  # cosines have no layers


def test_widgets_move_the_map(model, tokenizer, scenes):
    def draw(**choices):
        return explored_scene(model, tokenizer, scenes, **choices)

    explorer = Explorer(draw, "A scene.", {"scene": range(8), "caption": range(5), "map": MAPS, "layer": (1, 2), "head": ("mean", 1)})
    seen = {explorer.image.value}
    for name, value in (("head", 1), ("map", "fusion"), ("scene", 3)):
        explorer.controls[name].value = value
        seen.add(explorer.image.value)
    assert len(seen) == 4 and explorer.message.value == ""
    explorer.controls["map"].value = "decoder_reads"
    explorer.controls["layer"].value = 2
    assert "decoder_reads has 1" in explorer.message.value and explorer.image.value not in seen
