r"""From teacher logits to targets: sharp enough to say something, balanced enough that no prototype takes all.

A teacher that answers every image with the same code makes agreement trivially easy: collapse. Two guards are built:

**Centring** [F: DINO]. Subtract a running mean c from the logits, then sharpen:

$$ p = \mathrm{softmax}\big((t - c)/\tau_t\big), \qquad c \leftarrow \mu\, c + (1-\mu)\, \overline{t}. $$

Centring alone drifts to uniform, sharpening alone to one code; together they hold each other, with little force in short runs.

**Sinkhorn–Knopp** [F: SwAV; C: our default for short runs]. Find the assignment of a whole batch that is closest to the
teacher's and uses every prototype equally, by scaling columns and rows in turn. Balance holds within each batch, by construction.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def centred_targets(logits: Float[Tensor, "*rest k"], center: Float[Tensor, "k"], temperature: float) -> Float[Tensor, "*rest k"]:
    """softmax((t − c)/τ_t) [F: DINO]."""
    return F.softmax((logits.detach().float() - center).div_(temperature), dim=-1)  # in place: rows × k is wide


def update_center(center: Float[Tensor, "k"], batch_mean: Float[Tensor, "k"], momentum: float = 0.9) -> Float[Tensor, "k"]:
    """c ← μ·c + (1−μ)·mean [F: DINO]. `batch_mean` is the mean over all processes; call it after the loss."""
    return center.lerp(batch_mean.float(), 1 - momentum)


@torch.no_grad()
def sinkhorn_targets(
    logits: Float[Tensor, "rows k"],
    temperature: float,
    iterations: int = 3,
    total: Callable[[Tensor], Tensor] = lambda x: x,
) -> Float[Tensor, "rows k"]:
    """Balanced soft assignments: each row sums to one, each column to about rows/k.

    Args:
        temperature: τ_t; smaller is sharper.
        iterations: column-then-row scalings [F: 3 in SwAV].
        total: sums a (k,) tensor over processes, so that many processes balance their common batch.

    One row alone, and rows that are all alike, become uniform: a vocabulary that must be used evenly has nothing to say about them.
    A column that sums to less than 1e-12 needs an iteration more than others to get its share.

    Starting from row-wise softmax changes nothing at the fixed point and keeps every row representable in fp32.
    """
    assignment = F.softmax(logits.detach().float() / temperature, dim=-1)
    for _ in range(iterations):
        column = total(assignment.sum(dim=0)).clamp_min(1e-12)  # a prototype nobody wants must not divide by zero
        assignment.div_(column)  # in place: rows × k is the widest that a step has
        assignment.div_(assignment.sum(dim=1, keepdim=True).clamp_min(1e-30))
    return assignment
