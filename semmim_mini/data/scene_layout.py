r"""Which things stand where: the plan of a scene, before any pixel of it is drawn and independent of its resolution.

    concepts that may meet ─► a picture of each ─► size, tilt ─► a place: free, or half behind another ─► what is left to see

Depth is the order of placing. Whether a thing is hidden, and how much of it, is counted on the silhouettes themselves, on a grid of
`GRID` px that is the same for every resolution, and not guessed from boxes: the box of a banana is mostly air.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from semmim_mini.data.build_cutouts import name_colors
from semmim_mini.data.cutouts import Cutout
from semmim_mini.data.scene_pixels import OPAQUE, Background, Pose, stamp
from semmim_mini.data.scene_splits import Catalogue

GRID = 64  # px, for silhouettes
COUNTS = {1: 0.10, 2: 0.33, 3: 0.34, 4: 0.23}  # share of scenes with so many objects; 2.7 on average
AGAIN = 0.22  # chance that an object beyond the second repeats a concept, so that there is something to count
SIDE = (0.30, 0.55)  # longest side, shares of the image side
AREA = (0.085, 0.15)  # of the image that a silhouette should cover: flutes are drawn longer than balls
OVERLAP = 0.4  # chance that an object is put in front of another on purpose
HIDDEN = (0.17, 0.5)  # share of a thing that a thing placed in front of it on purpose covers
TOUCH = 0.03  # share of a thing that may be covered by chance
VISIBLE = 0.42  # share of every silhouette that must stay visible
TILT = math.radians(15)
CONTRAST = 95  # distance in RGB between a background tone and the mean colour of every object


@dataclass(frozen=True, eq=False)
class Layout:
    """The plan of a scene; objects from back to front."""

    cutouts: tuple[Cutout, ...]
    poses: tuple[Pose, ...]
    boxes: tuple[tuple[float, float, float, float], ...]  # left, top, right, bottom, shares of the side, before occlusion
    hidden: np.ndarray  # (o, o) share of object i's silhouette on which object j is seen; i itself on the diagonal
    background: Background


def make_layout(catalogue: Catalogue, draw: np.random.Generator) -> Layout:
    """Draw the plan of a scene that is allowed in the catalogue's split."""
    concepts = _choose_concepts(catalogue, draw)
    cutouts = tuple(catalogue.concepts[c].cutouts[int(draw.integers(len(catalogue.concepts[c].cutouts)))] for c in concepts)
    return lay_out(cutouts, draw)


def lay_out(cutouts: tuple[Cutout, ...], draw: np.random.Generator) -> Layout:
    """Places and background for these cutouts."""
    placed = None
    while placed is None:
        placed = _place_all(cutouts, draw)
    silhouettes, poses = placed
    return Layout(cutouts, poses, *_measure(silhouettes), _choose_background(cutouts, draw))


def _choose_concepts(catalogue: Catalogue, draw: np.random.Generator) -> list[int]:
    """Indices of concepts, every pair of which may meet; at least two different ones wherever there are two objects."""
    fewest = 2 if catalogue.held_out else 1  # a single object is no combination
    count = max(fewest, 1 + int(np.searchsorted(np.cumsum(list(COUNTS.values())), draw.random())))
    count = min(count, max(COUNTS))
    chosen = [_pick(catalogue.own.any(1) if count > 1 else np.ones(len(catalogue.concepts), bool), draw)]
    while len(chosen) < count:
        if len(chosen) == 1:  # the pair that makes the scene one of its split
            chosen.append(_pick(catalogue.own[chosen[0]] & _others(chosen, len(catalogue.concepts)), draw))
            continue
        allowed = catalogue.together[chosen].all(0) & _others(chosen, len(catalogue.concepts))
        again = draw.random() < AGAIN or not allowed.any()
        chosen.append(chosen[int(draw.integers(len(chosen)))] if again else _pick(allowed, draw))
    return [chosen[i] for i in draw.permutation(count)]


def _others(chosen: list[int], count: int) -> np.ndarray:
    other = np.ones(count, bool)
    other[chosen] = False
    return other


def _pick(allowed: np.ndarray, draw: np.random.Generator) -> int:
    candidates = np.flatnonzero(allowed)
    return int(candidates[int(draw.integers(len(candidates)))])


# ----------------------------------------------------------------------------------------------------------------- placing


