r"""Image–text matching (ITM): do this picture and this sentence belong together?

A binary question, asked of the fused pair: each true pair against one wrong text and one wrong image. The wrong ones are *hard*:
drawn in proportion to their contrastive similarity, so that only a look at details can tell [F: ALBEF]. One pair in three is
true, so a head that ignores its input pays the entropy of (1/3, 2/3) = 0.6365 nats.

From scratch, hard negatives come too early: before anything is learned the hardest wrong pair is as good as the right one, and
the loss stays at 0.6365. `hardness` lets a run begin with random negatives and sharpen them [C].
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CHANCE = 0.6365141682948128  # entropy of (1/3, 2/3) in nats


@torch.no_grad()
def sample_negatives(
    similarity: Float[Tensor, "b keys"],
    ids: Int[Tensor, "b"],
    key_ids: Int[Tensor, "keys"],
    uniform: Float[Tensor, "b keys"],
    hardness: float = 1.0,
) -> Int[Tensor, "b"]:
    """For each row one key of another image, drawn from softmax(hardness · similarity); −1 where there is none, as in a batch of one
    pair or of one image. Where all similarities are equal, every key of another image is equally likely.

    Args:
        similarity: ITC logits, that is cosine over temperature.
        ids, key_ids: image identities; keys with the row's own id are never drawn.
        uniform: numbers in (0, 1), one per candidate: the Gumbel trick turns them into an exact draw, without probabilities
            that could underflow to zero when one similarity towers over all others.
        hardness: 0 draws uniformly, 1 as ALBEF does.
    """
    gumbel = -torch.log(-torch.log(uniform.float().clamp(1e-12, 1 - 1e-7)))
    score = (hardness * similarity.float() + gumbel).masked_fill(ids[:, None] == key_ids[None, :], float("-inf"))
    best, choice = score.max(dim=1)
    return torch.where(best.isneginf(), -1, choice)


def itm_loss(logits: Float[Tensor, "pairs 2"], matched: Int[Tensor, "pairs"]) -> Float[Tensor, ""]:
    """Cross-entropy over (not matched, matched), in fp32. Without any wrong pair, true ones alone remain: then chance is 0, not 0.6365."""
    return F.cross_entropy(logits.float(), matched)
