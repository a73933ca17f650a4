r"""Code maps: the scene, its true objects, and what patch codes make of it.

In each scene codes and objects are matched one to one, for the largest common area; a matched code takes its object's colour,
every other code a pale one of its own. An object that is one code is one clean patch of colour; one broken into many codes is not,
and neither are two objects under one code. The references are coloured by the same rule.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import MiniBatchKMeans

from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.figures.patterns import patch_grid
from semmim_mini.figures.style import MARGIN, OBJECT_COLOURS, SMALL, WIDTH, Drawn, Sheet, as_picture, styled
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.instruments.semantics import ami, concept_labels, patch_codes
from semmim_mini.model.semmim import Encoders
from semmim_mini.objectives.masked_image import patch_pixels

GROUND = "#F4F4F4"
PALES = ("#C9C2B4", "#B4C2C9", "#C2B4C9", "#B9C9B4", "#C9B4B9", "#A9A9B8", "#D6CFA8", "#A8BDB4")  # of codes that match no object


@styled
def code_map(before: Encoders, after: Encoders, batches: list[HeldOut], patch: int, rows: int = 4) -> Drawn:
    """Scene, objects, codes after training, codes before, clusters of pixels, for the first scenes with two objects or more.

    Returns:
        `ami`, `ami_random_init`, `ami_pixel_kmeans` as `instruments.semantics.semantics` defines them.
    """
    maps = [patch_codes(after, batches), patch_codes(before, batches), pixel_clusters(batches, patch, len(after.space.patch.prototypes))]
    labels = concept_labels(batches, patch)
    number = dict(zip(("ami", "ami_random_init", "ami_pixel_kmeans"), (ami(labels, codes) for codes in maps), strict=True))
    scenes = [(batch, row) for batch in batches for row in range(len(batch.pairs))]
    objects = [patch_objects(batch.object_maps[row], patch).cpu().numpy() for batch, row in scenes]
    chosen = sorted(range(len(scenes)), key=lambda i: len(set(objects[i]) - {0}) < 2)[:rows]
    gap = 0.1
    size = (WIDTH - 2 * MARGIN - 4 * gap) / 5
    heads = ["scene", "true objects", *(f"{name}: {number[key]:.2f}" for name, key in zip(
        ("codes, trained", "codes, untrained", "pixel clusters"), number, strict=True))]  # fmt: skip
    sheet = Sheet(_title(number), 0.24 + len(chosen) * (size + gap), _note(len(maps[0])))
    for column, head in enumerate(heads):
        sheet.text(MARGIN + column * (size + gap) + size / 2, 0, head, SMALL, "center", weight="bold")
    grids = [patch_grid(codes, batches) for codes in maps]
    for row, i in enumerate(chosen):
        batch, place = scenes[i]
        truth = objects[i].reshape(grids[0].shape[1:])
        tiles = [as_picture(batch.images[0][place]), object_colours(truth), *(code_colours(grid[i], truth) for grid in grids)]
        for column, tile in enumerate(tiles):
            sheet.picture(MARGIN + column * (size + gap), 0.24 + row * (size + gap), size, tile)
    return Drawn(sheet.figure, number)


def pixel_clusters(batches: list[HeldOut], patch: int, k: int) -> np.ndarray:
    """k-means on the pixels of the patches, the reference of `instruments.semantics` (b·n,)."""
    pixels = torch.cat([patch_pixels(b.images[0], patch).flatten(0, 1) for b in batches]).cpu().numpy()
    return MiniBatchKMeans(min(k, len(pixels)), random_state=0, n_init=1, batch_size=4096).fit_predict(pixels)


def object_colours(objects: np.ndarray) -> np.ndarray:
    """(side, side) object numbers, 0 the ground, as colours (side, side, 3)."""
    palette = np.array([_rgb(GROUND), *map(_rgb, OBJECT_COLOURS)])
    return palette[np.where(objects == 0, 0, (objects - 1) % len(OBJECT_COLOURS) + 1)]


def match(codes: np.ndarray, objects: np.ndarray) -> dict[int, int]:
    """Code → object (0 is the ground), one to one, for the largest number of patches where both agree."""
    names, kinds = np.unique(codes), np.unique(objects)
    common = np.array([[np.sum((codes == c) & (objects == o)) for o in kinds] for c in names])
    pairs = zip(*linear_sum_assignment(-common), strict=True)
    return {int(names[i]): int(kinds[j]) for i, j in pairs if common[i, j] > 0}


def code_colours(codes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Codes (side, side) coloured as above (side, side, 3)."""
    matched, shown = match(codes, objects), np.zeros((*codes.shape, 3))
    others = [code for code in np.unique(codes) if int(code) not in matched]
    for code in np.unique(codes):
        colour = object_colours(np.array([matched[int(code)]]))[0] if int(code) in matched else _rgb(PALES[others.index(code) % len(PALES)])
        shown[codes == code] = colour
    return shown


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _title(number: dict) -> str:
    return (
        f"Patch codes agree with true objects by AMI {number['ami']:.2f}; "
        f"untrained {number['ami_random_init']:.2f}, clusters of pixels {number['ami_pixel_kmeans']:.2f} (chance 0, perfect 1)"
    )


def _note(patches: int) -> str:
    return (
        "Bright colours: the code that matches an object best within the scene, one for each. White: the one that matches the ground. "
        f"Pale: all other codes. AMI over {patches} held-out patches, background as one class."
    )
