r"""What does a code stand for? For a prototype, the patches that score it highest, at most one per picture, in their surroundings.

iBOT's figure [F], with a number: of the patches shown for a prototype, the share that shows their most common concept (purity).
Before and after training stand side by side, chosen by one rule: a fresh network with k-means prototypes already sorts colours.

The rule [C]. Candidates are prototypes that are the best match of patches in at least `per` pictures. Those whose shown patches
are mostly ground are passed over: plain ground scores highest and tells nothing (photos: patches of less than median contrast).
Of the rest the ones with the highest mean score are shown. Purity plays no part in the choice.
"""

from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from matplotlib.patches import Rectangle

from semmim_mini.figures.style import BLUE, GREY, INK, MARGIN, ORANGE, SMALL, WIDTH, Drawn, Sheet, as_picture, percent, styled
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.instruments.semantics import concept_labels
from semmim_mini.model.semmim import Encoders
from semmim_mini.objectives.masked_image import patch_pixels

BACKGROUND = "background"
SPACE = 0.05  # between crops, in inches


class Pattern(NamedTuple):
    """A prototype and the patches that score it highest, best first."""

    prototype: int
    images: np.ndarray  # (per,) index over all batches
    places: np.ndarray  # (per,) patch within the image


class Best(NamedTuple):
    """Per image and prototype, the best patch."""

    scores: np.ndarray  # (images, k)
    places: np.ndarray  # (images, k)
    hits: np.ndarray  # (images, k) bool: the prototype is the best match of some patch of the image


@torch.no_grad()
def best_patches(encoders: Encoders, batches: list[HeldOut], chunk: int = 16) -> Best:
    """Text-free clean patches against all prototypes, a few images at a time: n·k numbers an image are many at full scale."""
    rows = []
    for images in (part for batch in batches for part in batch.images[0].split(chunk)):
        scores = encoders.space.patch(encoders.image(images)[:, 1:])
        highest, places = scores.max(dim=1)
        hits = torch.zeros_like(highest, dtype=torch.bool).scatter_(1, scores.argmax(dim=2), True)
        rows.append([x.cpu().numpy() for x in (highest, places, hits)])
    return Best(*(np.concatenate(x) for x in zip(*rows, strict=True)))


def choose(best: Best, telling: np.ndarray, prototypes: int, per: int) -> list[Pattern]:
    """The patterns to show, by the rule above.

    Args:
        telling: (images, n) bool, patches worth showing.
    """
    per = min(per, len(best.scores))
    order = np.argsort(-best.scores, axis=0, kind="stable")[:per]  # (per, k): images, best first
    scores, places = (np.take_along_axis(x, order, axis=0) for x in (best.scores, best.places))
    enough = best.hits.sum(axis=0) >= per
    clear = telling[order, places].mean(axis=0) >= 0.5
    # Candidates first, then whatever comes closest: a figure of few pictures is still a figure.
    rank = np.lexsort((-scores.mean(axis=0), ~clear, ~enough))[:prototypes]
    return [Pattern(int(p), order[:, p], places[:, p]) for p in rank]


def telling_patches(batches: list[HeldOut], patch: int) -> np.ndarray:
    """Patches worth showing: of an object where that is known, else of more than median contrast. (images, n)"""
    if batches[0].pairs[0].truth is not None:
        labels = concept_labels(batches, patch)
        return labels.reshape(sum(len(b.pairs) for b in batches), -1) > 0
    contrast = torch.cat([patch_pixels(b.images[0], patch).std(dim=-1) for b in batches]).cpu().numpy()
    return contrast > np.median(contrast)


def concept_names(batches: list[HeldOut]) -> list[str]:
    """Names in the order in which `concept_labels` numbers them; 0 is the background."""
    return [BACKGROUND, *dict.fromkeys(o.concept for b in batches for pair in b.pairs for o in pair.truth.objects)]


def most_common(shown: np.ndarray) -> tuple[int, float]:
    """The most common label and its share: the purity of a pattern."""
    labels, counts = np.unique(shown, return_counts=True)
    return int(labels[counts.argmax()]), float(counts.max() / len(shown))


def chance_purity(labels: np.ndarray, per: int, draws: int = 200, seed: int = 0) -> float:
    """Mean purity of object patches drawn from `per` different pictures at random. labels: (images, n)."""
    random = np.random.default_rng(seed)
    showing = [row[row > 0] for row in labels if (row > 0).any()]
    if not showing:
        return 1.0
    per = min(per, len(showing))
    rounds = (random.choice(len(showing), per, replace=False) for _ in range(draws))
    return float(np.mean([most_common(np.array([random.choice(showing[i]) for i in images]))[1] for images in rounds]))


