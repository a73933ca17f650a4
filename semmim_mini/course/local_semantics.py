"""Checkers of notebook 04, local semantics: agreement of views, the teacher's targets, the instruments of collapse, Sinkhorn–Knopp."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.objectives.targets import centred_targets, sinkhorn_targets, update_center
from semmim_mini.training.step import describe

# 4.1 ------------------------------------------------------------------------------------------------------------------


def check_consensus(student: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """`student(logits (v, b, k), target (v, b, k), temperature)` → mean cross-entropy over ordered pairs of different views, in nats."""

    def case(generator, draw):
        v, b, k, temperature = draw(2, 4), draw(5, 7), draw(8, 12), draw(2, 8) / 10
        logits, target = (torch.randn(v, b, k, generator=generator) for _ in range(2))
        return Case(logits=logits, target=(2 * target).softmax(dim=-1), temperature=temperature)

    compare("Exercise 4.1", student, consensus_loss, cases_of(case), CONSENSUS_MISTAKES)


def _pairs_kept(views: int, keep: Callable[[int, int], bool]) -> Tensor:
    return torch.tensor([[keep(u, w) for w in range(views)] for u in range(views)])


def _consensus(logits, target, temperature, log_code=None, keep=lambda u, w: u != w, mean=lambda losses: losses.mean()) -> Tensor:
    """The loss with its choices as arguments: the student's log-code, the pairs that count, and how they are averaged."""
    log_code = (logits / temperature).log_softmax(dim=-1) if log_code is None else log_code
    losses = -torch.einsum("ubk,wbk->uwb", target, log_code)
    return mean(losses[_pairs_kept(len(logits), keep)])


CONSENSUS_MISTAKES = (
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau, keep=lambda u, w: True),
        "the diagonal is included: a view compared with itself is solved by copying. Only pairs with u ≠ w count",
    ),
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau, keep=lambda u, w: u == w),
        "each view is compared with itself and with no other: copying solves that, without any agreement",
    ),
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau, mean=lambda losses: losses.sum() / len(s) ** 2 / s.shape[1]),
        "the sum over pairs is divided by v²; without the diagonal there are v·(v − 1) of them",
    ),
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau, mean=lambda losses: losses.sum() / s.shape[1]),
        "the pairs are added up; take their mean, or the loss grows with the number of views",
    ),
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau, mean=lambda losses: losses.mean() / s.shape[2]),
        "the k terms of a cross-entropy are averaged; they have to be summed, or a blind student pays (ln k) / k",
    ),
    Mistake(lambda s, t, tau: _consensus(s, t, 1.0), "the student's logits are not divided by its temperature"),
    Mistake(
        lambda s, t, tau: _consensus(s, t, 1 / tau),
        "the student's logits are multiplied by its temperature; divide by it",
    ),
    Mistake(
        lambda s, t, tau: _consensus(s, (t / tau).softmax(dim=-1), tau),
        "the student's temperature is used on the teacher: `target` is a code already, softmax included",
    ),
    Mistake(lambda s, t, tau: _consensus(s, t.softmax(dim=-1), tau), "the target goes through a softmax again; it is a code already"),
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau, log_code=(s / tau).log_softmax(dim=1)),
        "softmax runs over the batch; each image shares out one unit among the k prototypes: dim=-1",
    ),
    Mistake(
        lambda s, t, tau: _consensus(t, (s / tau).softmax(dim=-1), 1.0, log_code=t.log()),
        "teacher and student have changed places: the logarithm belongs to the student's code",
    ),
    Mistake(
        lambda s, t, tau: _consensus(s, t, tau) + (t * t.log()).sum(dim=-1).mean(),
        "this is the KL divergence: the teacher's entropy is subtracted. The gradient is the same, but a perfect student now pays 0",
    ),
    Mistake(lambda s, t, tau: _consensus(s, t, tau) / math.log(2), "these are bits (log2); losses are in nats (natural logarithm)"),
)

# 4.2 ------------------------------------------------------------------------------------------------------------------


def check_teach(student: Callable[[Tensor, Tensor, float, float], tuple[Tensor, Tensor]]) -> None:
    """`student(logits (rows, k), center (k), temperature, momentum)` → targets (rows, k), and the centre for the next batch (k)."""

    def case(generator, draw):
        rows, k = draw(4, 6), draw(7, 9)
        logits, center = torch.randn(rows, k, generator=generator), torch.randn(k, generator=generator)
        return Case(logits=logits, center=center, temperature=draw(2, 8) / 10, momentum=draw(6, 9) / 10)

    compare("Exercise 4.2", student, _teach, cases_of(case), TEACH_MISTAKES)


