r"""Picture files as they are found in the wild, and what happens to the bad ones.

Downloaded collections hold greyscale, palette, CMYK and sideways pictures, half files, and now and then a gigapixel.
`read_picture` turns each into the same thing, upright RGB, or says why it cannot. `PhotoPairs` is the sequence of pairs
built on it: the readers of the public collections (`flickr8k`, `karpathy`) only say which picture goes with which
captions. What happens to a picture that turns out bad (`Replacing`) is the same for photos in shards (`shards`).

Bad pictures [C]. A few missing files in a hundred thousand must not end a run of days, and many must not pass unseen.
So each is left out or replaced, named and counted, and above `max_bad_share` the run stops.
"""

import hashlib
import itertools
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair
from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown

MAX_PIXELS = 50_000_000  # width × height; a photo of a good camera has 24 to 45 million
# What photos come in. Pillow knows forty more, of which some start other programs (EPS) and few are ever tested.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")

log = logging.getLogger(__name__)


class UnreadablePicture(Exception):
    """The file is there, but it is no whole picture. `PhotoPairs` replaces it."""


def read_picture(path: Path, decode_size: int | None = None, max_pixels: int = MAX_PIXELS) -> tv_tensors.Image:
    """One picture file as upright RGB, (3, h, w) uint8; transparent parts lie on white.

    Args:
        decode_size: px; the shorter side is reduced to it where it is more than half as long again (below that, it
            costs more than it saves). JPEG files are decoded small to begin with, which takes little memory.
        max_pixels: refused above, by the header alone, before any memory is taken.

    Raises:
        UserError: more than `max_pixels`.
        UnreadablePicture: missing, truncated, or no picture.
    """
    return as_tensor(open_rgb(path, path, decode_size, max_pixels))


def as_tensor(rgb: Image.Image) -> tv_tensors.Image:
    """(3, h, w) uint8."""
    return tv_tensors.Image(torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous())


def open_rgb(
    source: Path | BinaryIO, name: object, decode_size: int | None, max_pixels: int = MAX_PIXELS, slack: float = 1.5
) -> Image.Image:
    """`read_picture` before it becomes a tensor, from a file or from bytes in memory.

    Args:
        name: of the picture, for people.
        slack: how much longer than `decode_size` the shorter side may stay; 1 for none.
    """
    try:
        with Image.open(source, formats=FORMATS) as picture:
            _refuse_bombs(name, picture.width * picture.height, max_pixels)
            if decode_size:
                picture.draft(None, (decode_size, decode_size))  # JPEG only; never below that size
            return _shrink(_to_rgb(ImageOps.exif_transpose(picture)), decode_size, slack)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        _refuse_bombs(name, None, max_pixels)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # decoders of a dozen formats, fed with any bytes, raise nearly everything
        raise UnreadablePicture(f"{name}: {error or type(error).__name__}") from error


def _refuse_bombs(name: object, pixels: int | None, max_pixels: int) -> None:
    if pixels is None or pixels > max_pixels:
        found = f"{pixels:,}" if pixels else "far too many"
        raise UserError(f"{name} claims {found} pixels, more than the {max_pixels:,} that are read; make it smaller or remove it")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
        grey = np.asarray(picture).clip(0, 65_535).astype(np.uint16) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _shrink(picture: Image.Image, size: int | None, slack: float) -> Image.Image:
    shorter = min(picture.size)
    if not size or shorter <= slack * size:
        return picture
    width, height = (max(1, round(side * size / shorter)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)


@dataclass(frozen=True)
class Photo:
    """What is known of a picture before it is opened."""

    name: str
    path: Path | None  # None: the file is missing
    captions: tuple[str, ...]

    @property
    def image_id(self) -> int:
        """From the name alone: the same in every split and whatever else is missing."""
        return picture_id(self.name)


def picture_id(text: str) -> int:
    """A number for whatever tells one picture from all others. 53 bits, exact as a float, too."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def at_home(path: str | Path) -> Path:
    """A path in which ~ may stand for a home.

    Raises:
        UserError: the home of somebody whom this machine does not know; a path that the system does not take.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except RuntimeError:
        raise UserError(f"the path {str(path)!r:.200} begins with a home that is not known here; write it out") from None
    except OSError as error:
        raise UserError(f"the path {str(path)!r:.200} cannot be used: {error.strerror}; correct it") from None
    return found


def whole_letters(text: str) -> str:
    """A text without half characters (lone surrogates of JSON), which no tokenizer takes and no file."""
    return text.encode("utf-8", "ignore").decode()


def clean_captions(captions: Iterable[str]) -> tuple[str, ...]:
    """Captions with single spaces, without half characters; empty ones are dropped."""
    cleaned = (" ".join(whole_letters(c).split()) for c in captions)
    return tuple(c for c in cleaned if c)


class Folders:
    """Is a file there? Lists each folder once: on a network disk one listing is cheaper than a question each."""

    def __init__(self):
        self._names: dict[Path, set[str]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder))
            except (OSError, ValueError):  # ValueError: a name with a zero byte in it
                self._names[folder] = set()
        return folder / name if name in self._names[folder] else None


