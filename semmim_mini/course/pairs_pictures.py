"""Pictures of notebook 01: a scene with its captions, its truth by pixels and patches, the splits, views, and hidden words."""

import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.data.pairs import Pair, Pairs
from semmim_mini.data.scene_splits import pair_split
from semmim_mini.data.scene_truth import named_patches, patch_objects
from semmim_mini.data.views import View
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARGIN,
    OBJECT_COLOURS,
    ORANGE,
    PALE,
    SMALL,
    WIDTH,
    Drawn,
    Run,
    Sheet,
    as_picture,
    hidden,
    line_height,
    outline,
    percent,
    styled,
    text_width,
    wrap_runs,
)

NO_OBJECT = "#F4F4F4"
SPLIT_COLOURS = {"train": PALE, "val": BLUE, "test": ORANGE}


def coloured_caption(pair: Pair, index: int) -> list[Run]:
    """Caption `index` with the words that name objects in the colour of the (first) object."""
    caption, runs, at = pair.captions[index], [], 0
    for mention in pair.truth.mentions[index]:
        colour = OBJECT_COLOURS[mention.objects[0] % len(OBJECT_COLOURS)]
        end = mention.end + caption[mention.end :].startswith(",")  # a comma stands close to its word, whatever the colour
        runs += [(caption[at : mention.start], None), (caption[mention.start : end], colour)]
        at = end
    return [*runs, (caption[at:], None)]


def _pixels(pair: Pair) -> np.ndarray:
    return pair.image.permute(1, 2, 0).numpy()


def _map_colours(objects: np.ndarray) -> np.ndarray:
    """A map of objects, 0 for none, as colours (h, w, 3)."""
    palette = np.array([to_rgb(colour) for colour in (NO_OBJECT, *OBJECT_COLOURS)])
    return palette[objects]


@styled
def scene_gallery(pairs: Pairs, first: int = 0, rows: int = 2, columns: int = 4) -> Drawn:
    """Scenes of a source, not chosen, each with one of its captions; number: objects per scene."""
    shown = [pairs[first + i] for i in range(rows * columns)]
    tile = (WIDTH - 2 * MARGIN - 0.15 * (columns - 1)) / columns
    captions = [wrap_runs(coloured_caption(pair, i % len(pair.captions)), tile, SMALL) for i, pair in enumerate(shown)]
    deep = [max(map(len, captions[row * columns : (row + 1) * columns])) * line_height(SMALL) for row in range(rows)]
    objects = sum(len(pair.truth.objects) for pair in shown) / len(shown)
    sheet = Sheet(f"{pairs.name}: the first {len(shown)} scenes, {objects:.1f} objects each", sum(deep) + rows * (tile + 0.25))
    top = 0.0
    for row in range(rows):
        for column in range(columns):
            left, place = MARGIN + column * (tile + 0.15), row * columns + column
            sheet.picture(left, top, tile, _pixels(shown[place]))
            sheet.lines(left, top + tile + 0.08, captions[place], SMALL)
        top += tile + 0.25 + deep[row]
    return Drawn(sheet.figure, {"objects_per_scene": objects})


@styled
def scene_with_captions(pair: Pair) -> Drawn:
    """One scene, its objects outlined, beside all its captions; number: share of captions that name every object."""
    side, left = 2.7, MARGIN + 2.95
    lines = [wrap_runs(coloured_caption(pair, i), WIDTH - MARGIN - left) for i in range(len(pair.captions))]
    complete = [{o for m in mentions for o in m.objects} == set(range(len(pair.truth.objects))) for mentions in pair.truth.mentions]
    sheet = Sheet(f"One picture, {len(pair.captions)} captions: {sum(complete)} of them name every object", side + 0.1)
    axes = sheet.picture(MARGIN, 0, side, _pixels(pair))
    truth, top = pair.truth.object_map[0].numpy(), 0.1
    for value, _ in enumerate(pair.truth.objects, start=1):
        outline(axes, truth == value, 1, OBJECT_COLOURS[(value - 1) % len(OBJECT_COLOURS)])
    for caption in lines:
        sheet.lines(left, top, caption)
        top += len(caption) * line_height() + 0.17
    return Drawn(sheet.figure, {"complete": sum(complete) / len(complete)})


@styled
def truth_of_a_scene(pair: Pair, patch: int, captions: tuple[int, int]) -> Drawn:
    """From true pixels to true patches to the patches that two captions name; numbers: shares of the patches."""
    tile, gap = 1.63, (WIDTH - 2 * MARGIN - 5 * 1.63) / 4
    side = pair.image.shape[-1] // patch
    shown = patch_objects(pair.truth.object_map, patch).reshape(side, side).numpy()
    named = [named_patches(pair.truth, c, patch).reshape(side, side).numpy() for c in captions]
    lines = [wrap_runs(coloured_caption(pair, c), tile, SMALL) for c in captions]
    number = {"objects": float((shown > 0).mean()), "first": float(named[0].mean()), "second": float(named[1].mean())}
    sheet = Sheet(
        f"Objects are {percent(number['objects'])} of the patches; the captions name {percent(number['first'])} and "
        f"{percent(number['second'])} of them all",
        0.25 + tile + 0.1 + max(map(len, lines)) * line_height(SMALL),
    )
    grey = [hidden(_pixels(pair) / 255, ~mask, patch) for mask in named]
    tiles = (_pixels(pair), _map_colours(pair.truth.object_map[0].numpy()), _map_colours(shown), *grey)
    for i, (name, pixels) in enumerate(zip(("picture", "pixels", f"patches of {patch} px", "named", "named"), tiles, strict=True)):
        left = MARGIN + i * (tile + gap)
        sheet.text(left + tile / 2, 0, name, SMALL, "center", weight="bold")
        sheet.picture(left, 0.2, tile, pixels)
        if i > 2:
            sheet.lines(left, 0.2 + tile + 0.08, lines[i - 3], SMALL)
    return Drawn(sheet.figure, number)