def _teach(logits: Tensor, center: Tensor, temperature: float, momentum: float) -> tuple[Tensor, Tensor]:
    return centred_targets(logits, center, temperature), update_center(center, logits.mean(dim=0), momentum)


def _by_itself(logits: Tensor, center: Tensor, temperature: float, momentum: float) -> tuple[Tensor, Tensor]:
    moved = update_center(center, logits.mean(dim=0), momentum)
    return centred_targets(logits, moved, temperature), moved


def _centre_of(what: Callable[[Tensor, Tensor, float], Tensor]) -> Callable:
    """The wrong function whose centre follows something else than the logits."""
    return lambda x, c, tau, m: (centred_targets(x, c, tau), update_center(c, what(x, c, tau), m))


def _target_of(what: Callable[[Tensor, Tensor, float], Tensor]) -> Callable:
    """The wrong function whose targets are something else, while its centre is right."""
    return lambda x, c, tau, m: (what(x, c, tau), _teach(x, c, tau, m)[1])


TEACH_MISTAKES = (
    Mistake(
        _target_of(lambda x, c, tau: centred_targets(x, -c, tau)),
        "the centre is added; subtract it, so that a prototype that always scores high loses its advantage",
    ),
    Mistake(
        _target_of(lambda x, c, tau: (x / tau - c).softmax(dim=-1)),
        "the centre comes off after dividing by τ; first (t − c), then / τ",
    ),
    Mistake(_target_of(lambda x, c, tau: (x / tau).softmax(dim=-1)), "the centre is not subtracted from the logits"),
    Mistake(
        _target_of(lambda x, c, tau: ((x - c) / tau).softmax(dim=0)),
        "softmax runs over the batch; each row shares out one unit among the k prototypes: dim=-1",
    ),
    Mistake(
        _target_of(lambda x, c, tau: ((x - c) * tau).softmax(dim=-1)),
        "the logits are multiplied by the temperature; divide by it",
    ),
    Mistake(_target_of(lambda x, c, tau: centred_targets(x, c, 1.0)), "the temperature is not used: nothing sharpens the targets"),
    Mistake(
        lambda x, c, tau, m: (centred_targets(x, c, tau), update_center(c, x.mean(dim=0), 1 - m)),
        "the momentum is on the wrong side: it is the share of the old centre that is kept, c ← μ·c + (1 − μ)·mean",
    ),
    Mistake(_by_itself, "the centre is moved first, so that a batch is centred by itself; targets come from the centre as it was"),
    Mistake(
        _centre_of(lambda x, c, tau: x.mean().expand_as(c)),
        "the mean runs over everything; each prototype has a mean of its own: dim=0",
    ),
    Mistake(_centre_of(lambda x, c, tau: x.sum(dim=0)), "the batch's logits are added up; the centre follows their mean"),
    Mistake(
        _centre_of(lambda x, c, tau: (x - c).mean(dim=0)),
        "the centre follows centred logits; it should follow the teacher's own",
    ),
    Mistake(_centre_of(lambda x, c, tau: centred_targets(x, c, tau).mean(dim=0)), "the centre follows the targets; it is a mean of logits"),
)

# 4.3 ------------------------------------------------------------------------------------------------------------------


def check_health(student: Callable[[Tensor], tuple[float, float, int]]) -> None:
    """`student(target (rows, k))` → mean entropy of a code, KL of the mean code to uniform, both in nats, and prototypes in use."""

    def case(generator, draw):
        rows, k = draw(8, 14), draw(16, 20)
        target = (3 * torch.randn(rows, k, generator=generator)).softmax(dim=-1)
        target[:2] = torch.eye(k)[draw(0, k - 1)]  # two that are sure: 0 · log 0
        return Case(target=target)

    compare("Exercise 4.3", lambda target: _numbers(student(target)), _health, cases_of(case), HEALTH_MISTAKES)


def _numbers(answer: Any) -> Any:
    """A student's numbers, of whatever kind, as tensors; anything else as it is."""
    if not isinstance(answer, (tuple, list)):
        return answer
    return tuple(torch.as_tensor(x, dtype=torch.float32) for x in answer)


def _health(target: Tensor) -> tuple[Tensor, ...]:
    return tuple(describe(target, "any").values())


def _entropy(code: Tensor) -> Tensor:
    return -(code * code.clamp_min(1e-12).log()).sum(dim=-1)


def _with(place: int, what: Callable[[Tensor], Any]) -> Callable:
    """The wrong function that has another number in one place."""
    return lambda target: _numbers([what(target) if i == place else x for i, x in enumerate(_health(target))])


def _bits(target: Tensor) -> tuple[Tensor, ...]:
    entropy, distance, used = _health(target)
    return entropy / math.log(2), distance / math.log(2), used


def _reversed_distance(target: Tensor) -> Tensor:
    k = target.shape[1]
    return -(target.mean(dim=0) * k).log().mean()


