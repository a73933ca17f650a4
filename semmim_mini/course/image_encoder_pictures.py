"""Pictures of notebook 02: an image as a row of patches, attention as a map, and what each layer may see."""

import math

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.figures.style import (
    BLUE,
    GREY,
    HEAT,
    INK,
    MARGIN,
    ORANGE,
    PALE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    heat,
    hidden,
    outline,
    percent,
    styled,
)


@styled
def image_as_patches(image: Tensor, patch: int, mask: Tensor) -> Drawn:
    """A picture, its patches in reading order, and what is left when some are hidden; number: n and the hidden share."""
    picture, side = as_picture(image), image.shape[-1] // patch
    tile, gap = 2.75, 0.22
    number = {"n": float(side**2), "hidden": float(mask.float().mean())}
    sheet = Sheet(f"{side} × {side} patches of {patch} px: n = {side**2} tokens, and [CLS] in front", 0.25 + tile)
    apart = np.full((side * (patch + 1) - 1, side * (patch + 1) - 1, 3), 1.0)
    for i in range(side):
        for j in range(side):
            rows, columns = (slice(k * (patch + 1), k * (patch + 1) + patch) for k in (i, j))
            apart[rows, columns] = picture[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
    covered = hidden(picture, mask.reshape(side, side).numpy(), patch)
    heads = ("picture", "patches, counted row by row", f"{percent(number['hidden'])} hidden")
    for i, (head, tile_pixels) in enumerate(zip(heads, (picture, apart, covered), strict=True)):
        left = MARGIN + i * (tile + gap)
        sheet.text(left + tile / 2, 0, head, SMALL, "center", weight="bold")
        axes = sheet.picture(left, 0.22, tile, tile_pixels)
        if i == 1:
            for k in (0, 1, side - 1, side, side**2 - 1):
                y, x = divmod(k, side)
                place = (x * (patch + 1) + patch / 2, y * (patch + 1) + patch / 2)
                axes.text(*place, str(k), ha="center", va="center", fontsize=SMALL, color="white", weight="bold",
                          bbox={"facecolor": INK, "edgecolor": "none", "boxstyle": "round,pad=0.15"})  # fmt: skip
    return Drawn(sheet.figure, number)


@styled
def cls_attention_maps(images: Tensor, objects: Tensor, before: Tensor, after: Tensor, patch: int) -> Drawn:
    """Where [CLS] looks, before and after training, objects outlined.

    Args:
        images: (b, 3, h, w), normalised; the first six are drawn.
        objects: (b, n) bool, patches that show an object.
        before, after: (b, n), attention from [CLS] to each patch.

    Returns:
        The share of the attention that lies on objects, of all images given, and the share of patches that objects are.
    """
    count, side = min(6, len(images)), math.isqrt(objects.shape[1])
    tile = (WIDTH - 2 * MARGIN - 0.95) / count - 0.08
    number = {name: attention_on(x, objects) for name, x in (("before", before), ("after", after))}
    number["objects"] = float(objects.float().mean())
    sheet = Sheet(
        f"[CLS] spends {percent(number['before'])} of its attention on objects before training and {percent(number['after'])} after; "
        f"objects are {percent(number['objects'])} of the patches",
        3 * (tile + 0.08),
        "Bright: much attention, scaled for each map. Orange: objects, known from the scene.",
    )
    for row, name in enumerate(("picture", "before", "after")):
        sheet.text(MARGIN, row * (tile + 0.08) + tile / 2 - 0.08, name, weight="bold")
        for i in range(count):
            left, top = MARGIN + 0.95 + i * (tile + 0.08), row * (tile + 0.08)
            if row == 0:
                axes = sheet.picture(left, top, tile, as_picture(images[i]))
            else:
                axes = sheet.picture(left, top, tile, heat((before, after)[row - 1][i], patch), cmap=HEAT)
            outline(axes, objects[i].reshape(side, side).numpy(), patch, ORANGE)
    return Drawn(sheet.figure, number)


def attention_on(attention: Tensor, objects: Tensor) -> float:
    """Share of the attention to patches that lies on the True ones, mean over images."""
    return float(((attention * objects).sum(dim=1) / attention.sum(dim=1)).mean())


@styled
def head_maps(image: Tensor, weights: Tensor, query: int, patch: int) -> Drawn:
    """One layer's attention from one patch to all patches, a map for each head.

    Args:
        weights: (h, 1+n, 1+n), of one image and layer.
        query: the patch that asks, counted from 0 without [CLS].

    Returns:
        The number of keys that attention is spread over, e^entropy, for the most and the least focused head.
    """
    heads, side = len(weights), math.isqrt(weights.shape[-1] - 1)
    rows = weights[:, 1 + query]
    spread = (-(rows * rows.clamp_min(1e-12).log()).sum(dim=-1)).exp()
    number = {"least_keys": float(spread.min()), "most_keys": float(spread.max())}
    tile = min(1.63, (WIDTH - 2 * MARGIN) / (heads + 1) - 0.12)
    sheet = Sheet(
        f"One patch asks: its attention is spread over {number['least_keys']:.0f} to {number['most_keys']:.0f} of {rows.shape[1]} keys",
        0.25 + tile,
        "Outlined: the patch that asks. Bright: much attention, scaled for each head.",
    )
    asks = (torch.arange(side**2) == query).reshape(side, side).numpy()
    for i in range(heads + 1):
        left = MARGIN + i * (tile + 0.12)
        sheet.text(left + tile / 2, 0, f"head {i - 1}" if i else "picture", SMALL, "center", weight="bold")
        if i == 0:
            axes = sheet.picture(left, 0.2, tile, as_picture(image))
        else:
            axes = sheet.picture(left, 0.2, tile, heat(rows[i - 1, 1:], patch), cmap=HEAT)
        outline(axes, asks, patch, ORANGE)
    return Drawn(sheet.figure, number)


@styled
def trunk_and_branches(depth: int, inject_from: int) -> Drawn:
    """Layers as boxes: the trunk runs once, the branch once without text and once with it; number: layer runs with and without sharing."""
    shared, apart = inject_from + 2 * (depth - inject_from), 2 * depth
    sheet = Sheet(f"Isolation by fork: {shared} layer runs for both readings, {apart} if nothing were shared", 2.1)
    axes = sheet.axes(MARGIN, 0, WIDTH - 2 * MARGIN, 2.1)
    axes.set(xlim=(0, depth + 3.2), ylim=(0, 3), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.text(0.45, 1.5, "patches\n+ positions", ha="center", va="center", color=GREY)
    places = [(i, 1.5, PALE, "once") for i in range(inject_from)]
    places += [(i, y, colour, "") for i in range(inject_from, depth) for y, colour in ((2.3, BLUE), (0.7, ORANGE))]
    for i, y, colour, _ in places:
        axes.add_patch(Rectangle((1 + i, y - 0.35), 0.8, 0.7, facecolor=colour, edgecolor="none"))
        ink = INK if colour == PALE else "white"
        axes.text(1.4 + i, y, f"layer {i}", ha="center", va="center", fontsize=SMALL, color=ink)
    for y in (2.3, 0.7):
        axes.annotate("", (1 + inject_from - 0.02, y), (0.82 + inject_from, 1.5), arrowprops={"arrowstyle": "-|>", "color": GREY})
    axes.text(depth + 1, 2.3, "text-free: [CLS]", va="center", color=BLUE, weight="bold")
    axes.text(depth + 1, 0.7, "words read: patches", va="center", color=ORANGE, weight="bold")
    axes.text(1 + inject_from / 2 - 0.1, 0.85, "trunk", ha="center", va="center", weight="bold")
    return Drawn(sheet.figure, {"shared": float(shared), "apart": float(apart)})
