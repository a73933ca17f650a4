"""Checkers of notebook 06, text injection: words as extra keys, who may look at whom, what travels on, and what a guesser pays."""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare
from semmim_mini.model.layers import TextForImage, attention_weights

NEVER = float("-inf")


def _captions(b: int, longest: int, draw: Callable[[int, int], int]) -> Tensor:
    """Which tokens are words (b, l): captions of different lengths, the first the longest."""
    lengths = torch.tensor([longest, 2, *(draw(2, longest) for _ in range(b - 2))])
    return torch.arange(longest) < lengths[:, None]


# 6.1 ------------------------------------------------------------------------------------------------------------------


def check_text_attention(student: Callable[..., Tensor]) -> None:
    """`student(query, key, value (b, h, q, c), text_key, text_value (b, h, l, c), words (b, l))` → what is gathered, (b, h, q, c)."""

    def case(generator, draw):
        b, h, q, longest, c = draw(2, 3), draw(1, 3), draw(3, 6), draw(3, 5), draw(4, 9)
        image = {name: torch.randn(b, h, q, c, generator=generator) for name in ("query", "key", "value")}
        text = {name: torch.randn(b, h, longest, c, generator=generator) for name in ("text_key", "text_value")}
        return Case(**image, **text, words=_captions(b, longest, draw))

    compare("Exercise 6.1", student, _text_attention, cases_of(case), TEXT_ATTENTION_MISTAKES)


def _text_attention(query: Tensor, key: Tensor, value: Tensor, text_key: Tensor, text_value: Tensor, words: Tensor) -> Tensor:
    """By the library's own mask and weights."""
    allowed = TextForImage(text_key[:, 0], words, hide_from_cls=False).allowed(query.shape[2])
    return attention_weights(query, torch.cat([key, text_key], dim=2), allowed) @ torch.cat([value, text_value], dim=2)


def _written_out(query, key, value, text_key, text_value, words, scale=None, forbidden=NEVER, columns=lambda image, words: (image, words)):
    """The same with its choices as arguments; `columns` arranges the parts of the mask."""
    scores = query @ torch.cat([key, text_key], dim=2).mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    allowed = torch.cat(columns(words.new_ones(len(words), key.shape[2]), words), dim=1)
    scores = scores.masked_fill(~allowed[:, None, None], forbidden)
    return scores.softmax(dim=-1) @ torch.cat([value, text_value], dim=2)


def _two_budgets(query, key, value, text_key, text_value, words) -> Tensor:
    return attention_weights(query, key) @ value + attention_weights(query, text_key, words[:, None, None]) @ text_value


def _zero_after(query, key, value, text_key, text_value, words) -> Tensor:
    weights = attention_weights(query, torch.cat([key, text_key], dim=2))
    weights = torch.cat([weights[..., : key.shape[2]], weights[..., key.shape[2] :] * words[:, None, None]], dim=-1)
    return weights @ torch.cat([value, text_value], dim=2)


def _silent_padding(query, key, value, text_key, text_value, words) -> Tensor:
    kept = rearrange(words, "b l -> b 1 l 1")
    return _written_out(query, key, value, text_key * kept, text_value * kept, torch.ones_like(words))


TEXT_ATTENTION_MISTAKES = (
    Mistake(
        lambda q, k, v, tk, tv, w: _written_out(q, k, v, tk, tv, torch.ones_like(w)),
        "padding is let in: where `words` is False stands no word, and such a key must receive exactly zero attention",
    ),
    Mistake(
        _silent_padding,
        "keys and values of padding are set to zero; a key of zeros has a score of 0, exp(0) = 1, and so it still takes a share of the "
        "attention. Its score must be -inf",
    ),
    Mistake(_zero_after, "padding is set to zero after the softmax, so the rest no longer adds up to 1; set its scores to -inf before it"),
    Mistake(
        lambda q, k, v, tk, tv, w: _written_out(q, k, v, tk, tv, w, forbidden=0.0),
        "a score of 0 is no ban: exp(0) = 1. Padding needs -inf before the softmax",
    ),
    Mistake(
        _two_budgets,
        "image and words have a softmax each, so that every patch spends two units of attention; one softmax must run over both together",
    ),
    Mistake(
        lambda q, k, v, tk, tv, w: attention_weights(q, k) @ v,
        "the words are not read: they belong behind the image's keys and values",
    ),
    Mistake(
        lambda q, k, v, tk, tv, w: attention_weights(q, tk, w[:, None, None]) @ tv,
        "only the words are read; the image's keys and values must stay, words come behind them",
    ),
    Mistake(
        lambda q, k, v, tk, tv, w: _written_out(q, k, v, tk, tv, ~w, forbidden=-1e9),
        "the mask is turned round: True in `words` means a word, False means padding",
    ),
    Mistake(
        lambda q, k, v, tk, tv, w: _written_out(q, k, v, tk, tv, w, columns=lambda image, words: (words, image)),
        "mask and keys are in different order: the keys are [image ; text], and so must the columns of the mask be",
    ),
    Mistake(
        lambda q, k, v, tk, tv, w: _written_out(q, k, v, tk, tv, w, scale=1.0),
        "the scores are not scaled; divide by √c, for words as for patches",
    ),
)

