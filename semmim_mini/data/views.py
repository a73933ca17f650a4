r"""Two views of a picture, changed in everything but what the caption says.

    scene ─► random crop, resized ─► flip? ─► RandAugment? ─► normalise    × 2
                  │                    │           │
    object map ───┴────────────────────┴───────────┴─► the truth of each view (nearest pixel, never blended)

The transform is ALBEF's [F], twice. What it must not touch [F: ALBEF; C in detail]:
    sides    a caption that says left or right rules out mirroring. "Has left" does, too: the test is on the word.
    colours  captions name them. ALBEF's list has no Color, Posterize, Solarize or Invert. Of what it does have,
             Equalize and the usual AutoContrast stretch red, green and blue each by itself, which turns the hue: the
             first is left out, the second stretches all three together. Brightness stops where a channel would clip,
             which is what turns bright orange into yellow.

All draws come from the generator passed in, a fixed number per view, so that a sample has the same views in any process
and in any order. The operations are `torchvision.transforms.v2`'s; its classes draw from the global generator, which is
why the draws are made here.
"""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from semmim_mini.data.pairs import Pair
from semmim_mini.errors import UserError

MEAN = STD = (0.5, 0.5, 0.5)  # pixels in [-1, 1]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what pre-trained image encoders expect
RATIO = (3 / 4, 4 / 3)  # of width to height of a random crop [F]
GREY = 128.0  # shown where a turned picture has no pixels [F: ALBEF]

_SIDES = re.compile(r"\b(left|right)", re.IGNORECASE)  # also leftmost, right-hand; not upright


class View(NamedTuple):
    """Pixels and, for scenes, what they show."""

    pixels: Float[Tensor, "*v 3 r r"]  # normalised
    object_map: Tensor | None  # (*v, 1, r, r) uint8, see `pairs.SceneTruth`


def names_a_side(caption: str) -> bool:
    """Whether mirroring the picture could make this caption false."""
    return _SIDES.search(caption) is not None


class _Normalise:
    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        mean, std = (torch.tensor(x).view(3, 1, 1) for x in (mean, std))
        self.scale, self.shift = 1 / (255 * std), -mean / std

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.addcmul(self.shift, pixels.float(), self.scale)


class TwoViews:
    """v random views of a pair's picture.

    Args:
        resolution: px, square.
        scale: share of the picture's area that a crop keeps [F: 0.2–1]; (1, 1) keeps the picture as `CenterView` does.
        randaugment: (N, M), that many operations of that strength of 10 [F: (2, 7)]; None leaves them out.
        views: v.
        with_truth: carry the object map along; needs pairs that have one.
        mean, std: per channel, of pixels in [0, 1].
    """

    def __init__(
        self,
        resolution: int,
        scale: tuple[float, float] = (0.2, 1.0),
        randaugment: tuple[int, int] | None = (2, 7),
        views: int = 2,
        with_truth: bool = False,
        mean: tuple[float, ...] = MEAN,
        std: tuple[float, ...] = STD,
    ):
        self.resolution, self.scale, self.randaugment = resolution, scale, randaugment
        self.views, self.with_truth = views, with_truth
        self._normalise = _Normalise(mean, std)
        self._draws = 5 + 2 * (randaugment[0] if randaugment else 0)  # four for the crop, one for the flip, two an operation

    def __call__(self, pair: Pair, caption: str, draw: torch.Generator) -> View:
        """Views (v, 3, r, r) of `pair` that stay true to `caption`.

        Raises:
            UserError: the truth is asked of a photo.
        """
        may_flip = not names_a_side(caption)
        truth = _truth(pair) if self.with_truth else None
        image = pair.image.as_subclass(Tensor)  # plain, so that no operation has to ask what kind of tensor it is
        uniform = torch.rand(self.views, self._draws, generator=draw).tolist()
        seen = [self._view(image, truth, may_flip, row) for row in uniform]
        pixels = self._normalise(torch.stack([image for image, _ in seen]))
        return View(pixels, torch.stack([mask.as_subclass(Tensor) for _, mask in seen]) if truth is not None else None)

    def _view(self, image: Tensor, truth: Tensor | None, may_flip: bool, uniform: list[float]):
        box, size = crop_box(*image.shape[-2:], self.scale, *uniform[:4]), [self.resolution] * 2
        image = F.resized_crop(image, *box, size, InterpolationMode.BICUBIC, antialias=True)
        if truth is not None:
            truth = F.resized_crop(truth, *box, size)
        if may_flip and uniform[4] < 0.5:
            image, truth = image.flip(-1), truth if truth is None else F.horizontal_flip(truth)
        if self.randaugment:
            count, strength = self.randaugment
            for i in range(count):
                which, sign = uniform[5 + 2 * i : 7 + 2 * i]
                operation = OPERATIONS[int(which * len(OPERATIONS))]
                image, truth = operation(image, truth, strength / 10, 2 * sign - 1)
        return image, truth


