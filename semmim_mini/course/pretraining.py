"""Notebook 07, pre-training: which term teaches which part, and checkers for chance, rate, teacher, loss scale and data order."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from semmim_mini.config import Config, override
from semmim_mini.course.checking import Case, Mistake, compare
from semmim_mini.data.loader import Batch
from semmim_mini.objectives.matching import CHANCE
from semmim_mini.presets import preset
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Training
from semmim_mini.training.records import chance_levels
from semmim_mini.training.schedules import Plan, warmup_cosine
from semmim_mini.training.step import SemMIMStep

# Parts of `SemMIM` by the beginnings of their parameters' names; the longest that fits.
PARTS = {
    "student.image.": "image encoder",
    "student.text.": "text encoder",
    "student.image.text_map": "words into patches",
    "student.image_projection": "ITC projections, τ",
    "student.text_projection": "ITC projections, τ",
    "temperature": "ITC projections, τ",
    "student.space.": "encoding space",
    "fusion.": "fusion and its heads",
    "itm_head": "fusion and its heads",
    "mlm_head": "fusion and its heads",
    "decoder.": "caption decoder",
    "teacher.": "teacher",
}


def reach(step: SemMIMStep, batch: Batch, plan: Plan, term: str) -> dict[str, float]:
    """Norm of the gradient that one term alone leaves in each part; 0 where its backward pass does not come by."""
    step.zero_grad()
    step(batch, replace(plan, weights={term: 1.0}), seed=0).losses[term].backward()
    squares = dict.fromkeys(PARTS.values(), 0.0)
    for name, parameter in step.model.named_parameters():
        if parameter.grad is not None:
            part = PARTS[max((beginning for beginning in PARTS if name.startswith(beginning)), key=len)]
            squares[part] += float(parameter.grad.square().sum())
    step.zero_grad()
    return {part: square**0.5 for part, square in squares.items()}


# Where `types_under_autocast` listens: what a reader calls it, and the module in the student.
LAYERS = {
    "patches": "image.patchify",
    "queries, keys, values": "image.layers.0.attention.qkv",
    "MLP": "image.layers.0.mlp",
    "sum after layer 0": "image.layers.0",
    "last norm": "image.norm",
    "MLP of the space": "space.cls.mlp",
    "logits of prototypes": "space.cls",
}


def types_under_autocast(step: SemMIMStep, batch: Batch, plan: Plan) -> dict[str, str]:
    """The types that layers return when a step runs in bf16 on this CPU, and at the end those of the losses."""
    heard: dict[str, str] = {}

    def listen(module, given, result, name: str) -> None:
        heard.setdefault(name, _name(result))

    hooks = [step.model.student.get_submodule(place).register_forward_hook(partial(listen, name=name)) for name, place in LAYERS.items()]
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = step(batch, plan, seed=0).losses
    finally:
        for hook in hooks:
            hook.remove()
    return heard | {f"loss {term}": _name(loss) for term, loss in losses.items()}


def _name(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def seconds_per_step(config: Config, precision: str, folder: Path) -> float:
    """Median over the second half of a run, where terms have joined and kernels are warm; without waiting for data."""
    Training(override(config, [f"run.precision={precision}"]), folder).run()
    records = read_metrics(folder / "metrics.jsonl")
    seconds = torch.tensor([r["seconds"] - r["seconds_waiting_for_data"] for r in records])
    return float(seconds[len(seconds) // 2 :].median())


def _draw(seed: int) -> Callable[[int, int], int]:
    """Whole numbers from low to high, both included; the same ones in every run."""
    generator = torch.Generator().manual_seed(seed)
    return lambda low, high: int(torch.randint(low, high + 1, (), generator=generator))


# 7.1 ------------------------------------------------------------------------------------------------------------------


def check_chance(student: Callable[[int, int, int, int], tuple]) -> None:
    """`student(batch, queue, words, k)` → what a guesser pays for (ITC, ITM, MLM, consensus), in nats; `queue` is full."""
    draw = _draw(4)
    cases = [Case(batch=draw(2, 256), queue=draw(1, 4) * 256, words=draw(500, 30_000), k=draw(16, 8192)) for _ in range(6)]
    compare("Exercise 7.1", student, _chance, cases, CHANCE_MISTAKES)


def _chance(batch: int, queue: int, words: int, k: int) -> tuple[float, ...]:
    """By the loop's own function."""
    terms = ("itc", "itm", "mlm", "consensus")
    levels = chance_levels(
        override(preset("tiny"), [f"space.prototypes={k}"]), words, {"loss": dict.fromkeys(terms), "itc_keys": batch + queue}
    )
    return tuple(levels[term] for term in terms)


