r"""Consensus: two views of one image must land on the same code.

The idea [S: self-supervised agreement learning; H: question 9]
    Two crops of one photo share no pixels to copy, only what is shown. A student that predicts, from one view, the teacher's
    code of the *other* view can succeed in no way but by encoding content. That is where high-level semantics come from.

The form [F: DINO, Caron et al. 2021]
$$ \mathcal{L}_{\text{consensus}} = \frac{1}{v(v-1)} \sum_{u \neq w} H\big(p^t_u,\; \mathrm{softmax}(s_w/\tau_s)\big) $$

How to read it: a blind student pays ln k; a perfect one pays the teacher's entropy, not zero. Both lines belong on the curve.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def cross_entropy_with(target: Float[Tensor, "*rest k"], logits: Float[Tensor, "*rest k"], temperature: float) -> Float[Tensor, "*rest"]:
    """H(target, softmax(logits/τ)) per row, in nats, in fp32."""
    return -(target * F.log_softmax(logits.float() / temperature, dim=-1)).sum(dim=-1)


def consensus_loss(student: Float[Tensor, "v b k"], target: Float[Tensor, "v b k"], student_temperature: float = 0.1) -> Float[Tensor, ""]:
    """Mean cross-entropy over ordered pairs of different views.

    Args:
        student: logits of v views of b images; gradients flow here only.
        target: the teacher's balanced codes of the same views (`targets.py`).

    Raises:
        ValueError: with fewer than two views there is nothing to agree on.
    """
    if len(student) < 2:
        raise ValueError(f"consensus needs at least 2 views, got {len(student)}; give it two augmented views of each image")
    target, views = target.detach(), range(len(student))
    # A view is never compared with itself: that would be solved by copying.
    pairs = [cross_entropy_with(target[u], student[w], student_temperature) for u in views for w in views if u != w]
    return torch.stack(pairs).mean()
