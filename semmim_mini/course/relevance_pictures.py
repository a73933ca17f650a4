"""Pictures of notebook 05, about scores: what each word attends to, four relevances, untrained networks, and a scene to explore."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from semmim_mini.course.explorer import read_scene
from semmim_mini.course.masking_pictures import INNER, greyed
from semmim_mini.data.pairs import Pairs
from semmim_mini.figures.masks import caption_runs, named_objects
from semmim_mini.figures.style import (
    BLUE,
    GREY,
    HEAT,
    INK,
    MARGIN,
    ORANGE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    heat,
    line_height,
    outline,
    percent,
    styled,
    text_width,
    wrap_runs,
)
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.instruments.mask_numbers import on_named
from semmim_mini.instruments.mask_quality import named_and_objects
from semmim_mini.objectives.masking import hide_blocks, hide_highest, mask_counts
from semmim_mini.training.schedules import full_plan
from semmim_mini.training.step import SemMIMStep

STRATEGIES = ("text_high", "text_low", "random", "block", "attention")
RELEVANCES = ("caption", "cross", "query", "itc")
COLUMNS = 8  # words side by side


@styled
def word_maps(batch: HeldOut, row: int, tokens: Sequence[str], maps: Float[Tensor, "t n"]) -> Drawn:
    """A scene, and for each token the patches that it attends to; objects that the caption names are outlined.

    Returns:
        The share of the tokens' attention that lies on any object, and the share of patches that objects are.
    """
    patch, tile = batch.images.shape[-1] // int(maps.shape[1] ** 0.5), INNER / COLUMNS - 0.1
    objects, picture = named_and_objects(batch, patch)[1][row], as_picture(batch.images[0][row])
    number = {"attention": float((maps * objects).sum() / maps.sum()), "objects": float(objects.float().mean())}
    rows = -(-(1 + len(tokens)) // COLUMNS)
    title = f"These words spend {percent(number['attention'])} of their attention on objects, {percent(number['objects'])} of the patches"
    sheet = Sheet(title, rows * (tile + 0.32), "Bright: much attention, scaled for each word. Outlined: what the caption names.")
    for i in range(1 + len(tokens)):
        left, top = MARGIN + i % COLUMNS * (tile + 0.1), i // COLUMNS * (tile + 0.32)
        shown, how = (picture, {}) if i == 0 else (heat(maps[i - 1], patch), {"cmap": HEAT})
        axes = sheet.picture(left, top + 0.2, tile, shown, **how)
        for inside, colour in named_objects(batch, row, patch):
            outline(axes, inside, patch, colour)
        sheet.text(left + tile / 2, top, "scene" if i == 0 else tokens[i - 1], SMALL, "center", weight="bold")
    return Drawn(sheet.figure, number)


@styled
def relevance_maps(batch: HeldOut, rows: Sequence[int], relevance: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Drawn:
    """Scenes with their relevance by every score, and the mask that each makes.

    Args:
        relevance, masks: by score, (b, n).

    Returns:
        For each score, the share of hidden patches of the whole batch that lie on named objects; `chance` of random ones.
    """
    patch = batch.images.shape[-1] // int(next(iter(masks.values())).shape[1] ** 0.5)
    named, tile = named_and_objects(batch, patch)[0], INNER / (1 + len(masks)) - 0.12
    number = {kind: on_named(mask, named) for kind, mask in masks.items()} | {"chance": float(named.float().mean())}
    captions = [wrap_runs(caption_runs(batch, row), INNER) for row in rows]
    tall = [2 * (tile + 0.08) + len(lines) * line_height() + 0.14 for lines in captions]
    said = ", ".join(f"{kind} {percent(number[kind])}" for kind in masks)
    title = f"Hidden patches on named objects: {said}; chance {percent(number['chance'])} ({len(named)} scenes)"
    sheet, top = (
        Sheet(title, 0.22 + sum(tall), "Relevance above, bright is high, scaled for each map; its mask below. Outlined: named."),
        0.22,
    )
    for column, head in enumerate(("scene", *masks)):
        sheet.text(MARGIN + column * (tile + 0.12) + tile / 2, 0, head, SMALL, "center", weight="bold")
    for row, lines, height in zip(rows, captions, tall, strict=True):
        picture, outlines = as_picture(batch.images[0][row]), named_objects(batch, row, patch)
        tiles = [(0, 0, picture, {})]
        for column, kind in enumerate(masks, start=1):
            tiles += [(column, 0, heat(relevance[kind][row], patch), {"cmap": HEAT})]
            tiles += [(column, 1, greyed(picture, masks[kind][row], patch), {})]
        for column, line, shown, how in tiles:
            axes = sheet.picture(MARGIN + column * (tile + 0.12), top + line * (tile + 0.08), tile, shown, **how)
            for inside, colour in outlines:
                outline(axes, inside, patch, colour)
        sheet.lines(MARGIN, top + 2 * (tile + 0.08) + 0.02, lines)
        top += height
    return Drawn(sheet.figure, number)


@styled
def against_untrained(trained: Mapping[str, float], untrained: Mapping[str, Sequence[float]], chance: float, middle: float) -> Drawn:
    """A share of the trained network beside those of networks that never learned anything, for every score.

    Args:
        chance, middle: the same share of random masks, and of masks on the middle of every picture.

    Returns:
        `chance` and `middle`; for each score `NAME`, and `NAME_untrained`, the best of the untrained.
    """
    number = {"chance": chance, "middle": middle} | dict(trained) | {f"{kind}_untrained": max(shares) for kind, shares in untrained.items()}
    above = [kind for kind in trained if trained[kind] > max(untrained[kind])]
    count = len(next(iter(untrained.values())))
    sheet = Sheet(
        f"Hidden patches on named objects: {len(above)} of {len(trained)} scores beat all {count} untrained networks",
        0.25 + 0.42 * len(trained) + 0.45,
    )
    axes = sheet.axes(1.2, 0.28, WIDTH - MARGIN - 1.4, 0.42 * len(trained))
    for y, kind in enumerate(trained):
        axes.plot(untrained[kind], [y] * count, "o", color=GREY, markersize=5, markerfacecolor="white")
        axes.plot(trained[kind], y, "o", color=ORANGE, markersize=9)
    for place, colour in ((chance, INK), (middle, BLUE)):
        axes.axvline(place, color=colour, linewidth=1.2, linestyle=(0, (3, 2)), zorder=0)
    right = max(middle, *trained.values(), *(max(shares) for shares in untrained.values())) + 0.1
    axes.set(xlim=(0, right), ylim=(len(trained) - 0.5, -0.5), xlabel="share of hidden patches that lie on objects the caption names")
    axes.set_yticks(range(len(trained)), list(trained))
    axes.set_xticks([x / 10 for x in range(int(right * 10) + 1)], [percent(x / 10) for x in range(int(right * 10) + 1)])
    left = 1.2
    for words, colour in (
        ("trained", ORANGE), ("untrained, a circle for each seed", GREY), ("chance", INK), ("the middle of every picture", BLUE)
    ):  # fmt: skip
        sheet.text(left, 0, words, SMALL, color=colour, weight="bold")
        left += text_width(words, SMALL, bold=True) + 0.3
    return Drawn(sheet.figure, number)


# One scene, explored ----------------------------------------------------------------------------------------------------


@styled
def masked_scene(
    step: SemMIMStep, tokenizer, pairs: Pairs, *, scene: int, caption: int, ratio: float, strategy: str, relevance: str, seed: int = 0
) -> Drawn:
    """One scene under one strategy, beside a random mask of the same size: what `course.explorer.explore` draws again and again.

    Returns:
        `named` and `objects`: shares of the hidden patches; `rate_named`, `rate_objects`: the scene's own, what chance gives.
    """
    batch, patch = read_scene(pairs, tokenizer, step.config.data, scene, caption), step.config.image.patch
    scores, mask = scores_and_mask(step, batch, ratio, strategy, relevance, seed)
    named, objects = named_and_objects(batch, patch)
    number = {kind: on_named(mask, truth) for kind, truth in (("named", named), ("objects", objects))}
    number |= {f"rate_{kind}": float(truth.float().mean()) for kind, truth in (("named", named), ("objects", objects))}
    random = hide_highest(torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)), mask.sum(dim=1))
    picture, tile, lines = as_picture(batch.images[0][0]), INNER / 4 - 0.12, wrap_runs(caption_runs(batch, 0), INNER)
    title = (
        f"{strategy}: {percent(number['named'])} of {int(mask.sum())} hidden patches on named objects (chance "
        f"{percent(number['rate_named'])}), {percent(number['objects'])} on any object (chance {percent(number['rate_objects'])})"
    )
    sheet = Sheet(title, 0.22 + tile + 0.15 + len(lines) * line_height())
    shown = [("scene", picture, {}), (strategy, greyed(picture, mask[0], patch), {}), ("random", greyed(picture, random[0], patch), {})]
    if scores is not None:
        shown.insert(1, ("score", heat(scores[0], patch), {"cmap": HEAT}))
    for i, (head, pixels, how) in enumerate(shown):
        left = MARGIN + i * (tile + 0.12)
        sheet.text(left + tile / 2, 0, head, SMALL, "center", weight="bold", color=BLUE if head == "random" else INK)
        axes = sheet.picture(left, 0.2, tile, pixels, **how)
        for inside, colour in named_objects(batch, 0, patch):
            outline(axes, inside, patch, colour)
    sheet.lines(MARGIN, 0.32 + tile, lines)
    return Drawn(sheet.figure, number)


@torch.no_grad()
def scores_and_mask(
    step: SemMIMStep, batch: HeldOut, ratio: float, strategy: str, relevance: str, seed: int = 0
) -> tuple[Float[Tensor, "b n"] | None, Bool[Tensor, "b n"]]:
    """Scores, high where the strategy wants to hide (None of blocks), and the mask of floor(ratio·n) patches of every sample."""
    n, draw = step.config.n_patches, torch.Generator().manual_seed(seed)
    counts = mask_counts(n, (ratio, ratio), 1.0, torch.rand(len(batch.pairs), 2, generator=draw))
    if strategy == "block":
        return None, hide_blocks(int(n**0.5), counts, draw)
    if strategy == "random":
        scores = torch.rand(len(batch.pairs), n, generator=draw)
    else:
        teaching = step.teach(batch, full_plan(step.config))
        text = strategy in ("text_high", "text_low")
        scores = step.masker.relevance(relevance, teaching, batch) if text else step.masker.scores(strategy, teaching, batch)
    scores = -scores if strategy == "text_low" else scores
    return scores, hide_highest(scores, counts)