CHANCE_MISTAKES = (
    Mistake(
        lambda batch, queue, words, k: (math.log(batch), CHANCE, math.log(words), math.log(k)),
        "ITC compares with the queue as well: batch + queue keys",
    ),
    Mistake(
        lambda batch, queue, words, k: (math.log(batch + queue - 1), CHANCE, math.log(words), math.log(k)),
        "the true key is one of the keys, too; ITC chooses among batch + queue",
    ),
    Mistake(
        lambda batch, queue, words, k: (math.log(batch + queue), math.log(2), math.log(words), math.log(k)),
        "ln 2 is for one true pair in two; here it is one in three, and a guesser may know that: the entropy of (1/3, 2/3)",
    ),
    Mistake(
        lambda batch, queue, words, k: (math.log(batch + queue), math.log(3), math.log(words), math.log(k)),
        "ITM has two answers, not three; the truth is spread over them as (1/3, 2/3), and a guesser pays the entropy of that",
    ),
    Mistake(
        lambda batch, queue, words, k: (math.log(batch + queue), -math.log(1 / 3) / 3, math.log(words), math.log(k)),
        "of the entropy of (1/3, 2/3) one half is missing: -(1/3) ln(1/3) - (2/3) ln(2/3)",
    ),
    Mistake(
        lambda *sizes: tuple(level / math.log(2) for level in _chance(*sizes)),
        "these are bits; losses are in nats, so take the natural logarithm",
    ),
    Mistake(
        lambda batch, queue, words, k: (math.log(batch + queue), CHANCE, math.log(words), 0.0),
        "a consensus of 0 needs a perfect student of a teacher without any doubt; one that knows nothing spreads over all k: ln k",
    ),
)

# 7.2 ------------------------------------------------------------------------------------------------------------------


def check_rate(student: Callable[[float, float, float], float]) -> None:
    """`student(t, warmup, end)` → factor of the base rate at the share t of the run."""
    draw, cases = _draw(0), []
    for early in (True, False) * 5:
        warmup, end = draw(4, 30) / 100, draw(1, 30) / 100
        t = warmup * draw(0, 9) / 10 if early else warmup + (1 - warmup) * draw(1, 9) / 10
        cases.append(Case(t=t, warmup=warmup, end=end))
    compare(
        "Exercise 7.2", student, warmup_cosine, [*cases, Case(t=0.0, warmup=0.1, end=0.1), Case(t=1.0, warmup=0.1, end=0.2)], RATE_MISTAKES
    )


def _rate(t, warmup, end, low=1e-3, since=None, half=math.pi, scale=None, floor=None) -> float:
    """Warm-up and cosine with single parts exchanged."""
    if t < warmup:
        return (t + low) / (warmup + low)
    progress = (t - warmup) / (1 - warmup) if since is None else since(t, warmup)
    bottom, height = end if floor is None else floor, 1 - end if scale is None else scale
    return bottom + height * (1 + math.cos(half * progress)) / 2


