"""ITM: its chance level, and negatives that are hard, wrong, and always found where there is one."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.objectives.matching import CHANCE, itm_loss, sample_negatives

ROWS = 40_000  # shares measured over this many rows have a standard error of at most 0.0025


def test_chance_is_the_entropy_of_one_third():
    assert pytest.approx(-(1 / 3) * math.log(1 / 3) - (2 / 3) * math.log(2 / 3)) == CHANCE


def test_a_head_that_ignores_its_input_pays_chance():
    logits = torch.tensor([2 / 3, 1 / 3]).log().expand(9, 2)
    matched = torch.tensor([1, 0, 0] * 3)
    assert itm_loss(logits, matched).item() == pytest.approx(CHANCE)


def test_loss_by_hand():
    # Logits (0, ln 3) say "matched" with 3/4.
    logits = torch.tensor([[0.0, math.log(3.0)]] * 2)
    assert itm_loss(logits, torch.tensor([1, 0])).item() == pytest.approx((-math.log(3 / 4) - math.log(1 / 4)) / 2)


def draw_many(similarity: list[float], own: int, key_ids: list[int], hardness: float) -> torch.Tensor:
    """Share of draws of each key, for one row of similarities repeated often."""
    uniform = torch.rand(ROWS, len(similarity), generator=torch.Generator().manual_seed(0))
    rows = torch.tensor(similarity).expand(ROWS, -1)
    choice = sample_negatives(rows, torch.full((ROWS,), own), torch.tensor(key_ids), uniform, hardness)
    return torch.bincount(choice, minlength=len(similarity)) / ROWS


def test_hardness_zero_draws_evenly_among_the_others():
    shares = draw_many([5.0, -3.0, 0.0, 2.0], own=0, key_ids=[0, 1, 2, 3], hardness=0.0)
    torch.testing.assert_close(shares, torch.tensor([0, 1 / 3, 1 / 3, 1 / 3]), atol=0.01, rtol=0)


def test_hardness_one_draws_in_proportion_to_the_softmax():
    shares = draw_many([9.0, math.log(1.0), math.log(2.0), math.log(5.0)], own=0, key_ids=[0, 1, 2, 3], hardness=1.0)
    torch.testing.assert_close(shares, torch.tensor([0, 1 / 8, 2 / 8, 5 / 8]), atol=0.01, rtol=0)


def test_hardness_in_between_is_a_power_of_the_softmax():
    shares = draw_many([math.log(1.0), math.log(9.0), 0.0], own=2, key_ids=[0, 1, 2], hardness=0.5)
    torch.testing.assert_close(shares, torch.tensor([1 / 4, 3 / 4, 0]), atol=0.01, rtol=0)


def test_another_caption_of_the_own_image_is_no_negative():
    shares = draw_many([50.0, 50.0, 0.0], own=7, key_ids=[7, 7, 8], hardness=1.0)
    assert shares.tolist() == [0, 0, 1]


@given(st.integers(1, 8), st.integers(0, 3), st.floats(0, 1), st.integers(0, 999))
def test_never_the_own_image_and_minus_one_where_there_is_no_other(b, kinds, hardness, seed):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, kinds + 1, (b,), generator=draw)
    similarity, uniform = 20 * torch.randn(b, b, generator=draw), torch.rand(b, b, generator=draw)
    for row, choice in enumerate(sample_negatives(similarity, ids, ids, uniform, hardness).tolist()):
        if (ids == ids[row]).all():
            assert choice == -1
        else:
            assert ids[choice] != ids[row]


def test_a_single_pair_has_no_negative():
    assert sample_negatives(torch.ones(1, 1), torch.tensor([3]), torch.tensor([3]), torch.rand(1, 1)).tolist() == [-1]


def test_one_towering_similarity_leaves_the_others_drawable():
    # After a softmax, every wrong key would have probability exactly zero, and torch.multinomial would fail.
    similarity = 1e4 * torch.eye(4)
    choice = sample_negatives(similarity, torch.arange(4), torch.arange(4), torch.rand(4, 4))
    assert all(0 <= c < 4 and c != row for row, c in enumerate(choice.tolist()))
    # And where the towering key is a wrong one, it is the hardest.
    assert (sample_negatives(similarity, torch.arange(4) + 9, torch.arange(4), torch.rand(4, 4)) == torch.arange(4)).all()


def test_uniform_numbers_of_exactly_zero_and_one_are_harmless():
    uniform = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    choice = sample_negatives(torch.zeros(2, 3), torch.tensor([0, 0]), torch.tensor([0, 1, 1]), uniform)
    assert all(c in (1, 2) for c in choice.tolist())
