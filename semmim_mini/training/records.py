r"""What one line of metrics.jsonl holds: every loss beside what a model pays that knows nothing, and how the step was planned."""

import math

import torch

from semmim_mini.config import Config
from semmim_mini.objectives import matching
from semmim_mini.training import processes
from semmim_mini.training.schedules import Plan
from semmim_mini.training.step import StepOutput


def make_record(step: int, outputs: list[StepOutput], plan: Plan, norm: float) -> dict:
    """Means over micro-batches and processes; all numbers leave the device in one transfer."""
    device = next(iter(outputs[0].losses.values())).device if outputs[0].losses else torch.device("cpu")
    names = [(group, name) for group in ("losses", "metrics") for name in getattr(outputs[0], group)]
    values = [torch.stack([getattr(o, group)[name].detach().float().to(device) for o in outputs]).mean() for group, name in names]
    numbers = dict(zip(names, processes.average(torch.stack(values)).tolist(), strict=True)) if values else {}
    return {
        "step": step,
        "loss": {name: value for (group, name), value in numbers.items() if group == "losses"},
        **{name: value for (group, name), value in numbers.items() if group == "metrics"},
        "grad_norm": norm,
        "lr_factor": plan.lr_factor,
        "momentum": plan.momentum,
        "teacher_temperature": plan.teacher_temperature,
        "hardness": plan.hardness,
        "random_mask": plan.random_mask,
    }


def chance_levels(config: Config, vocab_size: int, record: dict) -> dict[str, float]:
    """What a model that knows nothing pays for each term of this step, in the term's own unit."""
    codes = math.log(config.space.prototypes)
    levels = {
        "itc": math.log(max(record.get("itc_keys", 1), 1)),
        "itm": matching.CHANCE,
        "mlm": math.log(vocab_size),
        "caption": math.log(vocab_size),
        "answer": math.log(vocab_size),
        "consensus": codes,
        "mim": {"codes": codes, "pixels": 1.0, "tokens": math.log(config.losses.patch_tokens)}[config.losses.mim_target],
    }
    return {name: levels[name] for name in record["loss"]}