RATE_MISTAKES = (
    Mistake(
        lambda t, warmup, end: _rate(t, warmup, end, low=0.0),
        "the very first step has the rate 0 and teaches nothing; begin with (t + 0.001) / (warmup + 0.001)",
    ),
    Mistake(
        lambda t, warmup, end: _rate(t, warmup, end, since=lambda t, warmup: t),
        "the cosine counts from the beginning of the run, so the rate jumps down where warm-up ends; "
        "let it begin there: (t - warmup) / (1 - warmup)",
    ),
    Mistake(
        lambda t, warmup, end: _rate(t, warmup, end, since=lambda t, warmup: t - warmup),
        "the cosine does not come to its end: what is left of the run has the length 1 - warmup; divide by it",
    ),
    Mistake(lambda t, warmup, end: _rate(t, warmup, end, floor=0.0, scale=1.0), "the rate ends at 0; it should end at `end`"),
    Mistake(
        lambda t, warmup, end: _rate(t, warmup, end, scale=1.0),
        "the rate begins its fall at 1 + end; only the height 1 - end is left above the floor",
    ),
    Mistake(
        lambda t, warmup, end: _rate(t, warmup, end, half=2 * math.pi),
        "a whole period of the cosine comes back up to 1; half of one, π, falls",
    ),
    Mistake(
        lambda t, warmup, end: warmup_cosine(t, 0.0, end),
        "the warm-up is missing: t < warmup has a rate of its own",
    ),
)

# 7.3 ------------------------------------------------------------------------------------------------------------------


def check_follow(student: Callable[[Tensor, Tensor, float, int], Tensor]) -> None:
    """`student(teacher, trained, momentum, step)` → the teacher after this step, with the momentum that grows."""
    cases = []
    for i, step in enumerate((0, 1, 3, 10, 80, 500, 2000)):
        draw = torch.Generator().manual_seed(i)
        teacher, trained = torch.randn(2, 2 + i, 3, generator=draw)
        cases.append(Case(teacher=teacher, trained=trained, momentum=(0.9, 0.99, 0.995)[i % 3], step=step))
    compare("Exercise 7.3", student, _follow, cases, FOLLOW_MISTAKES)


def _follow(teacher: Tensor, trained: Tensor, momentum: float, step: int) -> Tensor:
    return _average(teacher, trained, min(momentum, (1 + step) / (10 + step)))


def _average(teacher: Tensor, trained: Tensor, m: float) -> Tensor:
    return m * teacher + (1 - m) * trained


FOLLOW_MISTAKES = (
    Mistake(
        lambda teacher, trained, m, step: _average(trained, teacher, min(m, (1 + step) / (10 + step))),
        "the shares are swapped: momentum is the share of the teacher that stays, and 1 - momentum comes from the student",
    ),
    Mistake(
        lambda teacher, trained, m, step: _average(teacher, trained, m),
        "the momentum is full from the first step on; it should grow: min(momentum, (1 + step) / (10 + step))",
    ),
    Mistake(
        lambda teacher, trained, m, step: _average(teacher, trained, (1 + step) / (10 + step)),
        "the momentum has no ceiling; late in a long run the teacher would stand still. Take the smaller one, min",
    ),
    Mistake(
        lambda teacher, trained, m, step: _average(teacher, trained, max(m, (1 + step) / (10 + step))),
        "the larger of the two is taken; the ceiling is a minimum",
    ),
    Mistake(
        lambda teacher, trained, m, step: _average(teacher, trained, min(m, step / (10 + step))),
        "steps count from 0, so the numerator is 1 + step",
    ),
    Mistake(
        lambda teacher, trained, m, step: teacher + (1 - min(m, (1 + step) / (10 + step))) * trained,
        "the old teacher keeps its full weight, so the teacher grows for ever; an average has shares that add up to 1",
    ),
)

# 7.4 ------------------------------------------------------------------------------------------------------------------

Scale = tuple[float, int, bool]


def check_scale(student: Callable[[float, int, bool, int], Scale]) -> None:
    """`student(scale, good, finite, interval)` → (next scale, next count of good steps, whether the optimiser steps)."""
    draw, cases = _draw(3), []
    for i in range(10):
        interval = draw(2, 50)
        good = interval - 1 if i % 3 == 0 else draw(0, interval - 2)
        cases.append(Case(scale=2.0 ** draw(8, 18), good=good, finite=i % 2 == 0, interval=interval))
    compare("Exercise 7.4", student, _scale, cases, SCALE_MISTAKES)


def _scale(scale: float, good: int, finite: bool, interval: int) -> Scale:
    if not finite:
        return scale / 2, 0, False
    return (scale * 2, 0, True) if good + 1 == interval else (scale, good + 1, True)


def _keep_counting(scale: float, good: int, finite: bool, interval: int) -> Scale:
    new, _, steps = _scale(scale, good, finite, interval)
    return new, good + 1 if finite else 0, steps