def crop_box(
    height: int, width: int, scale: tuple[float, float], area: float, shape: float, down: float, right: float
) -> tuple[int, int, int, int]:
    """Top, left, height, width of a random crop, from four uniform numbers; cut to the picture where too long [C].

    All of the area can only be kept by no crop at all, as a crop has a random shape.
    """
    if scale == (1.0, 1.0):
        return middle_square(height, width)
    area = height * width * (scale[0] + area * (scale[1] - scale[0]))
    low, high = map(math.log, RATIO)
    ratio = math.exp(low + shape * (high - low))
    crop_w = min(max(round(math.sqrt(area * ratio)), 1), width)
    crop_h = min(max(round(math.sqrt(area / ratio)), 1), height)
    return int(down * (height - crop_h + 1)), int(right * (width - crop_w + 1)), crop_h, crop_w


def middle_square(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height, width of the largest square in the middle."""
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


# RandAugment without changes of colour -------------------------------------------------------------------
# Each operation takes image and truth, a strength from 0 to 1, and a random number from -1 to 1.

Operation = Callable[[Tensor, Tensor | None, float, float], tuple[Tensor, Tensor | None]]


def identity(image: Tensor, truth: Tensor | None, strength: float, draw: float):
    return image, truth


def auto_contrast(image: Tensor, truth: Tensor | None, strength: float, draw: float):
    """Stretch to the full range, one range for all channels: hue stays, unlike with a range for each."""
    low, high = (x.item() for x in image.aminmax())
    if low == high:
        return image, truth
    return ((image.float() - low) * (255 / (high - low))).round().to(torch.uint8), truth


def brightness(image: Tensor, truth: Tensor | None, strength: float, draw: float):
    """Darker or brighter by up to 30 %, but never so bright that a channel clips."""
    factor = min(1 + 0.3 * strength * draw, 255 / max(image.max().item(), 1))
    return (image.float() * factor).to(torch.uint8), truth


def sharpness(image: Tensor, truth: Tensor | None, strength: float, draw: float):
    return F.adjust_sharpness(image, 1 + 0.9 * strength * (1 if draw > 0 else -1)), truth


def _affine(image: Tensor, truth: Tensor | None, **change) -> tuple[Tensor, Tensor | None]:
    change = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]} | change
    image = F.affine(image, **change, interpolation=InterpolationMode.BILINEAR, fill=GREY)
    return image, truth if truth is None else F.affine(truth, **change, fill=0)


def _tilt(strength: float, draw: float) -> float:
    return math.degrees(math.atan(math.copysign(0.3 * strength, draw)))


def shear_x(image, truth, strength, draw):
    return _affine(image, truth, shear=[_tilt(strength, draw), 0.0])


def shear_y(image, truth, strength, draw):
    return _affine(image, truth, shear=[0.0, _tilt(strength, draw)])


def _shift(image: Tensor, strength: float, draw: float) -> float:
    # ALBEF's 10 px at full strength on pictures of 256 px; whole pixels, so that nothing blurs.
    return float(round(math.copysign(10 / 256 * strength * image.shape[-1], draw)))


def translate_x(image, truth, strength, draw):
    return _affine(image, truth, translate=[_shift(image, strength, draw), 0.0])


def translate_y(image, truth, strength, draw):
    return _affine(image, truth, translate=[0.0, _shift(image, strength, draw)])


def rotate(image, truth, strength, draw):
    return _affine(image, truth, angle=math.copysign(30 * strength, draw))


OPERATIONS: tuple[Operation, ...] = (
    identity, auto_contrast, brightness, sharpness, shear_x, shear_y, translate_x, translate_y, rotate,
)  # fmt: skip


class CenterView:
    """The one view for evaluation: the whole picture, resized; of an oblong one, the square in its middle."""

    def __init__(self, resolution: int, with_truth: bool = False, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD):
        self.resolution, self.with_truth = resolution, with_truth
        self._normalise = _Normalise(mean, std)

    def __call__(self, pair: Pair) -> View:
        """A view (3, r, r) of `pair`; raises `UserError` where the truth is asked of a photo."""
        image = self._square(pair.image.as_subclass(Tensor), InterpolationMode.BICUBIC)
        truth = self._square(_truth(pair), InterpolationMode.NEAREST).as_subclass(Tensor) if self.with_truth else None
        return View(self._normalise(image), truth)

    def _square(self, x: Tensor, interpolation: InterpolationMode) -> Tensor:
        return F.resized_crop(x, *middle_square(*x.shape[-2:]), [self.resolution] * 2, interpolation, antialias=True)


def _truth(pair: Pair) -> tv_tensors.Mask:
    if pair.truth is None:
        raise UserError(f"{pair.name} has no object map: only composed scenes know what they show; use data.source=scenes")
    return tv_tensors.Mask(pair.truth.object_map)
