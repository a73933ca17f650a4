r"""Do text-guided masks lie on what the caption names?

Two shares of the masked patches: on objects the caption *names*, and on *any* object. A random mask of the same size gives the
base rates. Their quotient tells guidance from objectness: a score that finds objects but not the named ones raises both shares
alike, and named/object stays at the scene's own ratio. Only a score that reads the caption moves it.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from semmim_mini.data.pairs import BACKGROUND
from semmim_mini.data.scene_truth import named_patches, patch_objects
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.objectives.masking import hide_highest, mask_counts
from semmim_mini.training.schedules import full_plan
from semmim_mini.training.step import SemMIMStep


def named_and_objects(batch: HeldOut, patch: int) -> tuple[Bool[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Per patch: shows an object the chosen caption names; shows any object."""
    named = [
        named_patches(pair.truth, caption, patch, object_map=objects)
        for pair, caption, objects in zip(batch.pairs, batch.chosen, batch.object_maps, strict=True)
    ]
    anything = [patch_objects(objects, patch) != BACKGROUND for objects in batch.object_maps]
    return torch.stack(named), torch.stack(anything)


@torch.no_grad()
def mask_quality(step: SemMIMStep, batches: list[HeldOut], seed: int = 0) -> dict[str, float]:
    """Shares of masked patches on named and on any object, for the configured relevance and for random masks.

    Keys named_text, named_random, object_text, object_random; `selectivity_text` is named/object of the text-guided mask and
    `selectivity_scene` the scenes' own.
    """
    config, draw = step.config, torch.Generator().manual_seed(seed)
    hits = {"text": torch.zeros(3), "random": torch.zeros(3), "scene": torch.zeros(3)}
    for batch in batches:
        named, anything = (x.cpu() for x in named_and_objects(batch, config.image.patch))
        ratio = (sum(config.masking.ratio) / 2,) * 2
        counts = mask_counts(config.n_patches, ratio, 1.0, torch.rand(len(named), 2, generator=draw))
        relevance = step.masker.relevance(config.masking.relevance, step.teach(batch, full_plan(config)), batch).cpu()
        masks = {
            "text": hide_highest(relevance, counts),
            "random": hide_highest(torch.rand(named.shape, generator=draw), counts),
            "scene": torch.ones_like(named),
        }
        for kind, mask in masks.items():
            hits[kind] += torch.stack([(mask & named).sum(), (mask & anything).sum(), mask.sum()]).float()
    share = {kind: (n / m, o / m, n / o) for kind, (n, o, m) in ((kind, h.tolist()) for kind, h in hits.items())}
    return {
        "named_text": share["text"][0],
        "named_random": share["random"][0],
        "object_text": share["text"][1],
        "object_random": share["random"][1],
        "selectivity_text": share["text"][2],
        "selectivity_scene": share["scene"][2],
    }
