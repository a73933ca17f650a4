r"""Do text-guided masks lie on what the caption names, and because it names it?

A share of hidden patches on named objects says little by itself: objects stand in the middle of most scenes, and plain ground looks
alike to any network. So every number has the reference of what gets there without a word [C]:

| number | the same without reading |
| --- | --- |
| `named_text` | `named_random`; `named_middle`, the middle of every picture; `named_untrained`, scores of networks that never learned |
| `selectivity_text`: named ones of hidden object patches | `selectivity_blind`, as many object patches of each scene, chosen blindly |
| `follows`: own − other, of two captions that name different things | zero; `follows_ceiling` is what a mask that knows the truth reaches |

The last is the number for reading. `mask_numbers` defines the last two.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semmim_mini.data.pairs import BACKGROUND
from semmim_mini.data.scene_truth import named_patches, patch_objects
from semmim_mini.instruments.held_out import HeldOut, caption_twins
from semmim_mini.instruments.mask_numbers import follows, on_named, selectivity
from semmim_mini.model.semmim import SemMIM
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
    """Shares of hidden patches on named and on any object, for the configured relevance, random masks and the middle of the picture.

    All masks of a sample hide equally many patches: the middle of the configured ratios.

    Returns:
        `named_…` and `object_…` for text, random, middle; `selectivity_text`, `selectivity_blind`, and the scenes' own `selectivity_scene`.
    """
    draw = torch.Generator().manual_seed(seed)
    parts = [(*named_and_objects(batch, step.config.image.patch), _masks(step, batch, draw)) for batch in batches]
    named, objects = (torch.cat([part[i].cpu() for part in parts]) for i in (0, 1))
    masks = {kind: torch.cat([masks[kind] for *_, masks in parts]) for kind in ("text", "random", "middle")}
    found = {f"named_{kind}": on_named(mask, named) for kind, mask in masks.items()}
    found |= {f"object_{kind}": on_named(mask, objects) for kind, mask in masks.items()}
    chosen, blind = selectivity(masks["text"], named, objects)
    whole = torch.ones_like(named)
    return found | {"selectivity_text": chosen, "selectivity_blind": blind, "selectivity_scene": selectivity(whole, named, objects)[0]}


def _masks(step: SemMIMStep, batch: HeldOut, draw: torch.Generator) -> dict[str, Bool[Tensor, "b n"]]:
    config, b = step.config, len(batch.pairs)
    counts = counts_of(step, torch.rand(b, 2, generator=draw))
    noise = torch.rand(b, config.n_patches, generator=draw)
    scores = {
        "text": relevance_of(step, batch),
        "random": noise,
        "middle": middle_first(config.data.resolution // config.image.patch).expand(b, -1),
    }
    return {kind: hide_highest(score, counts) for kind, score in scores.items()}


def guided_masks(step: SemMIMStep, batches: Sequence[HeldOut]) -> Bool[Tensor, "b n"]:
    """The text-guided masks of all batches; how many patches they hide takes no random numbers here."""
    return torch.cat([hide_highest(relevance_of(step, b), counts_of(step, torch.zeros(len(b.pairs), 2))) for b in batches])


def _named(step: SemMIMStep, batches: Sequence[HeldOut]) -> Bool[Tensor, "b n"]:
    return torch.cat([named_and_objects(b, step.config.image.patch)[0].cpu() for b in batches])


def counts_of(step: SemMIMStep, draws: Float[Tensor, "b 2"]) -> Int[Tensor, "b"]:
    """How many patches each sample hides: the middle of the configured ratios, on all samples."""
    return mask_counts(step.config.n_patches, (sum(step.config.masking.ratio) / 2,) * 2, 1.0, draws)


def relevance_of(step: SemMIMStep, batch: HeldOut) -> Float[Tensor, "b n"]:
    """The configured relevance of clean pictures to their captions."""
    return step.masker.relevance(step.config.masking.relevance, step.teach(batch, full_plan(step.config)), batch).cpu()


def middle_first(grid: int) -> Float[Tensor, "n"]:
    """Scores of patches in rows of `grid`, the higher the nearer to the middle of the picture."""
    place = torch.arange(grid) - (grid - 1) / 2
    return -(place[:, None] ** 2 + place**2).flatten()


@torch.no_grad()
def reading(step: SemMIMStep, tokenizer, batches: list[HeldOut]) -> dict[str, float]:
    """Does the mask move when the caption names something else? `follows` with its error, ceiling and number of scenes.

    Empty where no scene has two captions that name different things.
    """
    pairs = [caption_twins(batch, tokenizer, step.config.data.max_length) for batch in batches]
    pairs = [(one, two) for one, two in pairs if one.chosen != two.chosen]
    if not pairs:
        return {}
    first, second = zip(*pairs, strict=True)
    found = follows((guided_masks(step, first), guided_masks(step, second)), (_named(step, first), _named(step, second)))
    return {
        "follows": found.difference,
        "follows_error": found.error,
        "follows_ceiling": found.ceiling,
        "follows_scenes": found.scenes,
    }


def untrained_masks(step: SemMIMStep, batches: list[HeldOut], networks: int = 3) -> dict[str, float]:
    """`named_untrained`: the mean `named_text` of networks of the same configuration with the weights they begin with."""
    vocab_size, named, shares = step.model.student.text.bert.config.vocab_size, _named(step, batches), []
    for seed in range(networks):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            fresh = SemMIM(step.config, vocab_size).to(next(step.model.parameters()).device).eval()
        shares.append(on_named(guided_masks(SemMIMStep(fresh), batches), named))
    return {"named_untrained": sum(shares) / len(shares)}
