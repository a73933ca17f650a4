"""Checkers of notebook 02: the right answer passes, typical wrong ones are told their mistake."""

import torch
import torch.nn.functional as F
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import image_encoder
from semmim_mini.course.image_encoder import check_attention, check_embed, check_patchify


def loops(images, patch, by_column=False):
    b, _, height, width = images.shape
    places = [(i, j) for i in range(0, height, patch) for j in range(0, width, patch)]
    places = sorted(places, key=lambda place: place[::-1]) if by_column else places
    return torch.stack([images[:, :, i : i + patch, j : j + patch].reshape(b, -1) for i, j in places], dim=1)


def attend(query, key, value, allowed, scale=True, forbidden=-torch.inf):
    scores = torch.einsum("bhqc,bhsc->bhqs", query, key) / (query.shape[-1] ** 0.5 if scale else 1)
    return F.softmax(torch.where(allowed, scores, forbidden), dim=-1) @ value


def embed(patches, mask, cls, mask_token, positions):
    shown = patches.clone()
    shown[mask] = mask_token
    return torch.cat([cls[None, None].repeat(len(shown), 1, 1), shown], dim=1) + positions[None]


def embed_too_late(patches, mask, cls, mask_token, positions):
    placed = patches + positions[1:]
    placed[mask] = mask_token
    return torch.cat([(cls + positions[0])[None, None].repeat(len(placed), 1, 1), placed], dim=1)


NUMBER = 2
RIGHT = [
    (check_patchify, loops),
    (check_patchify, lambda x, p: F.unfold(x, p, stride=p).mT),
    (check_attention, attend),
    (check_embed, embed),
]
WRONG = [
    (check_patchify, lambda x, p: loops(x, p, by_column=True), "column by column"),
    (check_patchify, lambda x, p: x.flatten().view(len(x), -1, 3 * p * p), "reshape alone"),
    (check_patchify, lambda x, p: loops(x.mT, p, by_column=True), "rows and columns have changed places"),
    (check_patchify, lambda x, p: loops(x, p).mT, "two axes may have changed places"),
    (check_attention, lambda q, k, v, a: attend(q, k, v, a, scale=False), "not scaled"),
    (check_attention, lambda q, k, v, a: attend(q, k, v, torch.ones_like(a)), "`allowed` is not used"),
    (check_attention, lambda q, k, v, a: attend(q, k, v, a, forbidden=0.0), "a score of 0 is no ban"),
    (check_attention, lambda q, k, v, a: ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * a) @ v, "after the softmax"),
    (check_embed, embed_too_late, "no longer knows where it is"),
    (check_embed, lambda x, m, c, t, p: embed(x, m, c, t, p).roll(-1, dims=1), r"\[CLS\] stands at the end"),
    (check_embed, lambda x, m, c, t, p: embed(x, ~m, c, t, p), "wrong patches are hidden"),
    (check_embed, lambda x, m, c, t, p: embed(x, m, c, t, p.roll(-1, dims=0).roll(1, dims=0) * 0), "positions are missing"),
]  # fmt: skip
LISTS = (
    (check_patchify, image_encoder.PATCHIFY_MISTAKES),
    (check_attention, image_encoder.ATTENTION_MISTAKES),
    (check_embed, image_encoder.EMBED_MISTAKES),
)