# 6.2 ------------------------------------------------------------------------------------------------------------------


def check_allowed(student: Callable[[Tensor, int, bool], Tensor]) -> None:
    """`student(words (b, l), queries, hide_from_cls)` → (b, q, s), True where a query may look; s = queries + l, image keys first."""

    def case(generator, draw):
        return Case(words=_captions(draw(2, 4), draw(3, 6), draw), queries=draw(3, 7), hide_from_cls=True)

    cases = cases_of(case)
    for i in (0, 3):
        cases[i]["hide_from_cls"] = False
    compare("Exercise 6.2", student, _allowed, cases, ALLOWED_MISTAKES)


def _allowed(words: Tensor, queries: int, hide_from_cls: bool) -> Tensor:
    return rearrange(TextForImage(words[..., None].float(), words, hide_from_cls).allowed(queries), "b 1 q s -> b q s")


def _closed(place: Callable[[int], tuple]) -> Callable[[Tensor, int, bool], Tensor]:
    """Open to all words; where [CLS] should be shielded, the cells at `place(queries)` are closed instead of the right ones."""

    def wrong(words: Tensor, queries: int, hide_from_cls: bool) -> Tensor:
        allowed = _allowed(words, queries, False)
        if hide_from_cls:
            allowed[place(queries)] = False
        return allowed

    return wrong


def _square(words: Tensor, queries: int, hide_from_cls: bool) -> Tensor:
    rows = words.new_ones(len(words), words.shape[1], queries + words.shape[1])
    return torch.cat([_allowed(words, queries, hide_from_cls), rows], dim=1)


ALL = slice(None)
ALLOWED_MISTAKES = (
    Mistake(
        lambda w, q, hide: _allowed(torch.ones_like(w), q, hide),
        "padding is let in: the columns where `words` is False must be False for every query",
    ),
    Mistake(lambda w, q, hide: _allowed(w, q, False), "`hide_from_cls` is not used: the row of [CLS] still has its words"),
    Mistake(lambda w, q, hide: _allowed(w, q, True), "the words are hidden from [CLS] even where `hide_from_cls` is False"),
    Mistake(_closed(lambda q: (ALL, ALL, slice(q, None))), "the words are hidden from all patches, too; only the row of [CLS] loses them"),
    Mistake(
        _closed(lambda q: (ALL, ALL, q)),
        "the wrong axis: the first word is hidden from everybody. Rows ask and columns answer; [CLS] is row 0 of the text block",
    ),
    Mistake(
        _closed(lambda q: (ALL, 0)),
        "[CLS] may look at nothing at all, not even at the image: a row without a key has no softmax. The image block stays True",
    ),
    Mistake(
        _closed(lambda q: (ALL, 0, slice(1, None))),
        "[CLS] sees only itself; the image block stays True for every query, only words are hidden",
    ),
    Mistake(
        _closed(lambda q: (ALL, ALL, 0)),
        "the column of [CLS] is closed: nobody may look at [CLS] any more. It is [CLS] that may not look: its row",
    ),
    Mistake(_closed(lambda q: (ALL, -1, slice(q, None))), "the words are hidden from the last patch; [CLS] comes first, it is row 0"),
    Mistake(
        _square,
        "there are rows for the words as well; words ask no questions in this layer, so rows are the image tokens alone: (b, q, s)",
    ),
    Mistake(
        lambda w, q, hide: _allowed(w, q, hide).roll(w.shape[1], dims=2),
        "the words stand before the image tokens; the keys are [image ; text], words come last",
    ),
    Mistake(lambda w, q, hide: ~_allowed(w, q, hide), "the mask is turned round: True means that a query may look"),
)

# 6.3 ------------------------------------------------------------------------------------------------------------------


def check_reach(student: Callable[[Tensor, int], Tensor]) -> None:
    """`student(allowed (q, s), layers)` → (q, l), True where a query can know a word after so many layers with this mask."""

    def case(generator, draw):
        q, length = draw(5, 7), draw(3, 4)
        chain = torch.eye(q).bool() | torch.diag(torch.ones(q - 1), -1).bool()  # each token looks at itself and the one before it
        extra = torch.rand(q, q, generator=generator) < 0.04
        words = torch.rand(q, length, generator=generator) < 0.15
        words[0, 0], words[-1] = True, False
        return Case(allowed=torch.cat([chain | extra, words], dim=1), layers=draw(2, 4))

    none = Case(allowed=cases_of(case)[0]["allowed"], layers=0)
    compare("Exercise 6.3", student, _reach, [*cases_of(case), none], REACH_MISTAKES)


