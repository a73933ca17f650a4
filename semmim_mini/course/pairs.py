"""Checkers of notebook 01, image–text pairs: from pixels to patches, from words to patches, mirroring, hidden words."""

from collections.abc import Callable

import torch
from einops import rearrange, reduce
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, compare
from semmim_mini.data.text import IGNORE, Vocabulary, mask_tokens
from semmim_mini.data.views import names_a_side


def _draw(seed: int = 0) -> Callable[[int, int], int]:
    """Whole numbers from low to high, both included; the same ones in every run."""
    generator = torch.Generator().manual_seed(seed)
    return lambda low, high: int(torch.randint(low, high + 1, (), generator=generator))


# 1.1 ------------------------------------------------------------------------------------------------------------------


def check_patch_share(student: Callable[[Tensor, int], Tensor]) -> None:
    """`student(object_map (h, w), patch)` → share of each patch's pixels that belong to any object, (n,), row by row."""
    draw, cases = _draw(), []
    for _ in range(8):
        rows, columns, patch = draw(2, 5), draw(2, 5), draw(2, 6)
        shown = torch.randint(0, 4, (rows * patch, columns * patch), generator=torch.Generator().manual_seed(draw(0, 999)))
        cases.append(Case(object_map=shown, patch=patch))
    compare("Exercise 1.1", student, _patch_share, cases, PATCH_SHARE_MISTAKES)


def _patch_share(object_map: Tensor, patch: int) -> Tensor:
    return reduce((object_map > 0).float(), "(i p) (j q) -> (i j)", "mean", p=patch, q=patch)


PATCH_SHARE_MISTAKES = (
    Mistake(
        lambda shown, patch: reduce((shown > 0).float(), "(i p) (j q) -> (j i)", "mean", p=patch, q=patch),
        "your patches run column by column; the image encoder reads row by row: (i j), not (j i)",
    ),
    Mistake(
        lambda shown, patch: reduce((shown > 0).float(), "(i p) (j q) -> i j", "mean", p=patch, q=patch),
        "the shares are right, but they lie in a grid; make one axis of n patches of it",
    ),
    Mistake(
        lambda shown, patch: reduce((shown > 0).float(), "(i p) (j q) -> (i j)", "sum", p=patch, q=patch),
        "you count the object pixels of a patch; a share is their mean, between 0 and 1",
    ),
    Mistake(
        lambda shown, patch: reduce(shown.float(), "(i p) (j q) -> (i j)", "mean", p=patch, q=patch),
        "you average the values of the map; they are names, not amounts. Ask first which pixels belong to any object: map > 0",
    ),
    Mistake(
        lambda shown, patch: reduce((shown == 0).float(), "(i p) (j q) -> (i j)", "mean", p=patch, q=patch),
        "this is the share of background; 0 in the map means no object",
    ),
    Mistake(
        lambda shown, patch: (shown > 0).float().reshape(-1, patch * patch).mean(dim=1),
        "reshape alone cuts rows into pieces of patch² pixels; a patch is a square, so its two axes must be split and brought together",
    ),
)

# 1.2 ------------------------------------------------------------------------------------------------------------------


def check_named(student: Callable[[Tensor, tuple[int, ...]], Tensor]) -> None:
    """`student(shown (n,), objects)` → True for patches that show one of the named objects, (n,) bool."""
    draw, cases = _draw(), []
    for i in range(8):
        n, count = draw(12, 30), draw(2, 4)
        shown = torch.arange(n) % (count + 1)  # every object and the background are there
        chosen = tuple(sorted(torch.randperm(count, generator=torch.Generator().manual_seed(i))[: 1 + i % 2].tolist()))
        cases.append(Case(shown=shown[torch.randperm(n, generator=torch.Generator().manual_seed(i))], objects=chosen))
    compare("Exercise 1.2", student, _named, cases, NAMED_MISTAKES)


def _named(shown: Tensor, objects: tuple[int, ...]) -> Tensor:
    return torch.isin(shown, torch.tensor([1 + i for i in objects]))


NAMED_MISTAKES = (
    Mistake(
        lambda shown, objects: torch.isin(shown, torch.tensor(objects)),
        "off by one: object j is stored as j + 1, because 0 is the background",
    ),
    Mistake(
        lambda shown, objects: torch.isin(shown, torch.tensor([0] + [1 + i for i in objects])),
        "the background is named, too; 0 in `shown` is no object",
    ),
    Mistake(lambda shown, objects: shown > 0, "this is True for every object, named or not; the mention's `objects` is not used"),
    Mistake(
        lambda shown, objects: shown == 1 + objects[0],
        "only the first object of the mention is looked for; `two dogs` names two. torch.isin compares with several values at once",
    ),
    Mistake(lambda shown, objects: ~_named(shown, objects), "this is True where the patch is not named; turn it round"),
    Mistake(
        lambda shown, objects: _named(shown, objects).float(),
        "a mask is made of True and False; numbers 0.0 and 1.0 cannot pick patches (shown[mask])",
    ),
)

# 1.3 ------------------------------------------------------------------------------------------------------------------

