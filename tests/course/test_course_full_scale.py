"""Notebook 13: its checkers tell mistakes apart, two processes compute what one does, photos are written as a collection has them."""

import pytest
import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import full_scale, two_processes
from semmim_mini.course.full_scale import as_photos, check_layer_flops, check_shares, check_standing
from semmim_mini.data.sources import open_pairs
from semmim_mini.objectives.contrastive import itc_loss

# Checkers -------------------------------------------------------------------------------------------------------------


def standing(trained, frozen, teacher, processes, of_trained=(1, 1, 2), number=4):
    student = sum(of_trained) * trained + frozen
    return number * (student + teacher + (trained if processes > 1 else 0))


def layer_flops(b, s, t, d, h, add=True, attend=2, back=2):
    each = 2 if add else 1
    products = each * b * (s * 4 * d * d + s * 2 * d * h + 2 * t * d * d)
    attention = each * attend * b * s * (s + t) * d
    return products + attention, back * products + (back + 0.5) * attention


def shares(values, counts, whole=True, times=True):
    rows = [row[:count].sum() for row, count in zip(values, counts.tolist(), strict=True)]
    below = counts.sum() if whole else counts
    return torch.stack(rows) / below * (len(counts) if times else 1)


NUMBER = 13
RIGHT = [
    (check_standing, standing),
    (check_standing, lambda *given: float(standing(*given))),
    (check_layer_flops, layer_flops),
    (check_layer_flops, lambda *given: list(layer_flops(*given))),
    (check_shares, shares),
    (check_shares, lambda values, counts: shares(values, counts) * 1.0),
]
WRONG = [
    (check_standing, lambda trained, frozen, teacher, p: standing(trained, frozen, teacher, 1), "DDP keeps all gradients a second time"),
    (check_standing, lambda *given: standing(*given, of_trained=(1, 1, 1)), r"AdamW's \*two\* averages"),
    (check_standing, lambda *given: standing(*given, number=2), "2 bytes a number"),
    (check_standing, lambda *given: standing(*given, number=1), "counts numbers"),
    (
        check_standing,
        lambda trained, frozen, teacher, p: standing(trained + frozen, 0, teacher, p) - 4 * frozen * (p > 1),
        "frozen weights",
    ),
    (check_layer_flops, lambda *given: layer_flops(*given, add=False), "a multiplication and an addition"),
    (check_layer_flops, lambda *given: layer_flops(*given, attend=1), "you count one of them"),
    (check_layer_flops, lambda *given: layer_flops(*given, attend=0), "attention itself is missing"),
    (check_layer_flops, lambda b, s, t, d, h: layer_flops(b, s, 0, d, h), "result 0: expected"),
    (check_layer_flops, lambda *given: layer_flops(*given, back=3), "forwards and backwards together"),
    (check_shares, lambda values, counts: shares(values, counts, whole=False, times=False), "a row weighs more where rows are few"),
    (check_shares, lambda values, counts: shares(values, counts, times=False), "divided by their number"),
    (check_shares, lambda values, counts: values.mean(dim=1), "padding takes part"),
    (check_shares, lambda values, counts: shares(values, counts).mean().repeat(len(counts)), "no process has the graph"),
]
LISTS = (
    (check_standing, full_scale.STANDING_MISTAKES),
    (check_layer_flops, full_scale.LAYER_FLOPS_MISTAKES),
    (check_shares, full_scale.SHARES_MISTAKES),
)


def test_what_stands_by_hand():
    # Two trained weights: value, gradient, two averages; one frozen, three of the teacher: 12 numbers, and 2 more that travel.
    assert full_scale._standing(2, 1, 3, processes=1) == 48 and full_scale._standing(2, 1, 3, processes=8) == 56


def test_shares_average_to_the_mean_of_all():
    values, counts = torch.tensor([[1.0, 9.0], [2.0, 6.0]]), torch.tensor([1, 2])
    assert full_scale._shares(values, counts).tolist() == pytest.approx([2 / 3, 16 / 3])
    assert full_scale._shares(values, counts).mean() == 3  # of 1, 2 and 6


# Two processes --------------------------------------------------------------------------------------------------------


def test_only_gathered_features_with_gradients_equal_one_process():
    draw = torch.Generator().manual_seed(3)
    weight, images, texts = (torch.randn(size, generator=draw) for size in ((5, 3), (6, 5), (6, 5)))
    found = two_processes.two_processes(weight, images, texts)
    weight.requires_grad_()
    image, text = (torch.nn.functional.normalize(x @ weight, dim=-1) for x in (images, texts))
    itc_loss(image, text, image, text, torch.arange(6), torch.arange(6), two_processes.TEMPERATURE).backward()
    assert set(found) == set(two_processes.WAYS)
    torch.testing.assert_close(found["gathered"], weight.grad)
    for way in ("alone", "keys without gradient"):
        assert (found[way] - weight.grad).norm() > 0.05 * weight.grad.norm(), way


def test_processes_that_never_meet_are_ended(monkeypatch):
    monkeypatch.setattr(two_processes, "SECONDS", 0)
    with pytest.raises(RuntimeError, match="did not find each other within 0 s"):
        two_processes.two_processes(torch.ones(2, 2), torch.ones(2, 2), torch.ones(2, 2))


# Photos ---------------------------------------------------------------------------------------------------------------


def test_photos_can_be_read_back(tmp_path):
    scenes = open_pairs("scenes", "train", resolution=64, size=4)
    as_photos(tmp_path / "photos", scenes, {"train": ["2.jpg", "0.jpg"], "dev": ["3.jpg"], "test": ["1.jpg"]})
    train, val = (open_pairs(f"flickr8k:{tmp_path / 'photos'}", split, resolution=64) for split in ("train", "val"))
    assert train[0].captions == scenes[2].captions and train[1].captions == scenes[0].captions
    assert len(val) == 1 and val[0].captions == scenes[3].captions
    apart = (train[1].image.float() - scenes[0].image.float()).abs().mean()
    assert train[1].image.shape == scenes[0].image.shape and apart < 12  # of 255: a JPEG of the same picture
