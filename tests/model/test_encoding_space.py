"""The shared encoding space: one head in two roles, cosines as logits, prototypes that start where tokens land."""

import pytest
import torch
import torch.nn.functional as F

from semmim_mini.config import SpaceConfig
from semmim_mini.model.encoding_space import EncodingSpace, PrototypeHead, kmeans_prototypes

SMALL = dict(prototypes=6, hidden=16, bottleneck=8)


def test_shared_means_the_same_object():
    space = EncodingSpace(16, SpaceConfig(**SMALL, shared=True))
    assert space.patch is space.cls and len(space.heads()) == 1
    two = EncodingSpace(16, SpaceConfig(**SMALL, shared=False))
    assert two.patch is not two.cls and len(two.heads()) == 2
    assert len(list(two.parameters())) == 2 * len(list(space.parameters()))


def test_what_patches_learn_changes_the_codes_of_cls():
    for shared in (True, False):
        space = EncodingSpace(16, SpaceConfig(**SMALL, shared=shared))
        space.patch(torch.randn(5, 16)).square().sum().backward()
        assert (space.cls.prototypes.grad is not None) == shared


def test_logits_are_cosines():
    head, tokens = PrototypeHead(16, SpaceConfig(**SMALL)), torch.randn(3, 7, 16)
    with torch.no_grad():
        head.prototypes.mul_(5)  # their lengths must not matter
    expected = F.cosine_similarity(head.mlp(tokens)[..., None, :], head.prototypes, dim=-1)
    torch.testing.assert_close(head(tokens), expected)
    assert head(100 * tokens).abs().max() <= 1 + 1e-5


def test_scores_stay_in_fp32_under_autocast():
    head = PrototypeHead(16, SpaceConfig(**SMALL))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(torch.randn(3, 16))
        direction = head.direction(torch.randn(3, 16))
    assert logits.dtype == direction.dtype == torch.float32
    torch.testing.assert_close(direction.norm(dim=-1), torch.ones(3))
    exact = direction.double() @ F.normalize(head.prototypes.double(), dim=-1).T
    torch.testing.assert_close(head.score(direction).double(), exact, atol=1e-6, rtol=0)


def test_kmeans_finds_the_clusters():
    centers = F.normalize(torch.randn(4, 8), dim=-1)
    points = F.normalize(centers.repeat(50, 1) + 0.01 * torch.randn(200, 8), dim=-1)
    found = kmeans_prototypes(points, 4)
    assert (found @ centers.T).amax(dim=0).min() > 0.99


@pytest.mark.parametrize("points", [40, 6, 3])
def test_kmeans_prototypes_have_length_one_and_fill_up(points):
    found = kmeans_prototypes(F.normalize(torch.randn(points, 8), dim=-1), 6)
    assert found.shape == (6, 8)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(6))
    assert torch.unique(found, dim=0).shape[0] == 6
    assert not found.requires_grad


def test_kmeans_repeats_with_its_seed():
    points = F.normalize(torch.randn(30, 8), dim=-1)
    assert torch.equal(kmeans_prototypes(points, 6, seed=1), kmeans_prototypes(points, 6, seed=1))
