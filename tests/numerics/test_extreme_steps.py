"""Whole steps on the strangest batches and models, in all three precisions: every loss, metric and gradient is a finite number.

Loss scaling is left out, but for the one case that needs it (`SCALES`); `tests/gpu` has the scaler.
"""

import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep

PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
NEAR = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 2e-3}
LN_K = math.log(6)  # prototypes of the small model
LATE = 300  # of 400 steps: ramps are over, masks are no longer random


def one_pair(batch, model) -> None:
    """What a validation batch may end in; a configuration asks for two."""
    for name in ("input_ids", "attention_mask", "mlm_ids", "mlm_labels", "image_ids"):
        setattr(batch, name, getattr(batch, name)[:1])
    batch.images = batch.images[:, :1]


def words_are_gone(batch, model) -> None:
    """Every caption is [CLS] [SEP] and padding."""
    place = torch.arange(batch.input_ids.shape[1])
    batch.attention_mask = (place < 2).expand_as(batch.input_ids).clone()
    batch.input_ids = torch.where(place == 0, 2, torch.where(place == 1, 3, 0)).expand_as(batch.input_ids).clone()
    batch.mlm_ids, batch.mlm_labels = batch.input_ids, torch.full_like(batch.input_ids, -100)


def pictures_of_one_colour(batch, model) -> None:
    batch.images = torch.full_like(batch.images, 0.3)


def one_image_everywhere(batch, model) -> None:
    """In the batch and in the queue."""
    batch.image_ids = torch.full_like(batch.image_ids, 7)
    model.memory.add_pairs(*torch.nn.functional.normalize(torch.randn(2, 8, 10), dim=-1), torch.full((8,), 7))


def equal_prototypes(batch, model) -> None:
    for net in (model.student, model.teacher):
        for head in net.space.heads():
            head.prototypes.copy_(head.prototypes[:1].expand_as(head.prototypes))


def silent_projections(batch, model) -> None:
    """Every ITC feature is the zero vector."""
    for net in (model.student, model.teacher):
        for layer in (net.image_projection, net.text_projection):
            layer.weight.zero_()
            layer.bias.zero_()


def silent_space(batch, model) -> None:
    """Every direction in the encoding space is the zero vector."""
    for net in (model.student, model.teacher):
        for head in net.space.heads():
            head.mlp[4].weight.zero_()
            head.mlp[4].bias.zero_()


def temperature(value: float):
    return lambda batch, model: model.temperature.fill_(value)


def huge_pixels(batch, model) -> None:
    batch.images *= 1e3


def huge_heads(batch, model) -> None:
    """Logits of matching and of words in the thousands."""
    model.itm_head.weight.mul_(1e4)
    model.student.text.bert.embeddings.word_embeddings.weight.mul_(1e3)


# name: (settings, change, losses that are known)
CASES = {
    "a batch of one pair": ((), one_pair, {"itc": 0.0}),
    "all patches masked": (("masking.ratio=1.0",), None, {}),
    "no patch masked": (("masking.masked_share=0.000001",), None, {"mim": 0.0}),
    "captions without words": ((), words_are_gone, {"mlm": 0.0}),
    "pictures of one colour": (("losses.mim_target=pixels",), pictures_of_one_colour, {}),
    "one image everywhere": ((), one_image_everywhere, {}),
    "equal prototypes": ((), equal_prototypes, {"mim": LN_K, "consensus": LN_K}),
    "equal prototypes, centred": (("teacher.balance=center",), equal_prototypes, {"mim": LN_K, "consensus": LN_K}),
    "features of length zero": (("losses.queue=0",), silent_projections, {"itc": math.log(4)}),
    "directions of length zero": ((), silent_space, {"mim": LN_K, "consensus": LN_K}),
    "the lowest temperature": ((), temperature(0.001), {}),
    "the highest temperature": ((), temperature(0.5), {}),
    "pixels in the thousands": ((), huge_pixels, {}),
    "logits in the thousands": ((), huge_heads, {}),
}

# fp16 ends at 65,504, and the gradient of a direction of length zero is 1e12 times what comes in: as large as the scaler lets it be.
SCALES = {("directions of length zero", "fp16"): 2.0**-30}


@pytest.fixture
def strange(make_model, make_batch):
    """`strange(case, precision)`: the step's output, its model, and what is known about its losses."""

    def make(case: str, precision: str, *more: str):
        settings, change, known = CASES[case]
        model = make_model(*settings, *more)
        batch = make_batch(model.config)
        with torch.no_grad():
            if change:
                change(batch, model)
        dtype = PRECISIONS[precision]
        with torch.autocast("cpu", dtype) if dtype else nullcontext():
            out = SemMIMStep(model)(batch, plan_at(model.config, LATE), 5)
        return out, model, known

    return make


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", CASES)
def test_finite_and_as_derived(strange, case, precision):
    out, model, known = strange(case, precision)
    assert len(out.losses) == 6
    for name, value in (*out.losses.items(), *out.metrics.items(), *out.remember.items()):
        assert torch.isfinite(value).all(), name
    for name, value in known.items():
        assert out.losses[name].item() == pytest.approx(value, rel=NEAR[precision], abs=1e-6), name
    (SCALES.get((case, precision), 1) * sum(out.losses.values())).backward()
    assert [name for name, p in model.trainable() if p.grad is not None and not torch.isfinite(p.grad).all()] == []


def test_one_pair_is_matched_with_nothing_and_coded_evenly(strange):
    out, _, _ = strange("a batch of one pair", "fp32")
    assert out.metrics["itm_balanced_accuracy"] in (0.25, 0.75)  # half for the wrong pairs, which are none
    assert out.metrics["cls_entropy"].item() == pytest.approx(LN_K, rel=1e-5)  # one row that uses every prototype equally


def test_one_image_everywhere_leaves_true_pairs_only(strange):
    out, _, _ = strange("one image everywhere", "fp32")
    # Twelve keys, all of them positives: never below their ln, however the features lie.
    assert out.metrics["itc_keys"] == 12 and out.losses["itc"] >= math.log(12)


def test_shares_of_masked_patches(strange):
    for case, share in (("all patches masked", 1), ("no patch masked", 0)):
        assert strange(case, "fp32")[0].metrics["masked_share"] == share


def test_a_picture_of_one_colour_asks_for_zeros(make_model, make_batch):
    model = make_model("losses.mim_target=pixels")
    batch = replace(make_batch(model.config), images=torch.full((2, 4, 3, 16, 16), 0.3))
    with torch.no_grad():
        model.pixel_head.weight.zero_()
        model.pixel_head.bias.fill_(0.5)
    assert SemMIMStep(model)(batch, plan_at(model.config, LATE), 5).losses["mim"].item() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(("share", "moves"), [(0.000001, False), (1.0, True)])
def test_the_centre_of_patches_stays_where_no_patch_is_masked(make_model, make_batch, share, moves):
    model = make_model("teacher.balance=center", f"masking.masked_share={share}")
    before, step = model.memory.patch_center.normal_().clone(), SemMIMStep(model)
    step.remember(step(make_batch(model.config), plan_at(model.config, LATE), 5).remember)
    assert torch.equal(model.memory.patch_center, before) != moves
