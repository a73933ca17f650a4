"""AdamW with the field's parameter groups: no decay on biases, norms and other vectors; a lower rate for pre-trained layers."""

import torch

from semmim_mini.config import OptimConfig
from semmim_mini.model import pretrained_image
from semmim_mini.model.semmim import SemMIM

FRESH = (*(f"student.image.{part}" for part in pretrained_image.FRESH), "student.text.readout.")  # new where all else is pre-trained


def build_optimizer(model: SemMIM, config: OptimConfig) -> torch.optim.AdamW:
    """Groups by (decay, pre-trained). Each keeps its base rate in `base_lr`; `set_rate` scales all by the schedule."""
    groups: dict[tuple[bool, bool], list] = {}
    for name, parameter in model.trainable():
        pretrained = _is_pretrained(name, model)
        groups.setdefault((parameter.ndim >= 2, pretrained), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if decay else 0.0,
                "base_lr": config.lr_pretrained if pretrained else config.lr,
            }
            for (decay, pretrained), parameters in sorted(groups.items())
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,  # one pass over the parameters instead of a dozen
    )


def _is_pretrained(name: str, model: SemMIM) -> bool:
    if name.startswith(FRESH) or ".text_attention." in name:
        return False
    groups = (("student.text.", model.config.text), ("student.image.", model.config.image))
    return any(name.startswith(prefix) and bool(group.pretrained) for prefix, group in groups)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