HEALTH_MISTAKES = (
    Mistake(_bits, "these are bits (log2); entropies here are in nats, with ln k as the highest"),
    Mistake(
        _with(0, lambda p: -(p * p.log()).sum(dim=-1).mean()),
        "0 · log 0 is NaN in floating point, and a code that is sure has zeros; clamp before the logarithm",
    ),
    Mistake(_with(0, lambda p: -_entropy(p).mean()), "the entropy has the wrong sign: H = −Σ p log p is never negative"),
    Mistake(
        _with(0, lambda p: _entropy(p.mean(dim=0))),
        "this is the entropy of the mean code; asked for is the mean of entropies. Codes that are sure and all different tell them apart",
    ),
    Mistake(
        _with(1, lambda p: math.log(p.shape[1]) - _entropy(p).mean()),
        "each code's distance to uniform is averaged; average the codes first: sure codes may differ, and then nothing has collapsed",
    ),
    Mistake(
        _with(1, lambda p: _entropy(p.mean(dim=0))),
        "the second number is the entropy of the mean code; its distance to uniform is ln k minus that, 0 when all prototypes share alike",
    ),
    Mistake(_with(1, _reversed_distance), "the divergence is turned round: KL(mean ‖ uniform) weighs the logarithms by the mean code"),
    Mistake(
        _with(2, lambda p: (p > 0).any(dim=0).sum()),
        "every prototype with any weight is counted, and softmax gives weight to all; count those that are some row's highest",
    ),
    Mistake(
        _with(2, lambda p: len(p.argmax(dim=0).unique())),
        "argmax runs over the batch: this counts rows that are some prototype's highest; dim=-1",
    ),
    Mistake(_with(2, lambda p: p.shape[0]), "every row has a highest prototype; count how many different ones there are"),
)

# 4.4 ------------------------------------------------------------------------------------------------------------------


def check_sinkhorn(student: Callable[[Tensor, float, int], Tensor]) -> None:
    """`student(logits (rows, k), temperature, iterations)` → balanced codes (rows, k): each row one, each column about rows/k."""

    def case(generator, draw):
        rows, k = (draw(8, 12), draw(4, 6)) if draw(0, 1) else (draw(3, 4), draw(6, 8))
        logits = 2 * torch.rand(rows, k, generator=generator) - 1
        return Case(logits=logits + 0.5 * torch.eye(k)[0], temperature=draw(2, 5) / 10, iterations=draw(2, 4))

    compare("Exercise 4.4", student, sinkhorn_targets, cases_of(case), SINKHORN_MISTAKES)


def _scaled(start: Tensor, order: tuple[int, ...], iterations: int) -> Tensor:
    """Sums along the axes in `order` brought to one, in turn."""
    for _ in range(iterations):
        for axis in order:
            start = start / start.sum(dim=axis, keepdim=True)
    return start


def _rows_softmax(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(dim=-1)


COLUMNS_THEN_ROWS = (0, 1)

SINKHORN_MISTAKES = (
    Mistake(
        lambda x, tau, n: _scaled(_rows_softmax(x, tau), (1, 0), n),
        "columns are scaled last, so that rows no longer add up to one, and a row that does not is no code: columns first, rows last",
    ),
    Mistake(
        lambda x, tau, n: _scaled(_rows_softmax(x, tau), (1, 0), n) * len(x) / x.shape[1],
        "columns are scaled last, to rows/k each; but then rows no longer add up to one: columns first, rows last",
    ),
    Mistake(lambda x, tau, n: _rows_softmax(x, tau), "this is a softmax of each row; the columns are not balanced"),
    Mistake(
        lambda x, tau, n: _scaled(_rows_softmax(x, tau), (0,), 1),
        "only columns are scaled; then rows no longer add up to one",
    ),
    Mistake(
        lambda x, tau, n: _scaled(_rows_softmax(x, tau), COLUMNS_THEN_ROWS, 1),
        "one round is done, whatever `iterations` says; scaling rows puts the columns out of balance again",
    ),
    Mistake(
        lambda x, tau, n: _scaled((x / tau).exp(), COLUMNS_THEN_ROWS, n),
        "the start is another one: softmax of each row, dim=-1. exp(logits/τ), or softmax over the batch, comes to the same codes only "
        "after many rounds",
    ),
    Mistake(
        lambda x, tau, n: _scaled(_rows_softmax(x, 1.0), COLUMNS_THEN_ROWS, n),
        "the temperature is not used; scaling alone makes nothing sharp",
    ),
    Mistake(
        lambda x, tau, n: _scaled(_rows_softmax(x, 1 / tau), COLUMNS_THEN_ROWS, n),
        "the logits are multiplied by the temperature; divide by it",
    ),
)
