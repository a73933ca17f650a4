r"""From the arithmetic of a step to the hours of a run.

$$ \text{hours} = \frac{\text{FLOPs of all steps}}{\text{GPUs} \cdot \text{peak of one} \cdot \text{utilisation}} \Big/ 3600 $$

Terms join during a run, so its steps do not all cost the same: FLOPs are added up over the phases between the points where one
begins. Utilisation is the share of the GPUs' peak that a run reaches, all waiting included. It is a guess, 0.35 [C], until a run on
the machines in question has told: measure it (`plan --measure`, `bench`) and give it with `--utilisation`.
"""

import math
from dataclasses import replace
from itertools import pairwise

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.plan.arithmetic import arithmetic
from semmim_mini.plan.sizes import Sizes, sizes_of
from semmim_mini.training.schedules import TERMS

UTILISATION = 0.35


def with_steps(config: Config, images: float | None, epochs: float | None) -> Config:
    """The configuration for so many passes over so many images; as it is if neither is given.

    Raises:
        UserError: one without the other, or a number that is not above 0.
    """
    if images is None and epochs is None:
        return config
    if not (images and epochs and images > 0 and epochs > 0 and math.isfinite(images * epochs)):
        raise UserError(f"--images {images} and --epochs {epochs} make no run; give both, each above 0, such as --images 4e6 --epochs 30")
    return replace(config, run=replace(config.run, steps=math.ceil(images * epochs / config.data.batch_size)))


def flops_of_step(sizes: Sizes) -> float:
    """Of one optimiser step, over all GPUs and micro-batches."""
    one = sum(part["forward"] + part["backward"] for part in arithmetic(sizes).values())
    return one * sizes.gpus * sizes.config.run.accumulate


def flops_of_run(config: Config, gpus: int, vocab: int) -> float:
    """Of all steps: each phase by the step in its middle."""
    ends = sorted(_changes(config))
    middles = [((begin + end) / 2, end - begin) for begin, end in pairwise(ends)]
    steps = config.run.steps
    return sum(share * steps * flops_of_step(sizes_of(config, gpus, vocab, int(at * steps))) for at, share in middles)


def _changes(config: Config) -> set[float]:
    """Shares of the run at which steps become more expensive."""
    losses = config.losses
    starts = {getattr(losses, name).start for name in TERMS if getattr(losses, name).weight > 0}
    masks = losses.mim.start + config.masking.random_until * (1 - losses.mim.start)
    return {0.0, 1.0, losses.alpha_ramp[0], min(masks, 1.0)} | starts


def duration(config: Config, gpus: int, vocab: int, peak: float, utilisation: float) -> dict[str, float]:
    """Steps, FLOPs and hours of the run.

    Args:
        peak: FLOP/s of one GPU.
        utilisation: share of it that is reached.

    Raises:
        UserError: a utilisation that cannot be.
    """
    if not 0 < utilisation <= 1:
        raise UserError(f"--utilisation {utilisation} is impossible: it needs a share of the peak above 0, up to 1")
    total = flops_of_run(config, gpus, vocab)
    seconds = total / (gpus * peak * utilisation)
    seen = config.run.steps * config.data.batch_size
    return {
        "steps": config.run.steps,
        "images_seen": seen,
        "flops": total,
        "utilisation": utilisation,
        "hours": seconds / 3600,
        "seconds_per_step": seconds / config.run.steps,
        "images_per_second": seen / seconds,
    }