@dataclass(frozen=True)
class BadPictures:
    """How many pictures may be missing, without captions or unreadable before that is an error."""

    max_share: float = 0.01

    def check(self, bad: list[str], total: int, where: str) -> None:
        """Raises `UserError` above the share; `bad` names pictures with what is wrong, `total` is out of how many."""
        if len(bad) > self.max_share * total:
            raise UserError(
                f"{where}: {len(bad)} of {total} pictures cannot be used, above data.max_bad_share={self.max_share:g}: "
                f"{_examples(bad)}; complete the folder, or raise data.max_bad_share"
            )


def _examples(bad: list[str], count: int = 5) -> str:
    return ", ".join(bad[:count]) + (f" and {len(bad) - count} more" if len(bad) > count else "")


class Replacing:
    """Pairs of which one that turns out unreadable gives way to the next good one, always the same.

    `read` names those that were passed over, and `unreadable` keeps them (worker processes have one each, which is why batches
    carry the names, too). Whoever inherits provides the pictures: `_pair` and `_label`.
    """

    name: str
    bad: BadPictures
    total: int  # pictures that the source lists
    dropped: list[str]  # of these, left out at opening

    def __init__(self):
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        raise NotImplementedError

    def _pair(self, index: int) -> Pair:
        """The pair itself, or `UnreadablePicture`."""
        raise NotImplementedError

    def _label(self, index: int) -> str:
        """What people find the picture by, without opening it."""
        raise NotImplementedError

    def __getitem__(self, index: int) -> Pair:
        return self.read(index)[0]

    def read(self, index: int) -> tuple[Pair, list[str]]:
        """Pair `index`, or the next one that is readable, and the names of those passed over."""
        index = range(len(self))[index]  # IndexError beyond the end, as in any sequence: for loops end by it
        passed = []
        for at in itertools.chain(range(index, len(self)), range(index)):
            if at not in self.unreadable:
                try:
                    return self._pair(at), passed
                except UnreadablePicture as error:
                    self._note(at, error)
            passed.append(self._label(at))
        raise UserError(f"{self.name}: not one picture is readable, beginning with {shown(passed[0])}; check the folder")

    def _note(self, at: int, error: UnreadablePicture) -> None:
        self.unreadable[at] = f"{shown(self._label(at))} (unreadable)"
        log.warning("%s: %s gives way to the next picture (%s)", self.name, self.unreadable[at], error)
        self.bad.check([*self.dropped, *self.unreadable.values()], self.total, self.name)


class PhotoPairs(Replacing):
    """Photos with captions, as `Pairs`. Those that are missing or have no caption are dropped here, at opening."""

    def __init__(
        self,
        name: str,
        photos: list[Photo],
        bad: BadPictures,
        decode_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        super().__init__()
        self.name, self.bad = name, bad
        self.decode_size, self.max_pixels = decode_size, max_pixels
        self.photos = [p for p in photos if p.path and p.captions]
        self.dropped = [f"{shown(p.name)} ({'missing' if p.path is None else 'no caption'})" for p in photos if not (p.path and p.captions)]
        self.total = len(photos)
        if not photos:
            raise UserError(f"{name} has no pictures at all; choose another split or check its list")
        bad.check(self.dropped, self.total, name)
        if not self.photos:
            raise UserError(f"{name}: none of {self.total} pictures can be used: {_examples(self.dropped)}; check the folder")
        if self.dropped:
            log.warning("%s: left out %d of %d pictures: %s", name, len(self.dropped), self.total, _examples(self.dropped))

    def __len__(self) -> int:
        return len(self.photos)

    def captions(self, index: int) -> tuple[str, ...]:
        return self.photos[index].captions

    def _pair(self, index: int) -> Pair:
        photo = self.photos[index]
        return Pair(read_picture(photo.path, self.decode_size, self.max_pixels), photo.captions, photo.image_id, photo.name)

    def _label(self, index: int) -> str:
        return self.photos[index].name