def _place_all(cutouts: tuple[Cutout, ...], draw: np.random.Generator):
    """Silhouettes (o, GRID, GRID) bool and poses, or None where the last object found no room."""
    silhouettes, poses = np.zeros((len(cutouts), GRID, GRID), bool), []
    shrink = {1: 1.2, 2: 1.1, 3: 1.0, 4: 0.95}[len(cutouts)]  # a lonely thing may be larger
    for index, cutout in enumerate(cutouts):
        hide = [other.concept != cutout.concept for other in cutouts[:index]]  # half a duck behind a duck is not two ducks
        place = next(filter(None, (_place(cutout, silhouettes[:index], hide, shrink * 0.85**i, draw) for i in range(5))), None)
        if place is None:
            return None
        silhouettes[index], pose = place
        poses.append(pose)
    return silhouettes, tuple(poses)


def _place(cutout: Cutout, others: np.ndarray, hide: list[bool], shrink: float, draw: np.random.Generator):
    """One silhouette and its pose, or None where nothing fits. The stamp is made once and only shifted, by whole pixels of the grid."""
    size, tilt, mirror = draw.random(3).tolist()
    side = min(max(math.sqrt((AREA[0] + size * (AREA[1] - AREA[0])) / _fill(cutout)), SIDE[0]), SIDE[1]) * shrink
    pose = Pose(0.5, 0.5, side, (2 * tilt - 1) * TILT, mirror < 0.5)
    pixels, left, top = stamp(cutout, pose, GRID)
    shape, row, column = _trim(pixels[..., 3] >= OPAQUE)
    if max(shape.shape) > GRID:
        return None
    found = _find_place(shape, others, hide, draw)
    if found is None:
        return None
    y, x = found
    silhouette = np.zeros((GRID, GRID), bool)
    silhouette[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
    return silhouette, Pose(0.5 + (x - column - left) / GRID, 0.5 + (y - row - top) / GRID, pose.side, pose.turn, pose.mirrored)


@lru_cache(maxsize=8192)
def _fill(cutout: Cutout) -> float:
    """Share of a square around the cutout that it covers."""
    return float((cutout.picture[..., 3] >= OPAQUE).sum() / max(cutout.picture.shape) ** 2)


def _trim(mask: np.ndarray) -> tuple[np.ndarray, int, int]:
    """The mask without empty margins, and how many rows and columns were cut off before it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], int(rows[0]), int(columns[0])


def _find_place(shape: np.ndarray, others: np.ndarray, hide: list[bool], draw: np.random.Generator) -> tuple[int, int] | None:
    """Row and column of the left top corner of `shape` on the grid: in front of one of the others that may be hidden, or free of all."""
    places = draw.integers(GRID - np.array(shape.shape) + 1, size=(40, 2)).tolist()
    if not len(others):
        return places[0]
    on_purpose = draw.random() < OVERLAP and any(hide)
    seen = _seen(others)
    anything, area, left = seen.any(0), _sizes(others), _sizes(seen)
    least, most = (HIDDEN[0] * min(area), HIDDEN[1] * max(area) + TOUCH * sum(area)) if on_purpose else (0, TOUCH * sum(area))
    for y, x in places:
        window = slice(y, y + shape.shape[0]), slice(x, x + shape.shape[1])
        if not least <= np.count_nonzero(anything[window] & shape) <= most:  # cheap, and most places fail here
            continue
        newly = _sizes(seen[:, *window] & shape)
        visible = all(before - now >= VISIBLE * whole for before, now, whole in zip(left, newly, area, strict=True))
        if visible and _as_planned([now / whole for now, whole in zip(newly, area, strict=True)], hide, on_purpose):
            return y, x
    return None


def _as_planned(covered: list[float], hide: list[bool], on_purpose: bool) -> bool:
    """Whether a new thing covers nothing, or, on purpose, a fair part of exactly one thing that may be hidden."""
    if not on_purpose:
        return max(covered) <= TOUCH
    main = covered.index(max(covered))
    return hide[main] and HIDDEN[0] <= covered[main] <= HIDDEN[1] and all(c <= TOUCH for i, c in enumerate(covered) if i != main)


def _sizes(masks: np.ndarray) -> list[int]:
    return [np.count_nonzero(mask) for mask in masks]


def _seen(silhouettes: np.ndarray) -> np.ndarray:
    """The visible part of every silhouette: what none in front of it covers."""
    covered = np.zeros((GRID, GRID), bool)
    seen = np.empty_like(silhouettes)
    for index in reversed(range(len(silhouettes))):
        seen[index] = silhouettes[index] & ~covered
        covered |= silhouettes[index]
    return seen


def _measure(silhouettes: np.ndarray) -> tuple[tuple[tuple[float, float, float, float], ...], np.ndarray]:
    """Boxes, and who is seen on whose silhouette."""
    boxes = []
    for silhouette in silhouettes:
        shape, top, left = _trim(silhouette)
        boxes.append((left / GRID, top / GRID, (left + shape.shape[1]) / GRID, (top + shape.shape[0]) / GRID))
    flat, seen = (x.reshape(len(silhouettes), -1).astype(np.float32) for x in (silhouettes, _seen(silhouettes)))
    return tuple(boxes), flat @ seen.T / flat.sum(1, keepdims=True)


# -------------------------------------------------------------------------------------------------------------- background

KINDS = {"plain": 0.3, "gradient": 0.2, "ground": 0.15, "stripes": 0.1, "checks": 0.1, "blobs": 0.15}


@lru_cache(maxsize=1)
def _palette() -> tuple[np.ndarray, np.ndarray]:
    """Muted tones (t, 3) uint8 and their colour words: 24 hues in three lightnesses, and greys. Creams are left out: they are not
    quite white, and not quite anything else."""
    hues = np.repeat(np.arange(24) / 24 * 2 * math.pi, 3)
    light, chroma = np.tile([0.42, 0.66, 0.86], 24), np.tile([0.17, 0.16, 0.09], 24)
    shift = np.stack([np.cos(hues - channel * 2 * math.pi / 3) for channel in range(3)], -1)
    tones = np.concatenate([light[:, None] + chroma[:, None] * shift, np.repeat([[0.3], [0.5], [0.7], [0.95]], 3, axis=1)])
    tones = (tones.clip(0, 1) * 255).round().astype(np.uint8)
    words = name_colors(tones[None])[0]
    clear = (words != "white") | (tones.max(1) == tones.min(1))
    return tones[clear], words[clear]


@lru_cache(maxsize=1)
def _sure() -> np.ndarray:
    """(t,) bool: tones that keep their word when every channel is a little stronger or weaker, so that a caption may use it."""
    tones, words = _palette()
    moves = np.array([[x, y, z] for x in (-9, 0, 9) for y in (-9, 0, 9) for z in (-9, 0, 9)])
    return (name_colors((tones.astype(int) + moves[:, None]).clip(0, 255).astype(np.uint8)) == words).all(0)


@lru_cache(maxsize=8192)
def _distance(cutout: Cutout) -> np.ndarray:
    """How far every tone of the palette lies from the mean colour of a cutout, in RGB; not at all if it has the same name."""
    tones, words = _palette()
    weight = cutout.picture[..., 3:].astype(np.float64)
    mean = (cutout.picture[..., :3] * weight).sum((0, 1)) / weight.sum()
    return np.sqrt(((tones - mean) ** 2).sum(-1)) * (words != cutout.colors[0])


@lru_cache(maxsize=1)
def _nearest() -> np.ndarray:
    """For every tone, all tones from the nearest to the farthest."""
    tones = _palette()[0].astype(float)
    return np.argsort(((tones[:, None] - tones) ** 2).sum(-1), axis=1, kind="stable")


def _choose_background(cutouts: tuple[Cutout, ...], draw: np.random.Generator) -> Background:
    """A pattern of two tones, each of which stands out from every object where the palette allows it."""
    tones, words = _palette()
    distance = np.min([_distance(cutout) for cutout in cutouts], axis=0)
    good = distance >= min(CONTRAST, np.sort(distance)[-6])
    first = _pick(good, draw)
    near = _nearest()[first]
    near = near[good[near]]
    second = near[int(draw.integers(len(near) // 4, max(len(near) // 2, len(near) // 4 + 1)))]  # neither the same nor a garish contrast
    kind = list(KINDS)[int(np.searchsorted(np.cumsum(list(KINDS.values()))[:-1], draw.random()))]
    turn, scale = float(draw.uniform(0, 2 * math.pi)), float(draw.uniform(0.45, 0.7) if kind == "ground" else draw.integers(3, 7))
    return Background(kind, tones[[first, second]], (str(words[first]) if _sure()[first] else None), turn, scale, draw.random((5, 5)))