def squared(allowed: Tensor) -> Tensor:
    """A mask (q, s) made square, (s, s): words, which ask nothing, stay what they are."""
    square = torch.eye(allowed.shape[1]).bool()
    square[: len(allowed)] = allowed
    return square


def _reach(allowed: Tensor, layers: int) -> Tensor:
    """Rows of the image and columns of the words in the boolean power of the mask."""
    step = squared(allowed).float()
    known = torch.eye(len(step))
    for _ in range(layers):
        known = (step @ known > 0).float()
    return known[: len(allowed), len(allowed) :] > 0


def _against_the_arrows(allowed: Tensor, layers: int) -> Tensor:
    queries = len(allowed)
    return _reach(torch.cat([allowed[:, :queries].T, allowed[:, queries:]], dim=1), layers)


def _all_or_direct(allowed: Tensor, layers: int) -> Tensor:
    words = allowed[:, len(allowed) :]
    return words.any(dim=0).expand_as(words) if layers > 1 else words & bool(layers)


REACH_MISTAKES = (
    Mistake(
        lambda a, n: _reach(a, n + 1),
        "one layer too many: after one layer a query knows the words in its own row of `allowed`, after none it knows nothing",
    ),
    Mistake(lambda a, n: _reach(a, n - 1), "one layer too few: the first layer already lets queries read the words in their own row"),
    Mistake(
        lambda a, n: a[:, len(a) :] & (n > 0),
        "only what a query reads itself; from the second layer on it also learns what the tokens it looks at have read before",
    ),
    Mistake(lambda a, n: a[:, len(a) :], "`layers` is not used; with more of them words travel on, from token to token"),
    Mistake(
        _against_the_arrows,
        "words travel the wrong way: `allowed[i, j]` means that i looks at j, so i learns what j knows and not the other way round",
    ),
    Mistake(
        _all_or_direct,
        "not everybody knows everything after two layers: a word travels one step in each layer, along the pairs that are allowed",
    ),
    Mistake(
        lambda a, n: _reach(a, n).any(dim=1),
        "whether any word arrives is only half of the answer: return which words, (q, l)",
    ),
)

# 6.4 ------------------------------------------------------------------------------------------------------------------


def check_guesser(student: Callable[[Tensor], Tensor]) -> None:
    """`student(targets (rows, k))` → what a guesser pays in nats who knows only how common codes are, a tensor with one number."""

    def case(generator, draw):
        rows, k = draw(5, 12), draw(4, 9)
        targets = (3 * torch.randn(rows, k, generator=generator)).softmax(dim=-1)
        targets[:, -1] = 0  # a prototype that no target asks for
        return Case(targets=targets / targets.sum(dim=-1, keepdim=True))

    compare("Exercise 6.4", student, _guesser, cases_of(case), GUESSER_MISTAKES)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(dim=-1)


def _guesser(targets: Tensor) -> Tensor:
    return _entropy(targets.mean(dim=0))


def _hard(targets: Tensor) -> Tensor:
    return _entropy(torch.bincount(targets.argmax(dim=-1), minlength=targets.shape[1]) / len(targets))


def _undefined(targets: Tensor) -> Tensor:
    mean = targets.mean(dim=0)
    return -(mean * mean.log()).sum()


GUESSER_MISTAKES = (
    Mistake(
        lambda t: _entropy(t).mean(),
        "this is the mean of the entropies: what a perfect student pays. A guesser cannot tell rows apart; take the mean target first, "
        "then its entropy",
    ),
    Mistake(
        _undefined,
        "0 · ln 0 is nan in floating point, and a prototype that no target asks for is no reason to have no answer: clamp the mean, or "
        "use torch.special.entr",
    ),
    Mistake(
        lambda t: torch.tensor(math.log(t.shape[1])),
        "ln k is what somebody pays who knows nothing; this guesser knows how common codes are",
    ),
    Mistake(lambda t: _guesser(t) / math.log(2), "these are bits; losses here are in nats: the natural logarithm"),
    Mistake(lambda t: -_guesser(t), "the sign is missing: ln of a share is negative, an entropy is not"),
    Mistake(
        lambda t: _entropy(t.sum(dim=0)),
        "the targets are added up, not averaged: only shares that add up to 1 have an entropy",
    ),
    Mistake(_hard, "targets are soft: each spreads over several codes, and argmax throws that away"),
    Mistake(
        lambda t: _entropy(t.mean(dim=1)),
        "the mean runs over the codes; it must run over the rows, so that one number for each code is left",
    ),
)
