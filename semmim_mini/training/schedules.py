r"""Everything that changes over a run, as a function of the step alone.

A `Plan` is what step t of T has to know: which terms are on and with what weight, how hard negatives are, how sharp the teacher.
Because it depends on nothing but (config, t), a resumed run plans exactly as the undisturbed one.
"""

import math
from dataclasses import dataclass, replace

from semmim_mini.config import Config

PRETRAINING_TERMS = ("itc", "itm", "mlm", "consensus", "mim", "caption")
TERMS = (*PRETRAINING_TERMS, "answer")


@dataclass(frozen=True)
class Plan:
    """What one step does."""

    step: int
    weights: dict[str, float]  # of the terms that are on at this step; the others are not computed
    alpha: float  # teacher's share of the ITC targets
    hardness: float  # of ITM negatives
    teacher_temperature: float
    momentum: float  # of the teacher
    lr_factor: float  # times the base rate
    random_mask: bool  # patch scores mean nothing yet
    prototypes_frozen: bool

    def has(self, *terms: str) -> bool:
        return any(term in self.weights for term in terms)


def plan_at(config: Config, step: int) -> Plan:
    """The plan of step `step` (from 0) of `config.run.steps`."""
    t, losses, teacher = step / config.run.steps, config.losses, config.teacher
    terms = {name: getattr(losses, name) for name in TERMS}
    return Plan(
        step=step,
        weights={name: term.weight for name, term in terms.items() if term.weight > 0 and t >= term.start},
        alpha=losses.alpha * ramp(t, *losses.alpha_ramp),
        hardness=ramp(t, *losses.hard_negatives),
        teacher_temperature=teacher.temperature_start
        + (teacher.temperature - teacher.temperature_start) * ramp(t, 0, teacher.temperature_warmup),
        momentum=teacher_momentum(config, step),
        lr_factor=warmup_cosine(t, config.optim.warmup, config.optim.lr_end / config.optim.lr),
        random_mask=t < losses.mim.start + config.masking.random_until * (1 - losses.mim.start),
        prototypes_frozen=t < space_start(config) + config.space.freeze_share * (1 - space_start(config)),
    )


def full_plan(config: Config) -> Plan:
    """The plan of the instruments: consensus and MIM on, targets and masks as at the end of the run."""
    plan = plan_at(config, config.run.steps - 1)
    return replace(plan, weights=plan.weights | {"consensus": 1.0, "mim": 1.0}, random_mask=False)


def ramp(t: float, begin: float, end: float) -> float:
    """0 before `begin`, 1 from `end` on, straight between. begin = end is a switch; at 0, 1 throughout."""
    if t >= end:
        return 1.0
    return (t - begin) / (end - begin) if t > begin else 0.0


def warmup_cosine(t: float, warmup: float, end: float) -> float:
    """Linear from near 0 to 1 over `warmup`, then cosine to `end` [F]."""
    if t < warmup:
        return (t + 1e-3) / (warmup + 1e-3)
    return end + (1 - end) * (1 + math.cos(math.pi * (t - warmup) / (1 - warmup))) / 2


def teacher_momentum(config: Config, step: int) -> float:
    """EMA momentum at a step.

    constant [F: ALBEF, 0.995] · cosine from momentum to 1 [F: DINO] · warmup, min(momentum, (1+t)/(10+t)) [C]: an average over
    the last hundreds of steps is no teacher while a run has seen only tens.
    """
    momentum = config.teacher.momentum
    if config.teacher.momentum_schedule == "cosine":
        return 1 - (1 - momentum) * (1 + math.cos(math.pi * step / config.run.steps)) / 2
    if config.teacher.momentum_schedule == "warmup":
        return min(momentum, (1 + step) / (10 + step))
    return momentum


def space_start(config: Config) -> float:
    """The share of the run after which the encoding space is first used; 1 if never."""
    losses = config.losses
    users = [losses.consensus] + ([losses.mim] if losses.mim_target == "codes" else [])
    return min((term.start for term in users if term.weight > 0), default=1.0)


def first_step(config: Config, share: float) -> int:
    """The first step whose progress reaches `share`."""
    step = max(math.ceil(share * config.run.steps) - 1, 0)  # 0.07 · 100 is a little more than 7 in binary
    return step if step / config.run.steps >= share else step + 1
