"""Checkers of notebook 02, the image encoder: cutting patches, attention written out, where the mask token goes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare

# 2.1 ------------------------------------------------------------------------------------------------------------------


def check_patchify(student: Callable[[Tensor, int], Tensor]) -> None:
    """`student(images (b, 3, h, w), patch)` → (b, n, 3·p·p): row by row, inside a patch channels first, as a convolution's weights."""

    def case(generator, draw):
        patch = draw(2, 4)
        size = draw(1, 3), 3, patch * draw(2, 3), patch * draw(4, 5)
        return Case(images=torch.randn(size, generator=generator), patch=patch)

    compare("Exercise 2.1", student, _patchify, cases_of(case), PATCHIFY_MISTAKES)


def _patchify(images: Tensor, patch: int) -> Tensor:
    return rearrange(images, "b c (i p) (j q) -> b (i j) (c p q)", p=patch, q=patch)


PATCHIFY_MISTAKES = (
    Mistake(
        lambda x, p: rearrange(x, "b c (i p) (j q) -> b (j i) (c p q)", p=p, q=p),
        "patches run column by column; positions and masks of this library count row by row: (i j)",
    ),
    Mistake(
        lambda x, p: rearrange(x, "b c (i p) (j q) -> b (i j) (p q c)", p=p, q=p),
        "inside a patch the channels come last; a convolution's weights are (d, 3, p, p), so the channels must come first: (c p q)",
    ),
    Mistake(
        lambda x, p: rearrange(x, "b c (i p) (j q) -> b (i j) (c q p)", p=p, q=p),
        "inside a patch rows and columns have changed places: (c p q), not (c q p)",
    ),
    Mistake(
        lambda x, p: x.reshape(len(x), -1, 3 * p * p),
        "reshape alone takes pixels in the order in which they lie in memory, a row of the image after another; "
        "split h and w first, then bring the axes of one patch together",
    ),
    Mistake(
        lambda x, p: rearrange(x, "b c (p i) (q j) -> b (i j) (c p q)", p=p, q=p),
        "(p i) takes every i-th pixel: neighbours land in different patches. The patch's own axis must run fastest: (i p)",
    ),
)

# 2.2 ------------------------------------------------------------------------------------------------------------------


def check_attention(student: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`student(query, key, value, allowed)` → what each query gathers, (b, h, q, c); keys where `allowed` (q, s) is False count nothing."""

    def case(generator, draw):
        b, h, q, s, c = draw(1, 3), draw(1, 3), draw(3, 5), draw(6, 8), draw(4, 9)
        query, key, value = (torch.randn(b, h, length, c, generator=generator) for length in (q, s, s))
        allowed = torch.rand(q, s, generator=generator) < 0.7
        allowed[:, 0] = True  # a row without any key has no softmax
        return Case(query=query, key=key, value=value, allowed=allowed)

    compare("Exercise 2.2", student, _attention, cases_of(case), ATTENTION_MISTAKES)


def _attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)


def _written_out(query, key, value, allowed, scale=None, dim=-1, forbidden=float("-inf")) -> Tensor:
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale(query.shape[-1]))
    return scores.masked_fill(~allowed, forbidden).softmax(dim=dim) @ value


def _zero_after(query, key, value, allowed) -> Tensor:
    return ((query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1) * allowed) @ value


ATTENTION_MISTAKES = (
    Mistake(
        lambda q, k, v, a: _written_out(q, k, v, a, scale=lambda c: 1.0),
        "the scores are not scaled; without 1/√c they grow with c, and softmax chooses one key and stops learning",
    ),
    Mistake(lambda q, k, v, a: _written_out(q, k, v, a, scale=lambda c: 1 / c), "the scores are divided by c; it is the square root, √c"),
    Mistake(lambda q, k, v, a: _written_out(q, k, v, a, scale=lambda c: c**0.5), "the scores are multiplied by √c; divide by it"),
    Mistake(
        lambda q, k, v, a: _written_out(q, k, v, a, dim=-2, forbidden=-1e9),
        "softmax runs over the queries; every query shares one unit of attention out among the keys: dim=-1",
    ),
    Mistake(lambda q, k, v, a: _written_out(q, k, v, torch.ones_like(a)), "`allowed` is not used; forbidden keys still count"),
    Mistake(
        _zero_after,
        "forbidden keys are set to zero after the softmax, so the rest no longer adds up to 1; set their scores to -inf before it",
    ),
    Mistake(
        lambda q, k, v, a: _written_out(q, k, v, a, forbidden=0.0),
        "a score of 0 is no ban: exp(0) = 1. Forbidden keys need -inf before the softmax",
    ),
    Mistake(lambda q, k, v, a: _written_out(q, k, v, ~a, forbidden=-1e9), "the mask is turned round: True means that a query may look"),
)

# 2.3 ------------------------------------------------------------------------------------------------------------------


def check_embed(student: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`student(patches (b, n, d), mask (b, n), cls (d,), mask_token (d,), positions (1+n, d))` → (b, 1+n, d)."""

    def case(generator, draw):
        b, n, d = draw(2, 4), draw(4, 9), draw(3, 6)
        sizes = {"patches": (b, n, d), "cls": (d,), "mask_token": (d,), "positions": (1 + n, d)}
        drawn = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
        mask = torch.rand(b, n, generator=generator) < 0.5
        mask[:, 0], mask[:, 1] = True, False
        return Case(patches=drawn.pop("patches"), mask=mask, **drawn)

    compare("Exercise 2.3", student, _embed, cases_of(case), EMBED_MISTAKES)


def _with_cls(patches: Tensor, cls: Tensor) -> Tensor:
    return torch.cat([cls.expand(len(patches), 1, -1), patches], dim=1)


def _embed(patches: Tensor, mask: Tensor, cls: Tensor, mask_token: Tensor, positions: Tensor) -> Tensor:
    return _with_cls(torch.where(mask[..., None], mask_token, patches), cls) + positions


EMBED_MISTAKES = (
    Mistake(
        lambda x, m, cls, token, pos: _with_cls(torch.where(m[..., None], token, x + pos[1:]), cls + pos[0]),
        "the mask token replaces the position, too: a hidden patch no longer knows where it is. Hide first, then add positions",
    ),
    Mistake(
        lambda x, m, cls, token, pos: _embed(x, ~m, cls, token, pos),
        "the wrong patches are hidden: True in `mask` means hidden",
    ),
    Mistake(
        lambda x, m, cls, token, pos: torch.cat([_embed(x, m, cls, token, pos)[:, 1:], (cls + pos[0]).expand(len(x), 1, -1)], dim=1),
        "[CLS] stands at the end; everywhere in this library it comes first",
    ),
    Mistake(
        lambda x, m, cls, token, pos: _with_cls(torch.where(m[..., None], token, x) + pos[1:], cls),
        "[CLS] has no position; it has one of its own, positions[0]",
    ),
    Mistake(
        lambda x, m, cls, token, pos: _with_cls(torch.where(m[..., None], token, x) + pos[:-1], cls + pos[-1]),
        "positions are shifted by one: positions[0] belongs to [CLS], positions[1] to the first patch",
    ),
    Mistake(lambda x, m, cls, token, pos: _embed(x, m, cls, token, torch.zeros_like(pos)), "the positions are missing"),
    Mistake(
        lambda x, m, cls, token, pos: _with_cls(torch.where(m[..., None], x + token, x), cls) + pos,
        "the mask token is added to the patch; it must take its place, or the patch can still be seen",
    ),
)
