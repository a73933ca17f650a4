"""Checkers of notebook 04: the right answer passes, typical wrong ones are told their mistake."""

import math

import torch
import torch.nn.functional as F
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import local_semantics
from semmim_mini.course.local_semantics import check_consensus, check_health, check_sinkhorn, check_teach


def agree(logits, target, temperature, same=False, total=lambda losses: sum(losses) / len(losses)):
    """The consensus, pair by pair and image by image."""
    log_code = F.log_softmax(logits / temperature, dim=-1)
    views = range(len(logits))
    pairs = [(u, w) for u in views for w in views if u != w or same]
    return total([-(target[u] * log_code[w]).sum(-1).mean() for u, w in pairs])


def teach(logits, center, temperature, momentum):
    return torch.softmax((logits - center) / temperature, dim=-1), momentum * center + (1 - momentum) * logits.mean(dim=0)


def balance(logits, temperature, iterations, columns_last=False, rounds=None, start=lambda x: x.softmax(dim=1)):
    code = start(logits / temperature)
    for _ in range(iterations if rounds is None else rounds):
        for axis in (1, 0) if columns_last else (0, 1):
            code = code / code.sum(dim=axis, keepdim=True)
    return code


def balance_in_logarithms(logits, temperature, iterations):
    code = F.log_softmax(logits / temperature, dim=1)
    for _ in range(iterations):
        code = code - code.logsumexp(dim=0, keepdim=True)
        code = code - code.logsumexp(dim=1, keepdim=True)
    return code.exp()


def entropy(code):
    return torch.special.entr(code).sum(dim=-1)


def health(target, of_codes=entropy, of_mean=entropy, in_use=lambda p: len(p.argmax(dim=1).unique())):
    k = target.shape[1]
    return of_codes(target).mean().item(), math.log(k) - of_mean(target.mean(dim=0)).item(), in_use(target)


NUMBER = 4
RIGHT = [
    (check_consensus, agree),
    (check_teach, teach),
    (check_sinkhorn, balance),
    (check_sinkhorn, balance_in_logarithms),
    (check_health, health),
]
WRONG = [
    (check_consensus, lambda s, t, tau: agree(s, t, tau, same=True), "the diagonal is included"),
    (check_consensus, lambda s, t, tau: agree(s, t, tau, total=sum), "the pairs are added up"),
    (check_consensus, lambda s, t, tau: agree(s * tau, t, 1.0), "multiplied by its temperature"),
    (check_consensus, lambda s, t, tau: agree(s, t, 1.0), "not divided by its temperature"),
    (check_consensus, lambda s, t, tau: agree(s, torch.softmax(t / tau, -1), tau), "student's temperature is used on the teacher"),
    (check_consensus, lambda s, t, tau: agree(s, t, tau) / math.log(2), "bits"),
    (check_consensus, lambda s, t, tau: agree(s, t, tau) - entropy(t).mean(), "KL divergence"),
    (check_consensus, lambda s, t, tau: agree(t.log(), F.softmax(s / tau, -1), 1.0), "changed places"),
    (check_teach, lambda x, c, tau, m: teach(x, -c, tau, m)[:1] + teach(x, c, tau, m)[1:], "the centre is added"),
    (check_teach, lambda x, c, tau, m: teach(x, c, tau, m)[:1] + teach(x, c, tau, 1 - m)[1:], "momentum is on the wrong side"),
    (check_teach, lambda x, c, tau, m: teach(x, teach(x, c, tau, m)[1], tau, m)[:1] + teach(x, c, tau, m)[1:], "the centre is moved first"),
    (check_teach, lambda x, c, tau, m: (torch.softmax((x - c) / tau, 0), teach(x, c, tau, m)[1]), "softmax runs over the batch"),
    (check_teach, lambda x, c, tau, m: teach(x, c, tau, m)[0], "expected 2 results"),
    (check_sinkhorn, lambda x, tau, n: balance(x, tau, n, columns_last=True), "columns are scaled last"),
    (check_sinkhorn, lambda x, tau, n: balance(x, tau, n, rounds=0), "this is a softmax of each row"),
    (check_sinkhorn, lambda x, tau, n: balance(x, tau, n, rounds=1), "one round is done"),
    (check_sinkhorn, lambda x, tau, n: balance(x, tau, n, start=torch.exp), "the start is another one"),
    (check_sinkhorn, lambda x, tau, n: balance(x, tau, n, start=lambda y: y.softmax(dim=0)), "the start is another one"),
    (check_health, lambda p: tuple(x / math.log(2) for x in health(p)[:2]) + health(p)[2:], "bits"),
    (check_health, lambda p: health(p, of_codes=lambda q: -(q * q.log()).sum(-1)), "0 · log 0 is NaN"),
    (check_health, lambda p: health(p, of_codes=lambda q: entropy(q.mean(0))), "entropy of the mean code; asked for"),
    (check_health, lambda p: health(p, of_mean=lambda mean: entropy(p).mean()), "average the codes first"),
    (check_health, lambda p: health(p, in_use=lambda q: int((q.sum(dim=0) > 0).sum())), "every prototype with any weight"),
    (check_health, lambda p: health(p)[:2], "expected 3 results"),
]  # fmt: skip
LISTS = (
    (check_consensus, local_semantics.CONSENSUS_MISTAKES),
    (check_teach, local_semantics.TEACH_MISTAKES),
    (check_sinkhorn, local_semantics.SINKHORN_MISTAKES),
    (check_health, local_semantics.HEALTH_MISTAKES),
)
