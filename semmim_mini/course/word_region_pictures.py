"""Pictures of notebook 08 about words and regions: Grad-CAM in three steps, every layer and head, and a scene to explore."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.course.explorer import read_scene
from semmim_mini.data.pairs import BACKGROUND, Pairs
from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.errors import UserError
from semmim_mini.figures.codes import code_colours, object_colours
from semmim_mini.figures.grounding import chosen_maps, shorten
from semmim_mini.figures.masks import caption_runs
from semmim_mini.figures.style import (
    HEAT,
    INK,
    MARGIN,
    OBJECT_COLOURS,
    ORANGE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    heat,
    line_height,
    mark_highest,
    outline,
    percent,
    styled,
    text_width,
    wrap_runs,
)
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.instruments.semantics import ami, concept_labels, patch_codes
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.grounding import Words, random_score, score

INNER = WIDTH - 2 * MARGIN
SINGLE = ("phrase", "words")  # maps without layers and heads
MAPS = ("decoder_reads", "decoder_writes", "fusion", "gradcam", *SINGLE)
MOST = 3  # phrases of one scene
TILE = 1.38  # of a picture, in inches
CELL = 0.66, 0.28  # of the table


# Grad-CAM ---------------------------------------------------------------------------------------------------------------


@styled
def gradcam_steps(image: Float[Tensor, "3 h w"], phrase: str, steps: Mapping[str, Float[Tensor, "n"]], target: Bool[Tensor, "n"]) -> Drawn:
    """A scene and, for one phrase, maps on the way to Grad-CAM, each with its highest patch; the true object is outlined.

    Returns:
        For each map, 1 if its highest patch lies on the object and 0 if not.
    """
    picture, side = as_picture(image), int(len(target) ** 0.5)
    number = {name: float(score(values[None], target[None])[0]) for name, values in steps.items()}
    patch, tile = len(picture) // side, INNER / (1 + len(steps)) - 0.15
    sheet = Sheet(
        f"“{phrase}”: attention, its gradient, and what is left of both",
        0.22 + tile + 0.05,
        "Bright is high, scaled for each map. Outlined: what the phrase names. Cross: the highest patch.",
    )
    sheet.text(MARGIN + tile / 2, 0, "scene", SMALL, "center", weight="bold")
    outline(sheet.picture(MARGIN, 0.22, tile, picture), target.reshape(side, side).numpy(), patch, ORANGE)
    for i, (name, values) in enumerate(steps.items(), start=1):
        left = MARGIN + i * (tile + 0.2)
        sheet.text(left + tile / 2, 0, name, SMALL, "center", weight="bold")
        _marked(sheet.picture(left, 0.22, tile, heat(values, patch), cmap=HEAT), values, target, patch, ORANGE)
    return Drawn(sheet.figure, number)


def _marked(axes: Axes, values: Float[Tensor, "n"], target: Bool[Tensor, "n"], patch: int, colour: str) -> None:
    """The true object's outline on a map, and a cross on the highest patch."""
    side = int(len(values) ** 0.5)
    outline(axes, target.reshape(side, side).numpy(), patch, colour)
    mark_highest(axes, values, patch)


# Every layer and head ---------------------------------------------------------------------------------------------------


