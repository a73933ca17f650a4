"""Numbers of masks: by hand, then for masks that read, that read nothing, and that choose their scenes."""

import math

import pytest
import torch

from semmim_mini.instruments.mask_numbers import Follows, follows, on_named, selectivity


def rows(*texts: str) -> torch.Tensor:
    """Masks from strings: x is True."""
    return torch.tensor([[letter == "x" for letter in text] for text in texts])


def test_shares_by_hand():
    named, objects = rows("x...", "xx.."), rows("xx..", "xxxx")
    mask = rows("xx..", ".xx.")
    assert on_named(mask, named) == 2 / 4
    # Named among the hidden object patches: 1 of 2 and 1 of 2. Blind: 2 · ½ + 2 · 2/4.
    assert selectivity(mask, named, objects) == (2 / 4, 2 / 4)
    assert selectivity(rows("x...", "xx.."), named, objects) == (1.0, pytest.approx((1 * 0.5 + 2 * 0.5) / 3))


def test_a_mask_that_chooses_its_scenes_beats_their_share_and_not_blind():
    named, objects = rows("xx..", "x..."), rows("xx..", "xxxx")
    only_where_all_is_named = rows("xx..", "....")
    got, blind = selectivity(only_where_all_is_named, named, objects)
    assert got == blind == 1.0 and float(named.sum() / objects.sum()) == 0.5


def test_a_scene_without_objects_counts_for_nothing():
    got, blind = selectivity(rows("x...", "x..."), rows("x...", "...."), rows("xx..", "...."))
    assert (got, blind) == (1.0, 0.5)


# the same picture, two captions ---------------------------------------------------------------------------------------

FIRST, SECOND = rows("xx..", "x..."), rows("..xx", ".x..")


def test_following_by_hand():
    found = follows((rows("x...", "x..."), rows("..x.", "x...")), (FIRST, SECOND))
    # Scene 0: both masks on their own caption's object. Scene 1: one on its own, one on the other's.
    assert found.difference == 0.5 and found.scenes == 2
    assert found.error == pytest.approx(math.sqrt(0.5) / math.sqrt(2))  # of 1 and 0
    assert found.ceiling == 1.0


def test_the_ceiling_is_what_the_truth_reaches():
    masks = rows("xxx.", "xxx."), rows(".xxx", ".xxx")
    best = rows("xxx.", "x.xx"), rows(".xxx", ".xxx")  # own first, then neither's, the other's last
    assert follows(masks, (FIRST, SECOND)).ceiling == pytest.approx(follows(best, (FIRST, SECOND)).difference)


def test_masks_that_ignore_the_words_have_no_difference():
    same = rows("xxx.", "xx..")
    assert follows((same, same), (FIRST, SECOND)).difference == 0.0


@pytest.mark.parametrize(
    ("difference", "error", "words"),
    [
        (0.01, 0.01, "no sign"),
        (0.03, 0.01, "a trace"),
        (0.30, 0.01, "read the caption"),
        (-0.03, 0.01, "not named"),
        (0.01, math.nan, "no sign"),
    ],
)
def test_the_verdict_is_decided_by_the_numbers(difference, error, words):
    assert words in Follows(difference, error, ceiling=0.5, scenes=9).verdict
