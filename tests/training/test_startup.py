"""What is learned from the first batch: a centred bottleneck, prototypes where tokens land, a codebook of patches."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from semmim_mini.objectives.masked_image import patch_pixels
from semmim_mini.training.startup import falls_due, fit_codebook, place_prototypes, prepare_step


def landing(head, model, images):
    """Where the head puts the tokens of both views (tokens, z), not yet normalised."""
    with torch.no_grad():
        return rearrange(head.mlp(model.student.image(rearrange(images, "v b c h w -> (b v) c h w"))), "b s z -> (b s) z")


@pytest.mark.parametrize("shared", ["true", "false"])
def test_the_bottleneck_is_centred_and_prototypes_lie_where_tokens_land(make_model, make_batch, shared):
    model = make_model(f"space.shared={shared}")
    images = make_batch(model.config).images
    for head in model.student.space.heads():
        head.mlp[-1].bias.data.add_(3.0)  # a cone: all directions alike
        assert F.normalize(landing(head, model, images), dim=-1).mean(dim=0).norm() > 0.9
    place_prototypes(model, images)
    for student, teacher in zip(model.student.space.heads(), model.teacher.space.heads(), strict=True):
        landed = landing(student, model, images)
        torch.testing.assert_close(landed.mean(dim=0), torch.zeros(8), atol=2e-6, rtol=0)
        nearest = student.score(F.normalize(landed, dim=-1)).amax(dim=1)
        blind = F.normalize(torch.randn(6, 8), dim=-1)
        assert nearest.mean() > (F.normalize(landed, dim=-1) @ blind.T).amax(dim=1).mean()
        assert torch.equal(student.prototypes, teacher.prototypes) and torch.equal(student.mlp[-1].bias, teacher.mlp[-1].bias)


def test_random_prototypes_stay_where_they_are(make_model, make_batch):
    model = make_model("space.init=random")
    before = [p.clone() for p in model.parameters()]
    assert not falls_due(model.config, 0)
    prepare_step(model, make_batch(model.config), 0)
    assert all(map(torch.equal, before, model.parameters()))


def test_it_happens_once_at_the_first_step_of_the_space(make_model, make_batch):
    settings = (f"losses.{term}={{weight: 1.0, start: 0.5}}" for term in ("mim", "consensus"))
    model = make_model(*settings)
    assert [step for step in range(400) if falls_due(model.config, step)] == [200]
    before = model.student.space.patch.prototypes.clone()
    prepare_step(model, make_batch(model.config), 199)
    assert torch.equal(model.student.space.patch.prototypes, before)
    prepare_step(model, make_batch(model.config), 200)
    assert not torch.equal(model.student.space.patch.prototypes, before)


def test_the_codebook_holds_the_two_patches_there_are():
    patterns = torch.rand(2, 3, 8, 8)
    images = rearrange(patterns[[0, 1, 1, 0]], "(h w) c y x -> c (h y) (w x)", h=2).expand(1, 3, 3, 16, 16)
    codebook = fit_codebook(images, 8, 2)
    distance = torch.cdist(patch_pixels(images[0], 8).flatten(0, 1), codebook).amin(dim=1)
    assert codebook.shape == (2, 3 * 8 * 8) and distance.max() < 1e-3
