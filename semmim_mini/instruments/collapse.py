r"""Has the encoding space collapsed? Three symptoms on held-out images, and their course over the run.

Collapse has two ends: one code for everything (entropy of the mean target near 0) and the same flat code for everything (entropy
of each target near ln k). In between, prototypes can die one by one: count those in use, early and late.
"""

import math

import torch
from einops import rearrange

from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.training.schedules import full_plan
from semmim_mini.training.step import SemMIMStep, StepOutput


@torch.no_grad()
def collapse(step: SemMIMStep, batches: list[HeldOut]) -> dict[str, float]:
    """Entropy of the teacher's patch targets against ln k; prototypes that are some patch's, or some [CLS]'s, best match."""
    k, entropies, variance, plan = step.config.space.prototypes, [], [], full_plan(step.config)
    patch_used, cls_used = torch.zeros(k, dtype=torch.bool), torch.zeros(k, dtype=torch.bool)
    for batch in batches:
        teaching = step.teach(batch, plan)
        logits = step.model.teacher.space.patch(teaching.patches[:, 1:])
        everything = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        target = step.patch_targets(teaching.patches[:, 1:], everything, plan, StepOutput({}))
        entropies.append(-(target * target.clamp_min(1e-12).log()).sum(dim=-1))
        variance.append(rearrange(target, "(b n) k -> b n k", n=logits.shape[1]).var(dim=1).sum(dim=-1))
        patch_used[logits.argmax(dim=-1).flatten().cpu()] = True
        cls_used[step.model.teacher.space.cls.score(teaching.cls_directions[0]).argmax(dim=-1).cpu()] = True
    return {
        "teacher_entropy": torch.cat(entropies).mean().item(),
        "max_entropy": math.log(k),
        "prototypes": k,
        "prototypes_used": int(patch_used.sum()),
        "prototypes_used_cls": int(cls_used.sum()),
        "target_variance_across_patches": torch.cat(variance).mean().item(),
    }


def codes_over_the_run(records: list[dict], share: float = 0.1) -> dict[str, float]:
    """Prototypes in use per batch, early and late in the run: means over the first and last `share` of the steps that count them.

    Early starts after prototypes and targets have settled, at the second tenth.
    """
    result = {}
    for name in ("patch", "cls"):
        counts = [r[f"{name}_prototypes_used"] for r in records if f"{name}_prototypes_used" in r]
        if counts:
            window = max(1, int(len(counts) * share))
            early = counts[window : 2 * window] or counts[:1]
            result[f"{name}_codes_per_batch_early"] = sum(early) / len(early)
            result[f"{name}_codes_per_batch_late"] = sum(counts[-window:]) / window
    return result
