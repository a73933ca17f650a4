r"""Masked image modelling: say what a hidden patch shows. Three kinds of answer, three kinds of supervision.

| target | what it asks for | where from |
| --- | --- | --- |
| `code_loss`  | the teacher's code of the patch in the shared encoding space | SemMIM [S], form [F: iBOT] |
| `pixel_loss` | its pixels, normalised per patch                              | VLMAE, MAE [F] |
| `token_loss` | its entry in a frozen codebook of patches                     | VL-BEiT, BEiT [F] |

Pixels and codebook entries are low-level: colour, edge, texture. A teacher's code changes as the model learns and carries what
agreement between views has found worth keeping [S: this is the paper's point].

All three take only the masked patches, already gathered: rows of an (m, …) tensor, no padding. `mean` divides by the number of
rows, over all processes where there are several.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from semmim_mini.objectives.agreement import cross_entropy_with

Mean = Callable[[Float[Tensor, "rows"]], Float[Tensor, ""]]


def plain_mean(values: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
    """The mean of the rows; of none, an exact zero that still carries a gradient."""
    return values.sum() / max(len(values), 1)


def code_loss(
    student: Float[Tensor, "m k"], target: Float[Tensor, "m k"], student_temperature: float = 0.1, mean: Mean = plain_mean
) -> Float[Tensor, ""]:
    """H(teacher's code, student's code) over masked patches, same view [S, F: iBOT]. Blind students pay ln k."""
    return mean(cross_entropy_with(target.detach(), student, student_temperature))


def pixel_loss(predicted: Float[Tensor, "m pixels"], patches: Float[Tensor, "m pixels"], mean: Mean = plain_mean) -> Float[Tensor, ""]:
    """Squared error to the patch's pixels, normalised to mean 0 and variance 1 within the patch [F: MAE]. Predicting 0 costs 1."""
    patches = patches.float()
    normalised = (patches - patches.mean(dim=-1, keepdim=True)) / (patches.var(dim=-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
    return mean((predicted.float() - normalised).square().mean(dim=-1))


def token_loss(logits: Float[Tensor, "m tokens"], tokens: Int[Tensor, "m"], mean: Mean = plain_mean) -> Float[Tensor, ""]:
    """Cross-entropy with the index of the patch in a frozen codebook [F: BEiT]. Blind students pay ln(codebook size)."""
    return mean(F.cross_entropy(logits.float(), tokens, reduction="none"))


def patch_pixels(images: Float[Tensor, "b 3 h w"], patch: int) -> Float[Tensor, "b n pixels"]:
    """Images cut into patches, in the encoder's order."""
    return rearrange(images, "b c (i p) (j q) -> b (i j) (p q c)", p=patch, q=patch)


def nearest_token(patches: Float[Tensor, "*rest pixels"], codebook: Float[Tensor, "tokens pixels"]) -> Int[Tensor, "*rest"]:
    """The frozen patch tokenizer: index of the closest codebook entry, the first of several.

    fp32 even under autocast: of two near entries, the wrong one would win.
    """
    flat = patches.reshape(-1, patches.shape[-1]).float()
    with torch.autocast(patches.device.type, enabled=False):
        distance = codebook.square().sum(dim=1) - 2 * flat @ codebook.T  # |x|² is the same for all entries
    return torch.argmin(distance, dim=1).reshape(patches.shape[:-1])