@styled
def pointing_table(found: Mapping, reading: Mapping[str, tuple[float, float]]) -> Drawn:
    """The pointing game for every map, layer and head, and what the right word is worth over another one of the same caption.

    Args:
        found: from `tasks.grounding.evaluate_grounding`.
        reading: for each map, of its best layer and head, the difference own − other word, and its standard error.

    Returns:
        For each map `pointing` of its best and `reading`; `chance`, `centre` and `any_object` of the pointing game.
    """
    number = {f"{name}_pointing": kind["best"]["pointing"] for name, kind in found["maps"].items()}
    number |= {f"{name}_reading": difference for name, (difference, _) in reading.items()}
    number |= {name: found[name]["pointing"] for name in ("chance", "centre", "any_object")}
    rows = [(name, layer) for name, kind in found["maps"].items() for layer in sorted({row["layer"] for row in kind["table"]})]
    heads = list(dict.fromkeys(row["head"] for kind in found["maps"].values() for row in kind["table"]))
    names = [f"{name}, layer {layer}" if name not in SINGLE else name for name, layer in rows]
    sheet = Sheet(_pointing_title(number, found["best"]), 0.3 + CELL[1] * len(rows) + 0.3, _pointing_note(found))
    left, high = MARGIN + 0.15 + max(text_width(name, SMALL) for name in names), CELL[1] * len(rows)
    for x, head in enumerate(heads):
        sheet.text(left + CELL[0] * (x + 0.5), 0.04, "mean" if head == "mean" else f"head {head}", SMALL, "center", weight="bold")
    axes = sheet.axes(left, 0.3, CELL[0] * len(heads), high)
    for y, (name, layer) in enumerate(rows):
        sheet.text(MARGIN, 0.3 + CELL[1] * y + 0.06, names[y], SMALL)
        _row(axes, y, [row for row in found["maps"][name]["table"] if row["layer"] == layer], heads, found["maps"][name]["best"], number)
    axes.set(xlim=(0, len(heads)), ylim=(len(rows), 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    at = left + CELL[0] * len(heads) + 0.3
    sheet.text(at, 0.04, "own word − another word of its caption", SMALL, weight="bold")
    _differences(sheet.axes(at, 0.3, WIDTH - MARGIN - at - 0.1, high), rows, found, reading)
    return Drawn(sheet.figure, number)


def _pointing_title(number: Mapping[str, float], best: Mapping) -> str:
    return (
        f"Pointing game: a random patch {percent(number['chance'])}, the middle {percent(number['centre'])}, a patch of any object "
        f"{percent(number['any_object'])}; the best map ({best['map']}) {percent(best['pointing'])}"
    )


def _pointing_note(found: Mapping) -> str:
    return (
        f"Left: share of {found['n']} phrases whose highest patch lies on what they name; blue where it is above a patch of any object. "
        "Framed: each map's best, chosen on the other half of the scenes. Right: of the framed ones, how much oftener the right phrase's "
        "map points at an object than another phrase's; bars: two standard errors."
    )


def _row(axes: Axes, y: int, cells: list[Mapping], heads: list, best: Mapping, number: Mapping[str, float]) -> None:
    for cell in cells:
        x, value = heads.index(cell["head"]), cell["pointing"]
        above = value > number["any_object"]
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor="#BBD9EE" if above else "#F2F2F2", edgecolor="white", linewidth=1.5))
        axes.text(x + 0.5, y + 0.5, percent(value), ha="center", va="center", fontsize=SMALL, color=INK)
        if (cell["layer"], cell["head"]) == (best["layer"], best["head"]):
            axes.add_patch(Rectangle((x + 0.04, y + 0.08), 0.92, 0.84, fill=False, edgecolor=ORANGE, linewidth=2, zorder=3))


def _differences(axes: Axes, rows: list[tuple[str, int]], found: Mapping, reading: Mapping[str, tuple[float, float]]) -> None:
    for name, (difference, error) in reading.items():
        y = rows.index((name, found["maps"][name]["best"]["layer"])) + 0.5
        axes.errorbar(difference, y, xerr=2 * error, fmt="o", color=ORANGE, markersize=6, capsize=3)
    axes.axvline(0, color=INK, linestyle=(0, (3, 2)), linewidth=1.2)
    reach = 1.1 * max(abs(difference) + 2 * error for difference, error in reading.values())
    axes.set(xlim=(-reach, reach), ylim=(len(rows), 0), yticks=[])
    axes.set_xticks([-0.1, 0, 0.1], ["−10\u00a0%", "0: no reading", "+10\u00a0%"])
    axes.spines["left"].set_visible(False)


# One scene, explored ----------------------------------------------------------------------------------------------------


