r"""Masked language modelling (MLM) and captioning: recover words, with the image as context [F: BERT, ALBEF; mPLUG, BLIP].

Chance is not ln(vocabulary): word frequencies alone already help. The bound without context is the entropy of the words' own
distribution, which `unigram_entropy` measures.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from semmim_mini.objectives.masked_image import Mean, plain_mean

IGNORE = -100


def mlm_loss(logits: Float[Tensor, "m vocab"], words: Int[Tensor, "m"], mean: Mean = plain_mean) -> Float[Tensor, ""]:
    """Cross-entropy on the masked words only; both arguments hold just those."""
    return mean(F.cross_entropy(logits.float(), words, reduction="none"))


def caption_loss(logits: Float[Tensor, "b l vocab"], ids: Int[Tensor, "b l"], words: Tensor, mean: Mean = plain_mean) -> Float[Tensor, ""]:
    """Cross-entropy of each next word given the words before it and the image; padding is not predicted."""
    wanted = words[:, 1:]
    return mean(F.cross_entropy(logits[:, :-1][wanted].float(), ids[:, 1:][wanted], reduction="none"))


def unigram_entropy(ids: Int[Tensor, "tokens"]) -> float:
    """Entropy in nats of how often each token occurs: what a guesser pays who knows frequencies and nothing else."""
    share = torch.bincount(ids).double()
    share = share[share > 0] / share.sum()
    return float(-(share * share.log()).sum())
