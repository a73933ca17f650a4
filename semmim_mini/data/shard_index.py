r"""What lies where in a folder of shards.

    SHARDS/train-000000.tar …   webdataset's format: of each sample KEY.jpg, then KEY.json with image_id, name and captions
    SHARDS/index.json           of each split: its collection, and of each shard its name, bytes, samples and SHA-256
    SHARDS/train.npy            of each sample of the split, 20 bytes that say where it lies in its shard:

        … │ header │ KEY.jpg ····· │ header │ KEY.json │ …
                   ├─ picture ──┤           ├─ text ───┤         bytes
                   ▲ offset                                      tar begins headers and members at multiples of 512
                   └──────── one read, checked by crc32 ────────┘

Four million samples take 80 MB, mapped into memory once for all processes of a machine. So sample i is one read at a known place,
not a search through a file, and a tar's own headers, names included, are never read in training.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from semmim_mini.errors import UserError
from semmim_mini.plain_values import first_line, named, shown

FORMAT = 1
BLOCK = 512  # of tar
PLACE = np.dtype([("offset", "<u8"), ("picture", "<u4"), ("text", "<u4"), ("crc32", "<u4")])
LARGEST = 64 * 2**20  # bytes of a sample; a re-encoded picture has a thousandth of it


@dataclass(frozen=True)
class Shard:
    """One file of samples."""

    file: str
    bytes: int
    samples: int
    sha256: str


@dataclass(frozen=True)
class Split:
    """The shards of one split, in the order of their samples."""

    collection: str  # coco, vg, …
    places_sha256: str  # of its .npy
    shards: tuple[Shard, ...]


def text_offset(offset: int, picture: int) -> int:
    """Where KEY.json begins behind a KEY.jpg of `picture` bytes."""
    return offset + -(-picture // BLOCK) * BLOCK + BLOCK


def read_index(folder: Path) -> dict[str, Split]:
    """The splits of a folder of shards by name; none where nothing was prepared yet.

    Raises:
        UserError: index.json is not readable or not of this form.
    """
    path = folder / "index.json"
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != FORMAT:
            raise UserError(f"{path} has format {content['format']!r:.40}, not {FORMAT}; make the shards again with this version")
        return {name: _split(name, value) for name, value in content["splits"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}: {shown(str(error))}); run the same semmim-mini prepare again"
        ) from None


def _split(name: str, value: dict) -> Split:
    shards = tuple(Shard(**shard) for shard in value["shards"])
    for shard in shards:
        types = all(type(getattr(shard, field.name)) is field.type for field in fields(Shard))
        # The name is the one thing that becomes a path: it must not lead out of the folder.
        if not types or not re.fullmatch(re.escape(name) + r"-\d{6,}\.tar", shard.file) or not 0 < shard.samples <= shard.bytes < 2**63:
            raise ValueError(f"impossible shard {shard!s:.200}")
    if not shards or not re.fullmatch(r"\w+", name) or not isinstance(value["collection"], str):
        raise ValueError(f"impossible split {name!r:.80}")
    return Split(value["collection"], value["places_sha256"], shards)


def open_split(folder: Path, name: str) -> tuple[Split, np.ndarray]:
    """A split and the places of its samples, checked against each other and against the files' sizes.

    Raises:
        UserError: no shards, no such split, a file that is missing, cut off or changed.
    """
    splits = read_index(folder)
    if not splits:
        raise UserError(f"{folder} holds no shards (no index.json); make them: semmim-mini prepare COLLECTION SOURCE --out {folder}")
    if name not in splits:
        raise UserError(
            f"{folder} has no split {name!r}, only {', '.join(splits)}; prepare it, choose another (data.report_split), or take it from "
            f"another source: mix:1*shards:{folder}+0*shards:OTHER"
        )
    split = splits[name]
    for shard in split.shards:
        path = folder / shard.file
        size = path.stat().st_size if os.path.isfile(path) else None  # a name too long for the system is no file either
        if size != shard.bytes:
            found = "is missing" if size is None else f"has {size:,} bytes instead of {shard.bytes:,}"
            raise UserError(f"shard {folder / named(shard.file)} {found}; copy it again, or run the same semmim-mini prepare again")
    path = folder / f"{name}.npy"
    try:
        same = sha256(path) == split.places_sha256
        places = map_places(folder, name) if same else None
    except Exception as error:  # NumPy reads the description of the numbers as Python text, and raises whatever that raises
        raise UserError(f"{path} cannot be read ({first_line(error)}); copy it again, or run the same semmim-mini prepare again") from None
    if places is None or not _fit(places, split):
        raise UserError(f"{path} is not the one that index.json describes; copy both again, or run the same semmim-mini prepare again")
    return split, places


def map_places(folder: Path, name: str) -> np.ndarray:
    """The places of a split's samples, mapped from their file: shared by processes, read as needed.

    What the file says of itself is looked at first: NumPy opens archives, too, and maps numbers of no bytes, which ends the process.
    """
    path, size = folder / f"{name}.npy", (folder / f"{name}.npy").stat().st_size
    with open(path, "rb") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("it is of a later form")
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    if kind != PLACE or len(shape) != 1 or start + shape[0] * PLACE.itemsize != size:
        raise ValueError("it holds other numbers than places")
    return np.memmap(path, PLACE, "r", start, shape)


def _fit(places: np.ndarray, split: Split) -> bool:
    """Whether there are as many as the shards have samples, and each lies inside its shard and is of a sane size."""
    samples = [shard.samples for shard in split.shards]
    if places.dtype != PLACE or places.shape != (sum(samples),):
        return False
    picture, text = places["picture"].astype(np.uint64), places["text"].astype(np.uint64)
    length = text_offset(np.uint64(0), picture) + text
    room = np.repeat(np.array([shard.bytes for shard in split.shards], np.uint64), samples)
    return bool((length <= LARGEST).all() and (places["offset"] <= room).all() and (length <= room - places["offset"]).all())


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