def _too_late(scale: float, good: int, finite: bool, interval: int) -> Scale:
    if not finite:
        return scale / 2, 0, False
    return (scale * 2, 0, True) if good == interval else (scale, good + 1, True)


def _impatient(scale: float, good: int, finite: bool, interval: int) -> Scale:
    return (scale * 2, 0, True) if finite else (scale / 2, 0, False)


SCALE_MISTAKES = (
    Mistake(
        lambda scale, good, finite, interval: (*_scale(scale, good, finite, interval)[:2], True),
        "the optimiser steps although a gradient is infinite; one such step makes every weight it touches infinite or NaN. Skip it",
    ),
    Mistake(
        lambda scale, good, finite, interval: _scale(scale, good, True, interval),
        "`finite` is not used: nothing is skipped and the scale never falls",
    ),
    Mistake(
        lambda scale, good, finite, interval: _scale(scale, good, finite, interval) if finite else (scale, 0, False),
        "the step is skipped, but the scale stays; the next one would overflow again. Halve it",
    ),
    Mistake(
        lambda scale, good, finite, interval: _scale(scale, good, finite, interval) if finite else (scale / 2, good, False),
        "after a skipped step the count goes on; the steps must be good ones *in a row*: back to 0",
    ),
    Mistake(_keep_counting, "after doubling the count goes on, and is never equal to the interval again; back to 0"),
    Mistake(
        _too_late,
        "doubling comes a step late: this step is a good one, too, so compare good + 1 with the interval",
    ),
    Mistake(_impatient, "every good step doubles; wait for `interval` of them in a row, or every third step will be lost to overflow"),
)

# 7.5 ------------------------------------------------------------------------------------------------------------------


def check_order(student: Callable[[Tensor, int, int], Tensor]) -> None:
    """`student(shuffled (epochs, size), batch, step)` → the pairs of batch number `step`, (batch,); row e is the order of epoch e."""
    draw, cases = _draw(5), []
    for i in range(8):
        size, batch = draw(5, 12), draw(2, 5)
        shuffled = torch.stack([torch.randperm(size, generator=torch.Generator().manual_seed(10 * i + e)) for e in range(4)])
        cases.append(Case(shuffled=shuffled, batch=batch, step=draw(1, 4 * (size // batch) - 1)))
    compare("Exercise 7.5", student, _order, cases, ORDER_MISTAKES)


def _order(shuffled: Tensor, batch: int, step: int) -> Tensor:
    return shuffled.flatten()[step * batch : (step + 1) * batch]


def _places(batch: int, step: int) -> Tensor:
    return torch.arange(step * batch, (step + 1) * batch)


def _full_batches_only(shuffled: Tensor, batch: int, step: int) -> Tensor:
    epoch, within = divmod(step, shuffled.shape[1] // batch)
    return shuffled[epoch, within * batch : (within + 1) * batch]


ORDER_MISTAKES = (
    Mistake(
        lambda shuffled, batch, step: shuffled[0, _places(batch, step) % shuffled.shape[1]],
        "every epoch has the order of the first; row e of `shuffled` belongs to epoch e = place // size",
    ),
    Mistake(
        _full_batches_only,
        "each epoch is cut off at its last full batch, so some pairs are never seen in it; "
        "let the places run on from one epoch into the next: place // size, place % size",
    ),
    Mistake(
        lambda shuffled, batch, step: shuffled[step * batch // shuffled.shape[1], _places(batch, step) % shuffled.shape[1]],
        "a batch that lies across two epochs takes all its pairs by the old order; ask for the epoch of every place, not of the batch",
    ),
    Mistake(
        lambda shuffled, batch, step: _places(batch, step) % shuffled.shape[1],
        "these are places, not pairs: nothing is shuffled. Look the places up in `shuffled`",
    ),
    Mistake(
        lambda shuffled, batch, step: shuffled.flatten()[step : step + batch],
        "batches overlap: batch number `step` begins at place step · batch",
    ),
    Mistake(
        lambda shuffled, batch, step: shuffled.flatten()[(step - 1) * batch : step * batch],
        "one batch too early: steps count from 0",
    ),
)
