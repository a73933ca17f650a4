"""What stands beside each loss: the price of knowing nothing, in the term's own unit."""

import math

import pytest

from semmim_mini.objectives.masked_language import mlm_loss
from semmim_mini.training.records import chance_levels

RECORD = {"loss": dict.fromkeys(("itc", "itm", "mlm", "consensus", "mim", "caption"), 1.0), "itc_keys": 12.0}


def test_by_hand(tiny):
    levels = chance_levels(tiny(), 300, RECORD)  # k = 6
    assert levels == pytest.approx(
        {
            "itc": math.log(12),
            "itm": math.log(3) - 2 / 3 * math.log(2),  # one of three pairs is true, and nothing else is known
            "mlm": math.log(300),
            "consensus": math.log(6),
            "mim": math.log(6),
            "caption": math.log(300),
        }
    )


def test_a_blind_word_head_pays_it():
    import torch

    assert mlm_loss(torch.zeros(5, 300), torch.arange(5)).item() == pytest.approx(math.log(300))


@pytest.mark.parametrize(("target", "level"), [("codes", math.log(6)), ("pixels", 1.0), ("tokens", math.log(5))])
def test_of_mim_by_its_target(tiny, target, level):
    assert chance_levels(tiny(f"losses.mim_target={target}"), 300, RECORD)["mim"] == pytest.approx(level)


def test_only_terms_of_this_step_have_one(tiny):
    assert chance_levels(tiny(), 300, {"loss": {"mlm": 2.0}}) == {"mlm": pytest.approx(math.log(300))}
    assert chance_levels(tiny(), 300, {"loss": {}}) == {}


def test_contrast_without_keys_is_no_contrast(tiny):
    assert chance_levels(tiny(), 300, {"loss": {"itc": 0.0}}) == {"itc": 0.0}