@styled
def pattern_layout(before: Encoders, after: Encoders, batches: list[HeldOut], patch: int, prototypes: int = 8, per: int = 8) -> Drawn:
    """Two halves: the untrained network's patterns (`instruments.semantics.untrained`) and the trained one's.

    Returns:
        For scenes `purity`, `purity_untrained` and `purity_chance`, means over the prototypes shown; for photos the mean score
        (cosine) of the patches shown, `score` and `score_untrained`.
    """
    truth, telling = batches[0].pairs[0].truth is not None, telling_patches(batches, patch)
    best = [best_patches(encoders, batches) for encoders in (before, after)]
    patterns = [choose(b, telling, prototypes, per) for b in best]
    labels = concept_labels(batches, patch).reshape(telling.shape) if truth else None
    number = _numbers(patterns, best, labels, per)
    images, names = torch.cat([b.images[0] for b in batches]).cpu(), concept_names(batches) if truth else []
    gap = 0.3
    half = (WIDTH - 2 * MARGIN - gap) / 2
    size = (half + SPACE) / per - SPACE
    row_height = size + 0.3
    sheet = Sheet(_title(number), 0.3 + max(map(len, patterns)) * row_height, _note(truth, telling))
    for side, (name, chosen) in enumerate(zip(("before training", "after training"), patterns, strict=True)):
        left = MARGIN + side * (half + gap)
        sheet.text(left, 0, name, 11, weight="bold", color=(GREY, BLUE)[side])
        for row, pattern in enumerate(chosen):
            top = 0.3 + row * row_height
            _label(sheet, left, top, pattern, labels, names, best[side])
            crops = [crop(images[i], int(place), patch) for i, place in zip(pattern.images, pattern.places, strict=True)]
            _strip(sheet, left, top + 0.19, size, crops)
    return Drawn(sheet.figure, number)


def _numbers(patterns: list[list[Pattern]], best: list[Best], labels: np.ndarray | None, per: int) -> dict[str, float]:
    if labels is None:
        score = [float(np.mean([b.scores[p.images, p.prototype].mean() for p in chosen])) for chosen, b in zip(patterns, best, strict=True)]
        return {"score": score[1], "score_untrained": score[0]}
    purity = [float(np.mean([most_common(labels[p.images, p.places])[1] for p in chosen])) for chosen in patterns]
    return {"purity": purity[1], "purity_untrained": purity[0], "purity_chance": chance_purity(labels, per)}


def _title(number: dict) -> str:
    if "purity" not in number:
        scores = f"mean cosine {number['score']:.2f}, before training {number['score_untrained']:.2f}"
        return f"What codes stand for: the patches that score a prototype highest ({scores})"
    return (
        f"What codes stand for: {percent(number['purity'])} of the patches shown for a code share one concept; "
        f"before training {percent(number['purity_untrained'])}, at random {percent(number['purity_chance'])}"
    )


def _note(truth: bool, telling: np.ndarray) -> str:
    passed = "ground" if truth else "plain patches"
    return (
        f"Each row: one prototype and the patches (framed) that score it highest in {len(telling)} held-out pictures, at most one per "
        f"picture, best first. Rows: highest mean score among codes in use that do not stand for {passed}; one rule for both halves."
    )


def _label(sheet: Sheet, left: float, top: float, pattern: Pattern, labels: np.ndarray | None, names: list[str], best: Best) -> None:
    if labels is None:
        words = f"code {pattern.prototype}, in {int(best.hits[:, pattern.prototype].sum())} pictures"
        sheet.text(left, top, words, SMALL, color=GREY)
        return
    label, share = most_common(labels[pattern.images, pattern.places])
    count = round(share * len(pattern.images))
    words = f"{count} of {len(pattern.images)}: {names[label]}" if count > 1 else "no two alike"
    sheet.text(left, top, words, SMALL, color=INK if share >= 0.5 else GREY)


def crop(image: torch.Tensor, place: int, patch: int) -> np.ndarray:
    """A patch with its eight neighbours as a picture (3p, 3p, 3); beyond the image's rim there is white."""
    row, column = divmod(place, image.shape[-1] // patch)
    padded = torch.nn.functional.pad(image, [patch] * 4, value=1.0)
    return as_picture(padded[:, row * patch : (row + 3) * patch, column * patch : (column + 3) * patch])


def _strip(sheet: Sheet, left: float, top: float, size: float, crops: list[np.ndarray]) -> None:
    """Crops in a row, one axes for all (axes are slow), the patch in the middle of each framed."""
    axes, side = sheet.axes(left, top, len(crops) * (size + SPACE) - SPACE, size), len(crops[0])
    pitch = side * (size + SPACE) / size
    for i, pixels in enumerate(crops):
        axes.imshow(pixels, extent=(i * pitch, i * pitch + side, side, 0), interpolation="nearest", aspect="auto")
        for colour, width in (("white", 2.6), (ORANGE, 1.3)):
            middle = (i * pitch + side / 3, side / 3)
            axes.add_patch(Rectangle(middle, side / 3, side / 3, fill=False, edgecolor=colour, linewidth=width))
    axes.set(xlim=(0, (len(crops) - 1) * pitch + side), ylim=(side, 0))
    axes.axis("off")


def patch_grid(values: np.ndarray, batches: list[HeldOut]) -> np.ndarray:
    """Values of all patches (b·n, …) as (images, side, side, …)."""
    images = sum(len(b.pairs) for b in batches)
    side = int((len(values) / images) ** 0.5)
    return rearrange(values, "(b i j) ... -> b i j ...", b=images, i=side, j=side)
