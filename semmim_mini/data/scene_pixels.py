r"""From a layout to pixels: backgrounds, and cutouts stamped upon them from back to front.

    picture ─► one of a few smaller copies ─► turned, mirrored, scaled in one affine step ─► blended over the canvas

Everything is given in shares of the image side, so that one layout can be drawn at any resolution. Colours are kept
premultiplied by alpha: then blending is one multiplication, and the rim of a cutout never takes colour from transparent pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from semmim_mini.data.cutouts import Cutout

LEVELS = tuple(round(112 / 2 ** (i / 2)) for i in range(9))  # px of the longest side of the smaller copies: 112, 79, 56, … 7
OPAQUE = 128  # alpha (of 255) from which a pixel belongs to the object


@dataclass(frozen=True)
class Pose:
    """How a cutout lies in the scene."""

    x: float  # centre, share of the image side from the left
    y: float  # from the top
    side: float  # longest side of the cutout before it is turned, share of the image side
    turn: float  # radians, clockwise
    mirrored: bool


@dataclass(frozen=True, eq=False)
class Background:
    """Two tones and the pattern that mixes them."""

    kind: str  # plain | gradient | ground | stripes | checks | blobs
    tones: np.ndarray  # (2, 3) uint8
    word: str | None  # colour word of the first tone, if there is no doubt about it
    turn: float  # radians: direction of a gradient or of stripes
    scale: float  # height of the horizon; stripes or checks per side
    noise: np.ndarray  # (5, 5) in 0..1: blobs


@lru_cache(maxsize=8192)
def _copy(cutout: Cutout, longest: int) -> Image.Image:
    """A smaller copy, premultiplied, with a transparent rim of 1 px: an affine step into it then fades out instead of breaking off."""
    image = Image.fromarray(np.array(cutout.picture)).convert("RGBa")
    scale = longest / max(image.size)
    if scale < 1:
        image = image.resize([max(1, round(length * scale)) for length in image.size], Image.Resampling.BILINEAR)
    framed = Image.new("RGBa", (image.width + 2, image.height + 2))
    framed.paste(image, (1, 1))
    return framed


def stamp(cutout: Cutout, pose: Pose, resolution: int) -> tuple[np.ndarray, int, int]:
    """The cutout as it will lie on a canvas of `resolution` px: (h, w, 4) uint8, premultiplied, and where its left top corner goes."""
    longest = pose.side * resolution
    source = _copy(cutout, next((level for level in reversed(LEVELS) if level >= longest), LEVELS[0]))
    step = (max(source.size) - 2) / longest  # source px per canvas px
    cos, sin = math.cos(pose.turn) * step, math.sin(pose.turn) * step
    half_w = (abs(cos) * source.width + abs(sin) * source.height) / (2 * step * step)
    half_h = (abs(sin) * source.width + abs(cos) * source.height) / (2 * step * step)
    x, y = pose.x * resolution, pose.y * resolution
    left, top = math.floor(x - half_w), math.floor(y - half_h)
    size = math.ceil(x + half_w) - left, math.ceil(y + half_h) - top
    flip = -1 if pose.mirrored else 1
    to_x = (flip * cos, flip * sin, flip * (cos * (left - x) + sin * (top - y)) + source.width / 2)
    to_y = (-sin, cos, -sin * (left - x) + cos * (top - y) + source.height / 2)
    return np.asarray(source.transform(size, Image.Transform.AFFINE, to_x + to_y, Image.Resampling.BILINEAR)), left, top


def draw(background: Background, things: list[tuple[Cutout, Pose]], resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene, the first thing furthest back.

    Returns:
        pixels (h, w, 3) uint8, and the map (h, w) uint8 of who is seen where: 0 for background, else 1 + index of the thing.
    """
    canvas, owner = paint(background, resolution), np.zeros((resolution, resolution), np.uint8)
    for value, (cutout, pose) in enumerate(things, start=1):
        pixels, left, top = stamp(cutout, pose, resolution)
        rows, columns, pixels = _inside(pixels, left, top, resolution)
        alpha = pixels[..., 3:]
        below = canvas[rows, columns].astype(np.uint16) * (255 - alpha)
        canvas[rows, columns] = pixels[..., :3] + (below + 127) // 255  # cannot overflow: a premultiplied colour is at most alpha
        owner[rows, columns][alpha[..., 0] >= OPAQUE] = value
    return canvas, owner


def _inside(pixels: np.ndarray, left: int, top: int, resolution: int) -> tuple[slice, slice, np.ndarray]:
    """The part of a stamp that falls on the canvas; what may fall beside it is its transparent rim."""
    height, width = pixels.shape[:2]
    rows, columns = slice(max(top, 0), min(top + height, resolution)), slice(max(left, 0), min(left + width, resolution))
    return rows, columns, pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]


@lru_cache(maxsize=8)
def _grid(resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, w) and y (h, 1) of the pixel centres, -0.5 … 0.5."""
    axis = ((np.arange(resolution) + 0.5) / resolution - 0.5).astype(np.float32)
    return axis[None, :], axis[:, None]


def paint(background: Background, resolution: int) -> np.ndarray:
    """The background alone: (h, w, 3) uint8."""
    first, second = background.tones.astype(np.float32)
    if background.kind == "plain":
        return np.broadcast_to(background.tones[0], (resolution, resolution, 3)).copy()
    table = (first + np.linspace(0, 1, 256, dtype=np.float32)[:, None] * (second - first) + 0.5).astype(np.uint8)
    mix = np.broadcast_to(_mix(background, resolution), (resolution, resolution))
    return table[(mix * 255 + 0.5).astype(np.uint8)]


def _mix(background: Background, resolution: int) -> np.ndarray:
    """Share of the second tone at every pixel, 0 … 1."""
    x, y = _grid(resolution)
    along = math.cos(background.turn) * x + math.sin(background.turn) * y
    soft = resolution / 2  # an edge is two pixels wide at any resolution
    if background.kind == "gradient":
        return np.clip(along * 0.8 + 0.5, 0, 1)
    if background.kind == "ground":
        return np.clip((y + 0.5 - background.scale) * soft + 0.5, 0, 1)
    if background.kind == "stripes":
        return np.clip(np.sin(2 * math.pi * background.scale * along) * soft / (2 * math.pi * background.scale) + 0.5, 0, 1)
    if background.kind == "checks":
        wave = np.sin(math.pi * background.scale * (x + 0.5)) * np.sin(math.pi * background.scale * (y + 0.5))
        return np.clip(wave * soft / (math.pi * background.scale) + 0.5, 0, 1)
    noise = Image.fromarray((background.noise * 255).astype(np.uint8))
    return np.asarray(noise.resize((resolution, resolution), Image.Resampling.BICUBIC), np.float32) / 255
