r"""Does the mask follow the caption? Pictures, the relevance of their patches, and what is hidden because of it.

Where the truth is known, objects that the caption names are outlined in the colour of their words, and a share stands under every
mask: how much of what is hidden lies on them. A random mask of the same size is the reference, in the picture and in the number.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from semmim_mini.data.pairs import Mention
from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.figures.style import (
    GREY,
    HEAT,
    MARGIN,
    OBJECT_COLOURS,
    SMALL,
    WIDTH,
    Drawn,
    Run,
    Sheet,
    as_picture,
    heat,
    hidden,
    line_height,
    outline,
    percent,
    styled,
    wrap_runs,
)
from semmim_mini.instruments.held_out import HeldOut, caption_twins
from semmim_mini.instruments.mask_quality import counts_of, mask_quality, named_and_objects, relevance_of
from semmim_mini.objectives.masking import hide_highest
from semmim_mini.training.step import SemMIMStep

TILE, BETWEEN = 1.0, 0.07  # a picture and the space beside it, in inches
BLOCKS = 2  # scenes side by side
BLOCK = 4 * TILE + 3 * BETWEEN


class Masks(NamedTuple):
    """What the masker thinks of a batch, as numbers (b, n)."""

    relevance: np.ndarray
    text: np.ndarray
    random: np.ndarray


@torch.no_grad()
def masks_of(step: SemMIMStep, batch: HeldOut, seed: int = 0) -> Masks:
    """The relevance and the masks that `mask_quality` measures, drawn from the same random numbers."""
    draw = torch.Generator().manual_seed(seed)
    counts = counts_of(step, torch.rand(len(batch.pairs), 2, generator=draw))
    relevance = relevance_of(step, batch)
    random = hide_highest(torch.rand(relevance.shape, generator=draw), counts)
    return Masks(*(x.numpy() for x in (relevance, hide_highest(relevance, counts), random)))


@styled
def text_guided_masks(step: SemMIMStep, batch: HeldOut, rows: int = 6, seed: int = 0) -> Drawn:
    """The first `rows` pictures of a batch, not chosen, each with relevance, text-guided mask, random mask and caption.

    Returns:
        For scenes the numbers of `instruments.mask_quality.mask_quality` over the whole batch; for photos the masked share.
    """
    rows, masks, patch = min(rows, len(batch.pairs)), masks_of(step, batch, seed), step.config.image.patch
    named = named_and_objects(batch, patch)[0].cpu().numpy() if _has_truth(batch) else None
    number = mask_quality(step, [batch], seed) if named is not None else {"masked_share": float(masks.text.mean())}
    captions = [wrap_runs(caption_runs(batch, row), BLOCK) for row in range(rows)]
    under = 0.22 if named is not None else 0.07
    places, height = _places([TILE + under + len(lines) * line_height() for lines in captions])
    sheet = Sheet(_title(number, len(batch.pairs)), height, _note(named is not None))
    for row, (left, top) in enumerate(places):
        if row < BLOCKS:
            _heads(sheet, left, ("picture", "relevance", "text-guided", "random"))
        _scene(sheet, left, top, batch, row, [masks.relevance[row], masks.text[row], masks.random[row]], patch)
        for column, mask in ((2, masks.text), (3, masks.random)) if named is not None else ():
            middle, share = left + column * (TILE + BETWEEN) + TILE / 2, float(named[row][mask[row]].mean())
            sheet.text(middle, top + TILE + 0.04, f"{percent(share)} named", SMALL, "center", color=GREY)
        sheet.lines(left, top + TILE + under, captions[row])
    return Drawn(sheet.figure, number)


def _places(heights: list[float]) -> tuple[list[tuple[float, float]], float]:
    """Left and top of blocks of these heights, `BLOCKS` side by side below a line of column heads; and the height of all."""
    places, top = [], 0.22
    for first in range(0, len(heights), BLOCKS):
        side_by_side = heights[first : first + BLOCKS]
        places += [(MARGIN + i * (WIDTH - 2 * MARGIN - BLOCK), top) for i in range(len(side_by_side))]
        top += max(side_by_side) + 0.14
    return places, top


def _title(number: dict, pictures: int) -> str:
    if "named_text" not in number:
        return f"Text-guided masks hide the {percent(number['masked_share'])} of the patches that the caption's words attend to most"
    return (
        f"Text-guided masks: {percent(number['named_text'])} of what they hide lies on objects the caption names; "
        f"random masks: {percent(number['named_random'])}, the middle of every picture: {percent(number['named_middle'])} "
        f"({pictures} scenes)"
    )


def _note(truth: bool) -> str:
    first = "The first held-out pictures, not chosen. Relevance: bright is high, scaled for each picture."
    return first + (" Outlines: objects the caption names, in the colour of their words; under a mask, its share on them." if truth else "")


def _heads(sheet: Sheet, left: float, names: tuple[str, ...]) -> None:
    for column, name in enumerate(names):
        sheet.text(left + column * (TILE + BETWEEN) + TILE / 2, 0, name, SMALL, "center", weight="bold")


def _scene(sheet: Sheet, left: float, top: float, batch: HeldOut, row: int, shown: list[np.ndarray], patch: int) -> None:
    """A picture and, beside it, its relevance (numbers) and masks (bool), all with the named objects outlined."""
    picture, named = as_picture(batch.images[0][row]), named_objects(batch, row, patch)
    for column, values in enumerate([None, *shown]):
        if values is None:
            tile, how = picture, {}
        else:
            grid = values.reshape(len(picture) // patch, -1)
            masked = grid.dtype == bool
            tile, how = (hidden(picture, grid, patch), {}) if masked else (heat(grid, patch), {"cmap": HEAT})
        axes = sheet.picture(left + column * (TILE + BETWEEN), top, TILE, tile, **how)
        for inside, colour in named:
            outline(axes, inside, patch, colour)


# the same picture, two captions ---------------------------------------------------------------------------------------


@styled
def masks_for_two_captions(step: SemMIMStep, tokenizer, batch: HeldOut, rows: int = 4, seed: int = 0) -> Drawn:
    """The same picture read with two captions that name different things: does the mask move?

    Pictures without two such captions are left out; where there are none, the second caption is the next picture's.

    Returns:
        `own` and `other`: shares of masked patches on objects that only the caption read, or only the other one, names. A mask
        that ignores the words has own = other. `overlap`: patches hidden under both captions per patch hidden under either;
        `overlap_random`: of two random masks. Photos have the overlaps only.
    """
    one, two = caption_twins(batch, tokenizer, step.config.data.max_length)
    masks, patch = [masks_of(step, twin, seed) for twin in (one, two)], step.config.image.patch
    number, rows = follow(one, two, masks, patch), min(rows, len(one.pairs))
    width = 2 * TILE + BETWEEN
    captions = [[wrap_runs(caption_runs(twin, row), width) for twin in (one, two)] for row in range(rows)]
    places, height = _places([TILE + 0.07 + max(map(len, both)) * line_height() for both in captions])
    sheet = Sheet(_title_two(number, len(one.pairs)), height, _note_two("own" in number))
    for row, (left, top) in enumerate(places):
        if row < BLOCKS:
            _heads(sheet, left, ("relevance", "mask", "relevance", "mask"))
        for i, twin in enumerate((one, two)):
            x = left + i * (width + BETWEEN)
            _pair(sheet, x, top, twin, row, masks[i], patch)
            sheet.lines(x, top + TILE + 0.07, captions[row][i])
    return Drawn(sheet.figure, number)


def _pair(sheet: Sheet, left: float, top: float, batch: HeldOut, row: int, masks: Masks, patch: int) -> None:
    picture, named = as_picture(batch.images[0][row]), named_objects(batch, row, patch)
    side = len(picture) // patch
    first = sheet.picture(left, top, TILE, heat(masks.relevance[row], patch), cmap=HEAT)
    second = sheet.picture(left + TILE + BETWEEN, top, TILE, hidden(picture, masks.text[row].reshape(side, side), patch))
    for axes in (first, second):
        for inside, colour in named:
            outline(axes, inside, patch, colour)


def follow(one: HeldOut, two: HeldOut, masks: list[Masks], patch: int) -> dict[str, float]:
    """The numbers of `masks_for_two_captions`."""
    first, second = (m.text for m in masks)
    hidden_share = float(first.mean())
    number = {
        "overlap": float((first & second).sum() / max((first | second).sum(), 1)),
        "overlap_random": hidden_share / (2 - hidden_share),  # r² of r + r − r²
    }
    if _has_truth(one) and one.chosen != two.chosen:
        named = [named_and_objects(twin, patch)[0].cpu().numpy() for twin in (one, two)]
        only = [named[0] & ~named[1], named[1] & ~named[0]]
        hidden_count = first.sum() + second.sum()
        number["own"] = float(((first & only[0]).sum() + (second & only[1]).sum()) / hidden_count)
        number["other"] = float(((first & only[1]).sum() + (second & only[0]).sum()) / hidden_count)
    return number


def _title_two(number: dict, pictures: int) -> str:
    if "own" not in number:
        shares = f"{percent(number['overlap'])} (random ones {percent(number['overlap_random'])})"
        return f"The same picture, two captions: their masks have {shares} in common"
    return (
        f"The same scene, two captions: {percent(number['own'])} of the mask lies on objects that only the caption read names, "
        f"{percent(number['other'])} on those that only the other names ({pictures} scenes)"
    )


def _note_two(truth: bool) -> str:
    if not truth:
        return "Relevance: bright is high, scaled for each picture. A score that ignores the words gives both captions one mask."
    return "Outlined: what the caption names. A score that ignores the words gives both captions one mask, and equal shares."


# truth ----------------------------------------------------------------------------------------------------------------


def _has_truth(batch: HeldOut) -> bool:
    return batch.pairs[0].truth is not None


def _mentions(batch: HeldOut, row: int) -> tuple[Mention, ...]:
    """Mentions of the caption that was really read; a neighbour's caption has none here."""
    truth = batch.pairs[row].truth
    return () if truth is None else truth.mentions[batch.chosen[row]]


def caption_runs(batch: HeldOut, row: int) -> list[Run]:
    """The caption with the words that name objects in colour."""
    caption, runs, at = batch.pairs[row].captions[batch.chosen[row]], [], 0
    for mention, colour in zip(_mentions(batch, row), OBJECT_COLOURS * 9, strict=False):
        runs += [(caption[at : mention.start], None), (caption[mention.start : mention.end], colour)]
        at = mention.end
    return [*runs, (caption[at:], None)]


def named_objects(batch: HeldOut, row: int, patch: int) -> list[tuple[np.ndarray, str]]:
    """For every mention of the caption, the patches (side, side) that show its objects, and its colour."""
    mentions = _mentions(batch, row)
    if not mentions:
        return []
    shown: Tensor = patch_objects(batch.object_maps[row], patch).cpu()
    side = int(len(shown) ** 0.5)
    wanted = [torch.tensor([1 + i for i in mention.objects]) for mention in mentions]
    return [(torch.isin(shown, w).reshape(side, side).numpy(), c) for w, c in zip(wanted, OBJECT_COLOURS * 9, strict=False)]