CAPTIONS = (
    *("a dog to the left of a car", "a red bus", "The Left shoe is brown", "a cup on the right", "a bright yellow lemon"),
    *("an upright piano", "the RIGHT glove", "two cleft rocks", "the leftmost balloon is red", "a right-hand drive car, seen from above"),
    *("a star above a ship", "a copyright sign on a box"),
)


def check_may_mirror(student: Callable[[str], bool]) -> None:
    """`student(caption)` → whether the picture may be mirrored without making the caption false."""
    compare("Exercise 1.3", student, _may_mirror, [Case(caption=caption) for caption in CAPTIONS], MIRROR_MISTAKES)


def _may_mirror(caption: str) -> bool:
    return not names_a_side(caption)


def _has_word(caption: str, *words: str) -> bool:
    return any(word in caption.lower().replace("-", " ").split() for word in words)


MIRROR_MISTAKES = (
    Mistake(names_a_side, "turned round: a caption that names a side must not be mirrored"),
    Mistake(
        lambda caption: not ("left" in caption.lower() or "right" in caption.lower()),
        "bright, upright, copyright and cleft contain the letters, but name no side; look for the beginning of a word (`\\b` in a regex)",
    ),
    Mistake(
        lambda caption: not ("left" in caption or "right" in caption),
        "two things: capital letters are missed, and parts of words (bright) are taken for sides",
    ),
    Mistake(
        lambda caption: not _has_word(caption, "left", "right"),
        "whole words are found, but leftmost names a side as well: any word that begins with left or right does",
    ),
    Mistake(
        lambda caption: not _has_word(caption, "left", "leftmost"),
        "only left is looked for; a caption with right becomes just as false",
    ),
    Mistake(
        lambda caption: not any(word.startswith(("left", "right")) for word in caption.split()),
        "capital letters are missed: a sentence may begin with Left",
    ),
    Mistake(lambda caption: True, "this allows every mirror image; `a dog to the left of a car` would become false"),
    Mistake(lambda caption: False, "this never mirrors: safe, but most captions name no side, and half of the variety is lost"),
)

# 1.4 ------------------------------------------------------------------------------------------------------------------


def check_hidden(student: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """`student(word (b, l) bool, order (b, l), share)` → which tokens are hidden, (b, l) bool: max(1, round(share · words)) a row."""
    draw, cases = _draw(), []
    for i in range(8):
        b, length = draw(3, 5), draw(8, 14)
        generator = torch.Generator().manual_seed(i)
        words = torch.randint(2, length - 3, (b, 1), generator=generator)
        place = torch.arange(length)
        word = (place > 0) & (place <= words)  # after [CLS]; behind the words come [SEP] and padding
        cases.append(Case(word=word, order=torch.rand(b, length, generator=generator), share=draw(10, 60) / 100))
    compare("Exercise 1.4", student, _hidden, cases, HIDDEN_MISTAKES)


def _hidden(word: Tensor, order: Tensor, share: float) -> Tensor:
    """By the library's own function: words are piece 5, everything else is padding."""
    vocabulary = Vocabulary(size=7, mask=4, special=(0,))
    fates = torch.zeros_like(order)  # every hidden word becomes [MASK]
    uniform = rearrange([order, fates, fates], "three b l -> b three l")
    return mask_tokens(5 * word.long(), word, vocabulary, share, uniform=uniform)[1] != IGNORE


def _lowest(order: Tensor, count: Tensor) -> Tensor:
    return order.argsort(dim=1).argsort(dim=1) < count[:, None]


def _of_words(word: Tensor, order: Tensor, count: Tensor) -> Tensor:
    return word & _lowest(order.masked_fill(~word, 2.0), count)


HIDDEN_MISTAKES = (
    Mistake(
        lambda word, order, share: word & (order < share),
        "every word tosses its own coin, so the count is right on average only, and a short caption may keep all its words; "
        "hide exactly max(1, round(share · words)) of each row, those with the lowest `order`",
    ),
    Mistake(
        lambda word, order, share: _lowest(order, (word.sum(dim=1) * share).round().clamp_min(1)),
        "[CLS], [SEP] or padding are hidden; put everything that is no word behind the words before you sort (masked_fill with 2)",
    ),
    Mistake(
        lambda word, order, share: word & _lowest(order, (word.sum(dim=1) * share).round().clamp_min(1)),
        "some rows hide too few: [CLS], [SEP] and padding took part in the sorting and used up places; "
        "put them behind the words first (masked_fill with 2)",
    ),
    Mistake(
        lambda word, order, share: _of_words(word, order, (word.sum(dim=1) * share).round()),
        "a short caption hides nothing; at least one word a row, or its sample teaches nothing (clamp_min)",
    ),
    Mistake(
        lambda word, order, share: _of_words(word, order, torch.full((len(word),), word.shape[1] * share).round().clamp_min(1)),
        "the share is taken of l, padding included; take it of each row's own words: word.sum(dim=1)",
    ),
    Mistake(
        lambda word, order, share: _of_words(word, order, (word.sum(dim=1) * share).floor().clamp_min(1)),
        "the count is rounded down; take round(), or captions of nine words hide one where two are meant at 20 %",
    ),
    Mistake(lambda word, order, share: word & ~_hidden(word, order, share), "this marks the words that stay; turn it round"),
)
