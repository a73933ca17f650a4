r"""Which patches to hide: relevance scores, and strategies that turn scores into masks.

Text-guided masking [S]
    Hide the patches that matter to the caption: filling them in is hard from the surroundings and possible with the words, so
    that masked modelling becomes cross-modal. Which end to hide is not stated; we hide the MOST relevant ones
    [F: AttMask's logic, C for text], and `text_low` hides the least.

Relevance [C: which one; all selectable]
    `caption`  cross-attention of the caption decoder, from the caption's words to the patches: learned from the first step on, word
             by word, so it points at objects before anything else does
    `cross`  the same of the fusion encoder, which ITM and MLM train
    `query`  the text [CLS] asks through an image layer's own query projection [F: TRIPS]
    `itc`    cosine between projected patches and the projected text [CLS]; only [CLS] was ever trained through that projection,
             so patch scores are a by-product

Every function is pure. Random numbers come in as arguments, so that runs repeat exactly and many processes draw one common mask.
Counts are exact: floor(r·n) patches for each masked sample, at least one. Scores are fp32 even under autocast: rounded to the three
digits of bf16, patches tie that do not, and ties go to the earlier patch.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semmim_mini.model.layers import attention_weights


def cross_relevance(weights: Float[Tensor, "layers b h l n"], content: Bool[Tensor, "b l"]) -> Float[Tensor, "b n"]:
    """Mean cross-attention from the content tokens of a caption to each patch, over layers and heads [C].

    Args:
        content: True on words; False on [CLS], [SEP] and padding, which are about nothing in the picture. A caption without words
            finds all patches equally relevant: 0.
    """
    per_token = weights.float().mean(dim=(0, 2))  # b l n
    content = content.float()
    with torch.autocast(weights.device.type, enabled=False):
        return torch.einsum("bln,bl->bn", per_token, content) / content.sum(dim=1, keepdim=True).clamp_min(1)


def query_relevance(query: Float[Tensor, "b h 1 c"], keys: Float[Tensor, "b h n c"]) -> Float[Tensor, "b n"]:
    """softmax over patches of text-query · patch-key, averaged over heads; [CLS] of the image takes no part [F: TRIPS]."""
    return attention_weights(query, keys).mean(dim=1)[:, 0]


def itc_relevance(patches: Float[Tensor, "b n p"], text: Float[Tensor, "b p"]) -> Float[Tensor, "b n"]:
    """Cosine between each projected patch and the projected text [CLS] [C: a warning more than a proposal]; 0 with a zero vector."""
    with torch.autocast(patches.device.type, enabled=False):
        return torch.einsum("bnp,bp->bn", F.normalize(patches.float(), dim=-1), F.normalize(text.float(), dim=-1))


def mask_counts(n: int, ratio: tuple[float, float], masked_share: float, draws: Float[Tensor, "b 2"]) -> Int[Tensor, "b"]:
    """How many patches to hide in each sample: 0, or floor(r·n) ≥ 1 with r ~ U(ratio) [F: AttMask, iBOT].

    Args:
        draws: uniform numbers in [0, 1): the first decides whether a sample is masked, the second its r.
    """
    low, high = ratio
    share = low + (high - low) * draws[:, 1].double()
    # The small addition undoes binary rounding: 0.3 · 10 must be 3.
    counts = (share * n + 1e-9).floor().long().clamp(1, n)
    return counts * (draws[:, 0] < masked_share)


def hide_highest(scores: Float[Tensor, "b n"], counts: Int[Tensor, "b"]) -> Bool[Tensor, "b n"]:
    """Hide the `counts` patches with the highest score of each sample; ties go to the earlier patch, so where all scores are equal
    the first patches in reading order are hidden.

    One function serves four strategies: `text_high` (scores), `text_low` (−scores), `random` (uniform noise) and
    `attention` (the teacher's [CLS]→patch attention [F: AttMask]).
    """
    rank = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return rank < counts[:, None].to(rank.device)


def hide_blocks(side: int, counts: Int[Tensor, "b"], generator: torch.Generator) -> Bool[Tensor, "b n"]:
    """Rectangular blocks of random size, place and aspect (0.3 to 1/0.3) until the count is reached exactly [F: BEiT]."""
    masks = torch.zeros(len(counts), side, side, dtype=torch.bool)
    for mask, count in zip(masks, counts.tolist(), strict=True):
        while (missing := count - int(mask.sum())) > 0:
            _hide_one_block(mask, missing, generator)
    return masks.flatten(1)


def _hide_one_block(mask: Bool[Tensor, "side side"], missing: int, generator: torch.Generator) -> None:
    """One block of at most `missing` patches; a block that would overshoot hides its first `missing` open patches only."""
    side = len(mask)
    size, aspect, top, left = torch.rand(4, generator=generator).tolist()
    area = 1 + size * (max(missing, 1) - 1)
    aspect = math.exp(math.log(0.3) + aspect * 2 * -math.log(0.3))
    height = min(side, max(1, round(math.sqrt(area * aspect))))
    width = min(side, max(1, round(math.sqrt(area / aspect))))
    row, column = int(top * (side - height + 1)), int(left * (side - width + 1))
    block = torch.zeros_like(mask)
    block[row : row + height, column : column + width] = True
    open_patches = (block & ~mask).flatten().nonzero()[:missing]
    mask.view(-1)[open_patches] = True
