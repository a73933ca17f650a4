r"""How much of a mask is named, and whether the words have anything to do with it.

Three questions about masks (b, n), each with a stricter reference [C]:

| question | number | what needs no words |
| --- | --- | --- |
| does it lie on what the caption names? | `on_named` | a random mask |
| does it prefer named objects to others? | `selectivity` | a mask of as many object patches in each scene, chosen blindly |
| does it move with the caption? | `follows` | the mask of the same picture with a caption that names other things |

Why the second reference is not the scenes' own share: scenes differ. A score that hides more object patches where everything is
named anyway gains on that share without reading a word.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CLEAR, TRACE = 0.25, 2.0  # a quarter of what is possible; two standard errors away from zero


def on_named(mask: Bool[Tensor, "b n"], named: Bool[Tensor, "b n"]) -> float:
    """Share of the hidden patches that lie on True patches of `named`."""
    return float((mask & named).sum() / mask.sum())


def selectivity(mask: Bool[Tensor, "b n"], named: Bool[Tensor, "b n"], objects: Bool[Tensor, "b n"]) -> tuple[float, float]:
    """Named ones among the hidden object patches of all scenes, and what a blind choice of as many in each scene would reach."""
    hidden = (mask & objects).sum(dim=1).double()
    blind = hidden * named.sum(dim=1) / objects.sum(dim=1).clamp_min(1)
    return float((mask & named).sum() / hidden.sum()), float(blind.sum() / hidden.sum())


class Follows(NamedTuple):
    """Own minus other: what of two captions' masks lies on objects that only the caption read names, less what lies on the other's."""

    difference: float
    error: float  # standard error over scenes
    ceiling: float  # of masks that hide first what only their own caption names, and never the other's if they can help it
    scenes: int

    @property
    def verdict(self) -> str:
        """In words, decided by the numbers."""
        if self.difference <= -TRACE * self.error:
            return "if anything, these masks prefer what is not named"
        if not self.difference >= TRACE * self.error:  # also where one scene has no error
            return "no sign of reading: these masks find objects"
        if self.difference < CLEAR * self.ceiling:
            return "a trace of reading: mostly, these masks find objects"
        return "these masks read the caption"


def follows(masks: tuple[Tensor, Tensor], named: tuple[Tensor, Tensor]) -> Follows:
    """Masks (b, n) of the same pictures for two captions that name different objects, and what each caption names.

    `held_out.caption_twins` finds such pictures and captions. `figures.masks.masks_for_two_captions` has the same difference; here
    it comes with its error and with the most it could be.
    """
    only = named[0] & ~named[1], named[1] & ~named[0]
    hidden = sum(mask.sum(dim=1) for mask in masks)
    own = sum((mask & mine).sum(dim=1) for mask, mine in zip(masks, only, strict=True))
    other = sum((mask & theirs).sum(dim=1) for mask, theirs in zip(masks, reversed(only), strict=True))
    scores = (own - other) / hidden
    return Follows(
        difference=float(scores.mean()),
        error=float(scores.std() / len(scores) ** 0.5),
        ceiling=float(_ceiling(masks, only).mean()),
        scenes=len(scores),
    )


def _ceiling(masks: tuple[Tensor, Tensor], only: tuple[Tensor, Tensor]) -> Float[Tensor, "b"]:
    """The difference of masks of the same sizes that know the truth."""
    gained = torch.zeros(len(masks[0]))
    for mask, mine, theirs in zip(masks, only, reversed(only), strict=True):
        count, n = mask.sum(dim=1), mask.shape[1]
        best = torch.minimum(count, mine.sum(dim=1))
        forced = (count - (n - theirs.sum(dim=1))).clamp_min(0)  # more to hide than there is besides the other's objects
        gained += best - forced
    return gained / sum(mask.sum(dim=1) for mask in masks)