@styled
def explored_scene(model: SemMIM, tokenizer, pairs: Pairs, *, scene: int, caption: int, map: str, layer: int, head: int | str) -> Drawn:
    """One scene: its objects, its codes, and where each phrase of a caption looks; what `course.explorer.explore` draws again and again.

    Args:
        map: one of `MAPS`.
        layer, head: from 1 on; a head may be "mean". Maps that have no layers (`SINGLE`) take no notice.

    Returns:
        `ami` of the codes within this scene; `pointing` of the caption's phrases, and `chance` and `any_object` of theirs; `n` phrases.

    Raises:
        UserError: no such scene, caption, map, layer or head; a caption that names nothing.
    """
    batch, choice = read_scene(pairs, tokenizer, model.config.data, scene, caption), _choice(model, map, layer, head)
    words, maps = chosen_maps(model, tokenizer, batch, choice)
    patch, side = model.config.image.patch, int(model.config.n_patches**0.5)
    objects = _by_mention(batch, patch_objects(batch.object_maps[0], patch)).reshape(side, side).numpy()
    codes, lines = patch_codes(model.teacher, [batch]).reshape(side, side), wrap_runs(caption_runs(batch, 0), INNER)
    number = _explored_numbers(words, maps) | {"ami": ami(concept_labels([batch], patch), codes.flatten())}
    note = f"Things and codes have the colours of their words. Crosses: the highest patch. At most {MOST} phrases have a map."
    sheet = Sheet(_explored_title(number), 0.22 + TILE + 0.15 + len(lines) * line_height(), note)
    tiles = {"scene": as_picture(batch.images[0][0]), "things": object_colours(objects), "codes": code_colours(codes, objects)}
    step = (INNER - TILE) / (len(tiles) + MOST - 1)
    for i, (name, tile) in enumerate(tiles.items()):
        sheet.text(MARGIN + i * step + TILE / 2, 0, name, SMALL, "center", weight="bold")
        sheet.picture(MARGIN + i * step, 0.22, TILE, tile)
    for i in range(min(len(words), MOST)):
        left, colour = MARGIN + (len(tiles) + i) * step, OBJECT_COLOURS[words.places[i] % len(OBJECT_COLOURS)]
        sheet.text(left + TILE / 2, 0, shorten(words.phrases[i], TILE), SMALL, "center", weight="bold", color=colour)
        _marked(sheet.picture(left, 0.22, TILE, heat(maps[i], patch), cmap=HEAT), maps[i], words.target[i], patch, colour)
    sheet.lines(MARGIN, 0.22 + TILE + 0.1, lines)
    return Drawn(sheet.figure, number)


def _explored_numbers(words: Words, maps: Float[Tensor, "w n"]) -> dict[str, float]:
    """Pointing of one caption's phrases, beside a random patch and one of any object."""
    return {
        "pointing": float(score(maps, words.target)[0].mean()),
        "chance": float(words.target.float().mean()),
        "any_object": random_score(words.target, words.objects)["pointing"],
        "n": float(len(words)),
    }


def _choice(model: SemMIM, map: str, layer: int, head: int | str) -> dict:
    """What `figures.grounding.chosen_maps` takes, once it is known to be there."""
    text = model.config.text
    if map in SINGLE:
        return {"map": map, "layer": 1, "head": "mean"}
    depth = text.decoder_depth if map.startswith("decoder") else text.fusion_depth
    if not 1 <= layer <= depth:
        raise UserError(f"layer={layer}: {map} has {depth}; choose 1" + (f" to {depth}" if depth > 1 else ""))
    if head != "mean" and not 1 <= head <= text.heads:
        raise UserError(f"head={head} is none of {text.heads}; choose 1 to {text.heads}, or mean")
    return {"map": map, "layer": layer, "head": head}


def _by_mention(batch: HeldOut, objects: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
    """Objects numbered as the caption names them, so that they have the colours of its words; the unnamed ones come after these."""
    truth = batch.pairs[0].truth
    order = {index: place for place, mention in enumerate(truth.mentions[batch.chosen[0]], start=1) for index in mention.objects}
    first = max(order.values(), default=0) + 1
    unnamed = [index for index in range(len(truth.objects)) if index not in order]
    order |= {index: first + i for i, index in enumerate(unnamed)}
    return torch.tensor([BACKGROUND, *(order[index] for index in range(len(truth.objects)))])[objects]


def _explored_title(number: Mapping[str, float]) -> str:
    hits, references = round(number["pointing"] * number["n"]), (percent(number[name]) for name in ("chance", "any_object"))
    return (
        f"Codes follow the things of this scene by AMI {number['ami']:.2f} (chance 0); {hits} of {number['n']:.0f} phrases point at theirs "
        "(a random patch {}, any object {})".format(*references)
    )