@styled
def who_meets_whom(names: list[str]) -> Drawn:
    """Which split owns each pair of these concepts; numbers: the shares of the splits."""
    owner = np.array([[list(SPLIT_COLOURS).index(pair_split(a, b)) for b in names] for a in names])
    above = owner[np.triu_indices(len(names), 1)]
    number = {split: float((above == i).mean()) for i, split in enumerate(SPLIT_COLOURS)}
    left, side = 2.6, 3.9
    shares = [percent(share) for share in number.values()]
    title = f"Who may meet whom: training sees {shares[0]} of these pairs; {shares[1]} are kept for val, {shares[2]} for test"
    sheet = Sheet(title, side + 1.1)
    axes = sheet.axes(left, 0, side, side)
    axes.imshow(owner, cmap=ListedColormap(list(SPLIT_COLOURS.values())), vmin=0, vmax=2)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90)
    axes.set_yticks(ticks, names)
    axes.set_xticks(np.arange(-0.5, len(names)), minor=True)
    axes.set_yticks(np.arange(-0.5, len(names)), minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    for i, (split, colour) in enumerate(SPLIT_COLOURS.items()):
        swatch = sheet.axes(left + side + 0.35, 0.1 + 0.32 * i, 0.2, 0.2)
        swatch.set(xticks=[], yticks=[], facecolor=colour)
        sheet.text(left + side + 0.65, 0.1 + 0.32 * i, split)
    return Drawn(sheet.figure, number)


@styled
def views_of_a_scene(pair: Pair, caption: int, views: View) -> Drawn:
    """A scene and random views of it, the truth of each below; number: how much of the named things each view still shows."""
    count = len(views.pixels)
    tile = min(1.63, (WIDTH - 2 * MARGIN) / (count + 1) - 0.12)
    lines = wrap_runs(coloured_caption(pair, caption), WIDTH - 2 * MARGIN)
    sheet = Sheet(f"{count} views, one caption", 0.3 + 2 * tile + 0.15 + len(lines) * line_height())
    pictures = [_pixels(pair), *(as_picture(pixels) for pixels in views.pixels)]
    truths = [pair.truth.object_map, *views.object_map]
    for i, (pixels, truth) in enumerate(zip(pictures, truths, strict=True)):
        left = MARGIN + i * (tile + 0.12)
        sheet.text(left + tile / 2, 0, f"view {i}" if i else "the scene", SMALL, "center", weight="bold")
        sheet.picture(left, 0.2, tile, pixels)
        sheet.picture(left, 0.28 + tile, tile, _map_colours(truth[0].numpy()))
    sheet.lines(MARGIN, 0.4 + 2 * tile, lines)
    kept = [float((truth > 0).float().mean()) for truth in views.object_map]
    return Drawn(sheet.figure, {"least_objects": min(kept), "most_objects": max(kept)})


@styled
def hidden_words(tokenizer, ids: Tensor, masked: Tensor, labels: Tensor) -> Drawn:
    """Captions as rows of boxes: what the model reads, and below it what it is asked; number: share of tokens asked for."""
    rows = [(tokenizer.convert_ids_to_tokens(row), tokenizer.convert_ids_to_tokens(read)) for row, read in zip(ids, masked, strict=True)]
    asked = labels >= 0
    number = {"asked": float(asked.sum() / (ids != tokenizer.pad_token_id).sum())}
    sheet = Sheet("What the model reads, and below it the words it has to find", 0.68 * len(rows), "Grey: padding, nobody reads it.")
    for i, (true, read) in enumerate(rows):
        left, top = MARGIN, 0.68 * i
        for j, (word, shown) in enumerate(zip(true, read, strict=True)):
            width = max(text_width(shown, SMALL), text_width(word, SMALL, bold=True) if asked[i, j] else 0) + 0.12
            if left + width > WIDTH - MARGIN - 0.15:
                sheet.text(left, top + 0.05, "…", SMALL)
                break
            box = Rectangle((0, 0), 1, 1, facecolor="#FBE3D6" if asked[i, j] else PALE, edgecolor="none")
            sheet.axes(left, top, width, 0.25).set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
            axes = sheet.figure.axes[-1]
            axes.spines[:].set_visible(False)
            axes.add_patch(box)
            colour = ORANGE if asked[i, j] else GREY if shown == tokenizer.pad_token else INK
            sheet.text(left + width / 2, top + 0.05, shown, SMALL, "center", color=colour)
            if asked[i, j]:
                sheet.text(left + width / 2, top + 0.3, word, SMALL, "center", color=GREEN, weight="bold")
            left += width + 0.05
    return Drawn(sheet.figure, number)


def concept_pairs(pairs: Pairs, count: int) -> list[set[tuple[str, str]]]:
    """For each of the first `count` scenes, the pairs of different concepts in it, without drawing a pixel."""
    found = []
    for i in range(count):
        names = sorted({cutout.concept for cutout in pairs.layout(i).cutouts})
        found.append({(a, b) for place, a in enumerate(names) for b in names[place + 1 :]})
    return found
