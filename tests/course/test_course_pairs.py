"""Checkers of notebook 01: the right answer passes, typical wrong ones are told their mistake."""

import re

import torch
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)
from einops import rearrange

from semmim_mini.course import pairs
from semmim_mini.course.pairs import check_hidden, check_may_mirror, check_named, check_patch_share


def squares(object_map, patch):
    return rearrange(object_map, "(i p) (j q) -> i j (p q)", p=patch, q=patch)


def hide(word, order, share, rounded=torch.round, least=1):
    count = rounded(word.sum(dim=1) * share).clamp_min(least)
    chosen = torch.zeros_like(word)
    for row, places in enumerate(order.masked_fill(~word, 9).argsort(dim=1)):
        chosen[row, places[: int(count[row])]] = True
    return chosen


NUMBER = 1
RIGHT = [
    (check_patch_share, lambda m, p: (squares(m, p) != 0).float().mean(dim=-1).flatten()),
    (check_named, lambda shown, objects: torch.stack([shown == 1 + i for i in objects]).any(dim=0)),
    (check_may_mirror, lambda caption: not any(w.startswith(("left", "right")) for w in re.split(r"\W", caption.lower()))),
    (check_hidden, hide),
]
WRONG = [
    (check_patch_share, lambda m, p: (squares(m, p) != 0).float().mean(dim=-1).T.flatten(), "column by column"),
    (check_patch_share, lambda m, p: (squares(m, p) != 0).float().mean(dim=-1), "in a grid"),
    (check_patch_share, lambda m, p: (squares(m, p) != 0).sum(dim=-1).flatten(), "a share is their mean"),
    (check_patch_share, lambda m, p: squares(m, p).float().mean(dim=-1).flatten(), "names, not amounts"),
    (check_patch_share, lambda m, p: (m != 0).float().flatten().view(-1, p * p).mean(1), "reshape alone"),
    (check_named, lambda shown, objects: sum(shown == i for i in objects).bool(), "off by one"),
    (check_named, lambda shown, objects: shown != 0, "named or not"),
    (check_named, lambda shown, objects: shown - 1 == objects[0], "only the first object"),
    (check_named, lambda shown, objects: sum((shown == i + 1).float() for i in objects), "made of True and False"),
    (check_may_mirror, lambda caption: "left" not in caption.lower() and "right" not in caption.lower(), "bright, upright"),
    (check_may_mirror, lambda caption: bool(re.search(r"\b(left|right)", caption, re.I)), "turned round"),
    (check_may_mirror, lambda caption: not re.search(r"\b(left|right)\b", caption, re.I), "leftmost names a side"),
    (check_may_mirror, lambda caption: not re.search(r"\b(left|right)", caption), "capital letters are missed"),
    (check_hidden, lambda word, order, share: (order < share) & word, "tosses its own coin"),
    (check_hidden, lambda word, order, share: hide(torch.ones_like(word), order, share), "expected True|expected False"),
    (check_hidden, lambda word, order, share: hide(word, order, share, least=0), "a short caption hides nothing"),
    (check_hidden, lambda word, order, share: hide(word, order, share, rounded=torch.floor), "rounded down"),
    (check_hidden, lambda word, order, share: ~hide(word, order, share) & word, "the words that stay"),
]  # fmt: skip


LISTS = (
    (check_patch_share, pairs.PATCH_SHARE_MISTAKES),
    (check_named, pairs.NAMED_MISTAKES),
    (check_may_mirror, pairs.MIRROR_MISTAKES),
    (check_hidden, pairs.HIDDEN_MISTAKES),
)
