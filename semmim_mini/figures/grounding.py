r"""Where does the network look when it reads a word? Captions, pictures, and one map for each phrase that names something.

Each map lies over its picture in grey; the true object is outlined in the colour of its words, and a cross marks the highest patch:
inside the outline, the pointing game is won. The number is over all phrases of the batch, not only those that are drawn.
"""

import numpy as np
import torch
from matplotlib import colormaps

from semmim_mini.errors import UserError
from semmim_mini.figures.masks import caption_runs
from semmim_mini.figures.style import (
    HEAT,
    MARGIN,
    OBJECT_COLOURS,
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
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.grounding import Words, centre_score, random_score, score, word_maps, words_of

TILE, BETWEEN, MAPS = 1.22, 0.09, 4  # inches; at most so many maps in a row
CAPTION = WIDTH - 2 * MARGIN - (1 + MAPS) * (TILE + BETWEEN) - 0.1  # width of the caption's column
UNDER = 0.24  # for a word below its map
EXPLAINED = {
    "fusion": "fusion encoder's attention",
    "gradcam": "Grad-CAM on the fusion encoder's attention",
    "decoder_reads": "caption decoder's attention, reading the word",
    "decoder_writes": "caption decoder's attention, about to write the word",
    "phrase": "similarity of patches with the phrase",
    "words": "similarity of patches with the words in their caption",
}


@torch.no_grad()
def chosen_maps(model: SemMIM, tokenizer, batch: HeldOut, choice: dict) -> tuple[Words, torch.Tensor]:
    """The phrases of a batch and, of each, the map (w, n) that `choice` names; a row of `evaluate_grounding`, its `best` say.

    Raises:
        UserError: photos; captions that name nothing.
    """
    words = words_of(batch, tokenizer, model.config.image.patch, model.config.data.max_length)
    if not len(words):
        raise UserError(f"the {len(batch.pairs)} captions of this batch name nothing that can be seen; use more scenes")
    maps = word_maps(model, tokenizer, batch, words)[choice["map"]][choice["layer"] - 1]
    return words, maps[-1 if choice["head"] == "mean" else choice["head"] - 1].cpu()


@styled
def words_and_regions(model: SemMIM, tokenizer, batch: HeldOut, choice: dict, rows: int = 6) -> Drawn:
    """The first `rows` scenes of a batch, not chosen, each with its caption, picture, and a map for each phrase (at most four).

    Args:
        batch: of scenes.
        choice: `map`, `layer` and `head`, as in the `best` of `tasks.grounding.evaluate_grounding`.

    Returns:
        pointing, iou, and those of a random patch (`chance_…`), the picture's middle (`centre_…`) and any object (`any_object_…`), over
        the whole batch; `n` phrases.
    """
    words, maps = chosen_maps(model, tokenizer, batch, choice)
    number, rows = _number(words, maps), min(rows, len(batch.pairs))
    captions = [wrap_runs(caption_runs(batch, row), CAPTION) for row in range(rows)]
    heights = [max(TILE + UNDER, len(lines) * line_height()) + 0.1 for lines in captions]
    sheet = Sheet(_title(number), 0.22 + sum(heights), _note(choice))
    left, top = MARGIN + CAPTION + 0.1, 0.22
    for at, head in ((MARGIN, "caption"), (left, "picture"), (left + TILE + BETWEEN, "where each phrase looks")):
        sheet.text(at, 0, head, SMALL, weight="bold")
    for row, (lines, height) in enumerate(zip(captions, heights, strict=True)):
        sheet.lines(MARGIN, top, lines)
        _scene(sheet, left, top, batch, row, words, maps)
        top += height
    return Drawn(sheet.figure, number)


def _number(words: Words, maps: torch.Tensor) -> dict[str, float]:
    found = dict(zip(("pointing", "iou"), (x.mean().item() for x in score(maps, words.target)), strict=True))
    others = {
        "chance": random_score(words.target, torch.ones_like(words.target)),
        "centre": centre_score(words.target),
        "any_object": random_score(words.target, words.objects),
    }
    return found | {f"{name}_{key}": value for name, figures in others.items() for key, value in figures.items()} | {"n": len(words)}


def _title(number: dict) -> str:
    return (
        f"Words and their regions: the highest patch lies on what the phrase names in {percent(number['pointing'])} of {number['n']} "
        f"phrases; a random patch does in {percent(number['chance_pointing'])}, one of any object in "
        f"{percent(number['any_object_pointing'])}"
    )


def _note(choice: dict) -> str:
    single = choice["map"] in ("phrase", "words")
    place = "" if single else f", layer {choice['layer']}, " + ("mean of heads" if choice["head"] == "mean" else f"head {choice['head']}")
    return (
        f"The first held-out scenes, not chosen. Maps: {EXPLAINED[choice['map']]}{place}; bright is high, scaled for each map. Outlined: "
        "what the phrase names. Cross: the highest patch."
    )


def _scene(sheet: Sheet, left: float, top: float, batch: HeldOut, row: int, words: Words, maps: torch.Tensor) -> None:
    picture = as_picture(batch.images[0][row])
    sheet.picture(left, top, TILE, picture)
    mine = (words.rows == row).nonzero().flatten().tolist()
    for column, i in enumerate(mine[:MAPS], start=1):
        colour = OBJECT_COLOURS[words.places[i] % len(OBJECT_COLOURS)]
        x = left + column * (TILE + BETWEEN)
        _map(sheet, x, top, picture, maps[i].numpy(), words.target[i].numpy(), colour)
        sheet.text(x + TILE / 2, top + TILE + 0.04, shorten(words.phrases[i], TILE), SMALL, "center", color=colour, weight="bold")


def _map(sheet: Sheet, left: float, top: float, picture: np.ndarray, values: np.ndarray, target: np.ndarray, colour: str) -> None:
    side = int(len(values) ** 0.5)
    patch, grid = len(picture) // side, np.nan_to_num(values).reshape(side, side)
    spread = max(grid.max() - grid.min(), 1e-12)
    warm = colormaps[HEAT](heat((grid - grid.min()) / spread, patch))[..., :3]
    grey = picture.mean(axis=-1, keepdims=True)
    axes = sheet.picture(left, top, TILE, 0.35 * grey + 0.65 * warm)
    outline(axes, target.reshape(side, side), patch, colour)
    mark_highest(axes, values, patch)


def shorten(phrase: str, width: float) -> str:
    """The end of a phrase that fits: nouns stand last."""
    words = phrase.split(" ")
    while len(words) > 1 and (words[0] == "and" or text_width(" ".join(words), SMALL, bold=True) > width):
        words = words[1:]
    return " ".join(words)
