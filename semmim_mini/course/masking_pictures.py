"""Pictures of notebook 05, about masks: what neighbours give away, scores and ranks, five strategies, blocks, and when text begins."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from matplotlib.colors import ListedColormap
from torch import Tensor

from semmim_mini.config import Config
from semmim_mini.figures.masks import caption_runs, named_objects
from semmim_mini.figures.style import (
    BLUE,
    GREY,
    HEAT,
    INK,
    MARGIN,
    OBJECT_COLOURS,
    ORANGE,
    PALE,
    SMALL,
    WIDTH,
    Drawn,
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
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.instruments.mask_numbers import on_named
from semmim_mini.training.schedules import plan_at

INNER = WIDTH - 2 * MARGIN
BIN = 4  # counts in one bar of a histogram
TOLERANCE = 0.1  # of pixels in [−1, 1]


def greyed(picture: np.ndarray, mask: Bool[Tensor, "n"], patch: int) -> np.ndarray:
    """The picture with hidden patches grey."""
    return hidden(picture, mask.reshape(len(picture) // patch, -1).numpy(), patch)


# 1: what neighbours give away -------------------------------------------------------------------------------------------


def painted_right(
    colours: Float[Tensor, "b c i j"], painted: Float[Tensor, "b c i j"], mask: Bool[Tensor, "b n"], objects: Bool[Tensor, "b n"]
) -> dict[str, float]:
    """Shares of the hidden patches whose colour is painted right, to a twentieth of the range of pixels (which is 2).

    Keys: `all`, `background`, `objects`, and `guess_…` of a guesser who paints the mean of what can be seen. NaN where no such patch
    is hidden.
    """
    true, painted = (rearrange(x, "b c i j -> b (i j) c") for x in (colours, painted))
    seen = rearrange(~mask, "b n -> b n 1").float()
    guess = (true * seen).sum(dim=1, keepdim=True) / seen.sum(dim=1, keepdim=True).clamp_min(1)
    kinds, shares = {"all": mask, "background": mask & ~objects, "objects": mask & objects}, {}
    for who, colour in (("", painted), ("guess_", guess)):
        right = (true - colour).abs().mean(dim=-1) < TOLERANCE
        shares |= {who + kind: float(right[those].float().mean()) for kind, those in kinds.items()}
    return shares


@styled
def filled_from_neighbours(
    images: Float[Tensor, "b 3 h w"], objects: Bool[Tensor, "b n"], masks: Mapping[str, Tensor], fills: Mapping[str, Tensor], row: int
) -> Drawn:
    """One scene under several masks, and each with its hidden patches painted in the colour of their neighbours.

    Args:
        masks: by name, (b, n).
        fills: by the same names, the colours (b, 3, i, j) that neighbours suggest for every patch.

    Returns:
        For each mask, as `NAME_…`, the shares that are painted right over all scenes (`painted_right`).
    """
    picture, patch = as_picture(images[row]), images.shape[-1] // int(objects.shape[1] ** 0.5)
    colours, number = reduce(images, "b c (i p) (j q) -> b c i j", "mean", p=patch, q=patch), {}
    for name, mask in masks.items():
        number |= {f"{name}_{kind}": share for kind, share in painted_right(colours, fills[name], mask, objects).items()}
    tile = INNER / (1 + 2 * len(masks)) - 0.12
    sheet, tiles = Sheet(_fill_title(number, masks), 0.22 + tile, _fill_note(number, masks)), [("scene", picture)]
    for name, mask in masks.items():
        painted = np.kron(as_picture(fills[name][row]), np.ones((patch, patch, 1)))
        tiles += [(name, greyed(picture, mask[row], patch)), ("painted", np.where(heat(mask[row], patch)[..., None] > 0, painted, picture))]
    for i, (head, pixels) in enumerate(tiles):
        left = MARGIN + i * (tile + 0.12)
        sheet.text(left + tile / 2, 0, head, SMALL, "center", weight="bold")
        sheet.picture(left, 0.2, tile, pixels)
    return Drawn(sheet.figure, number)


def _fill_title(number: dict[str, float], masks: Mapping[str, Tensor]) -> str:
    said = (f"{percent(number[f'{n}_background'])} of background and {percent(number[f'{n}_objects'])} of objects ({n})" for n in masks)
    return f"Hidden patches painted like their neighbours, right in {'; '.join(said)}"


def _fill_note(number: dict[str, float], masks: Mapping[str, Tensor]) -> str:
    said = (f"{percent(number[f'{n}_guess_background'])} and {percent(number[f'{n}_guess_objects'])} ({n})" for n in masks)
    return f"A guesser who paints the mean colour of the scene: {'; '.join(said)}. Right: to a twentieth of the range of pixels."


# 2: scores, ranks, masks ------------------------------------------------------------------------------------------------


@styled
def scores_to_mask(scores: Float[Tensor, "n"], ranks: Tensor, mask: Bool[Tensor, "n"]) -> Drawn:
    """Scores of a few patches, their ranks, and those that are hidden, as grids of numbers; number: n and the count."""
    side, tile, gap = int(len(scores) ** 0.5), 2.1, 0.75
    grids = [x.reshape(side, side).numpy() for x in (scores, ranks, mask)]
    number = {"n": float(len(scores)), "hidden": float(mask.sum())}
    sheet = Sheet(f"{int(number['hidden'])} of {len(scores)} patches: those whose rank is below the count", 0.25 + tile)
    for i, (head, grid) in enumerate(zip(("score", "rank, ties to the earlier patch", "hidden"), grids, strict=True)):
        left = MARGIN + 0.3 + i * (tile + gap)
        sheet.text(left + tile / 2, 0, head, SMALL, "center", weight="bold")
        how = {"cmap": HEAT} if i == 0 else {"cmap": ListedColormap([PALE, ORANGE]), "vmin": 0, "vmax": 1}
        axes = sheet.picture(left, 0.22, tile, grid if i == 0 else grids[2].astype(float), **how)
        for y, x in np.ndindex(grid.shape):
            words = f"{grid[y, x]:.1f}" if i == 0 else str(int(grid[y, x]))
            dark = i == 0 and grid[y, x] < grids[0].mean()
            axes.text(x + 0.5, y + 0.5, words, ha="center", va="center", fontsize=SMALL, color="white" if dark else INK)
    return Drawn(sheet.figure, number)


@styled
def how_many(counts: Mapping[str, Tensor]) -> Drawn:
    """How often each number of hidden patches comes up, one panel for each way to draw it; numbers: the means."""
    number = {name: float(drawn.float().mean()) for name, drawn in counts.items()}
    said = "; ".join(f"{name}: {mean:.0f} on average" for name, mean in number.items())
    sheet, width = Sheet(f"Hidden patches of a sample. {said}", 1.75), (INNER - 0.9) / len(counts)
    top = max(int(drawn.max()) for drawn in counts.values())
    edges = [0, *range(1, top + BIN + 1, BIN)]  # none, and then a few at a time
    for i, (name, drawn) in enumerate(counts.items()):
        axes = sheet.axes(MARGIN + 0.5 + i * (width + 0.4 / max(len(counts) - 1, 1)), 0.2, width - 0.1, 1.15)
        share = np.histogram(drawn.numpy(), edges)[0] / len(drawn)
        axes.bar([0, *(edge + (BIN - 1) / 2 for edge in edges[1:-1])], share, width=[0.9, *[BIN - 0.1] * (len(edges) - 2)], color=BLUE)
        axes.set(xlim=(-1, edges[-1]), ylim=(0, 1.05), title=name, xlabel="hidden patches, four at a time")
        axes.set_yticks([0, 0.5, 1], ["0", "50\u00a0%", "100\u00a0%"] if i == 0 else ["", "", ""])
    return Drawn(sheet.figure, number)


# 3: strategies ----------------------------------------------------------------------------------------------------------


@styled
def strategies(
    batch: HeldOut,
    row: int,
    scores: Mapping[str, Tensor | None],
    masks: Mapping[str, Tensor],
    named: Bool[Tensor, "b n"],
    objects: Bool[Tensor, "b n"],
) -> Drawn:
    """Strategies on the same scene, a row each: score, mask, and over the whole batch its shares on named and on any objects.

    Args:
        scores: by strategy, (b, n) high where it wants to hide; None where it has none.

    Returns:
        `NAME_named` and `NAME_objects` of each strategy; `random_rate_named` and `random_rate_objects`, what chance gives.
    """
    patch, tile, step = batch.images.shape[-1] // int(named.shape[1] ** 0.5), 1.12, 1.2
    picture, outlines = as_picture(batch.images[0][row]), named_objects(batch, row, patch)
    number = {f"{name}_{kind}": on_named(mask, truth) for name, mask in masks.items() for kind, truth in _kinds(named, objects)}
    number |= {f"random_rate_{kind}": float(truth.float().mean()) for kind, truth in _kinds(named, objects)}
    caption = wrap_runs(caption_runs(batch, row), INNER)
    below = 0.25 + len(masks) * step
    sheet = Sheet(_strategies_title(number, masks, len(named)), below + 0.45 + len(caption) * line_height(), _STRATEGIES_NOTE)
    for x, head in ((1.3, "score"), (1.3 + step, "mask")):
        sheet.text(MARGIN + x + tile / 2, 0, head, SMALL, "center", weight="bold")
    for i, (name, mask) in enumerate(masks.items()):
        top = 0.22 + i * step
        sheet.text(MARGIN, top + tile / 2 - 0.08, name, weight="bold")
        if scores[name] is not None:
            sheet.picture(MARGIN + 1.3, top, tile, heat(scores[name][row], patch), cmap=HEAT)
        axes = sheet.picture(MARGIN + 1.3 + step, top, tile, greyed(picture, mask[row], patch))
        for inside, colour in outlines:
            outline(axes, inside, patch, colour)
        _bars(sheet, MARGIN + 1.3 + 2 * step + 0.9, top, tile, number, name, last=i == len(masks) - 1)
    sheet.lines(MARGIN, below + 0.4, caption)
    return Drawn(sheet.figure, number)


_STRATEGIES_NOTE = (
    "Bars: share of all hidden patches of the batch. Dashed: the same share of the scenes, which random masks reach on average. "
    "Outlined: objects that the caption names, in the colour of their words."
)


def _kinds(named: Tensor, objects: Tensor) -> tuple:
    return (("named", named), ("objects", objects))


def _strategies_title(number: dict, masks: Mapping, scenes: int) -> str:
    best = max(masks, key=lambda name: number[f"{name}_named"])
    return (
        f"Hidden patches on named objects: chance {percent(number['random_rate_named'])}, most with {best}, "
        f"{percent(number[f'{best}_named'])} ({scenes} scenes)"
    )


def _bars(sheet: Sheet, left: float, top: float, height: float, number: dict, name: str, last: bool) -> None:
    axes = sheet.axes(left, top, WIDTH - MARGIN - left - 0.45, height)
    for y, kind, colour in ((1, "named", ORANGE), (0, "objects", BLUE)):
        share, rate = number[f"{name}_{kind}"], number[f"random_rate_{kind}"]
        axes.barh(y, share, height=0.62, color=colour)
        axes.plot([rate, rate], [y - 0.42, y + 0.42], color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
        axes.text(max(share, rate) + 0.02, y, percent(share), va="center", fontsize=SMALL)
    axes.set(xlim=(0, 1), ylim=(-0.6, 1.6))
    axes.set_yticks([1, 0], ["named", "any object"])
    axes.tick_params(axis="y", length=0)
    axes.set_xticks([0, 0.5, 1], ["0", "50\u00a0%", "100\u00a0%"] if last else ["", "", ""])


@styled
def block_steps(steps: Sequence[Bool[Tensor, "side side"]]) -> Drawn:
    """A block mask as it grows, the newest block in colour; number: blocks and patches."""
    shown = list(steps)
    tile = min(1.5, INNER / max(len(shown), 1) - 0.12)
    number = {"blocks": float(len(shown)), "hidden": float(shown[-1].sum())}
    sheet = Sheet(f"{len(shown)} blocks until exactly {int(number['hidden'])} patches are hidden", 0.22 + tile)
    before = torch.zeros_like(shown[0])
    for i, mask in enumerate(shown):
        left = MARGIN + i * (tile + 0.12)
        sheet.text(left + tile / 2, 0, f"block {i + 1}: {int(mask.sum())}", SMALL, "center", weight="bold")
        colours = ListedColormap([PALE, "#AAAAAA", OBJECT_COLOURS[i % len(OBJECT_COLOURS)]])
        axes = sheet.picture(left, 0.2, tile, (mask.int() + (mask & ~before).int()).numpy(), cmap=colours, vmin=0, vmax=2)
        for k in range(1, len(mask)):
            axes.axhline(k, color="white", linewidth=0.8)
            axes.axvline(k, color="white", linewidth=0.8)
        before = mask
    return Drawn(sheet.figure, number)


# 6: when text begins ----------------------------------------------------------------------------------------------------


@styled
def mask_schedule(configs: Mapping[str, Config]) -> Drawn:
    """For each run, when masked modelling is off, when masks are random and when the text guides them, from `plan_at`.

    Returns:
        For each run the share after which the text guides its masks.
    """
    sheet = Sheet("Masks over a run: none, random, text-guided", 0.42 * len(configs) + 0.75)
    left, number = 1.9, {}
    axes = sheet.axes(left, 0.28, WIDTH - MARGIN - 0.25 - left, 0.42 * len(configs))
    for y, (name, config) in enumerate(configs.items()):
        ends = phases(config)
        number[name] = ends[1]
        for begin, end, colour in zip((0.0, *ends), (*ends, 1.0), (PALE, BLUE, ORANGE), strict=True):
            axes.barh(y, end - begin, left=begin, height=0.62, color=colour)
    axes.set(xlim=(0, 1), ylim=(len(configs) - 0.5, -0.5), xlabel="share of the run")
    axes.set_yticks(range(len(configs)), list(configs))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [percent(x) for x in (0, 0.25, 0.5, 0.75, 1)])
    axes.tick_params(axis="y", length=0)
    for i, (words, colour) in enumerate((("no masked modelling yet", GREY), ("random masks", BLUE), ("text-guided masks", ORANGE))):
        sheet.text(left + 2.2 * i, 0, words, SMALL, color=colour, weight="bold")
    return Drawn(sheet.figure, number)


def phases(config: Config, points: int = 2_000) -> tuple[float, float]:
    """Shares of the run after which masked modelling is on, and after which its masks are text-guided, to one part in `points`."""
    plans = [plan_at(config, i * config.run.steps // points) for i in range(points)]
    masked = next((i for i, plan in enumerate(plans) if plan.has("mim")), points)
    guided = next((i for i, plan in enumerate(plans) if plan.has("mim") and not plan.random_mask), points)
    return masked / points, guided / points
