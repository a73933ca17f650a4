r"""One picture of a collection, as its annotations list it: what every reader of a layout yields, and what shards are made from.

A picture is known by more than its file's name, because collections share pictures: half of Visual Genome is COCO's, and Flickr
feeds several. Its `identities` say so:

    coco/391895         a picture of COCO, also where Visual Genome has it
    flickr/4385058960   a photo of Flickr: Flickr8k, Flickr30k, SBU and the other half of Visual Genome
    cc3m/000000012      the twelfth of a list: known by nothing better

The first becomes `Pair.image_id`, so that captions of one picture are positives of each other wherever they were written; and a
picture that someone evaluates on can be kept out of every collection (`held_out.py`).
"""

import os
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from semmim_mini.data.picture_files import Folders, UnreadablePicture, picture_id
from semmim_mini.errors import UserError

LARGEST = 256 * 2**20  # bytes of a member of somebody else's tar; a photo has a hundredth of it


@dataclass(frozen=True, slots=True)
class Bytes:
    """A file, or a part of one."""

    path: str
    offset: int = 0
    size: int | None = None  # None: all of the file

    def open(self) -> BinaryIO:
        """For reading; a part is read into memory."""
        if self.size is None:
            return open(self.path, "rb")
        if self.size > LARGEST:
            raise UnreadablePicture(f"{self.size:,} bytes are no picture")
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return BytesIO(file.read(self.size))


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture and its captions, before either was looked at."""

    identities: tuple[str, ...]
    name: str  # for people
    picture: Bytes | None  # None: the file is missing
    captions: tuple[str, ...] = ()
    caption_file: Bytes | None = None  # where captions are files of their own, read beside the picture
    left_out: str = ""  # why, where the annotations already say so: a key of shard_writer.REASONS

    @property
    def image_id(self) -> int:
        return picture_id(self.identities[0])


class Finder:
    """Finds pictures by the relative paths of annotations, below any of several folders."""

    def __init__(self, *roots: Path):
        self.roots, self._folders = list(dict.fromkeys(roots)), Folders()

    def find(self, relative: str) -> Bytes | None:
        *folders, name = relative.split("/")
        for root in self.roots:
            if found := self._folders.find(root.joinpath(*folders), name):
                return Bytes(str(found))
        return None


def inside(text: object, where: str) -> str:
    """A path of an annotation file, if it stays inside the folder of pictures."""
    if not isinstance(text, str) or not text or "\0" in text or text.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", text):
        raise UserError(f"{where} has the picture {text!r:.100}, not a path inside the folder of pictures; write paths relative to it")
    return text


def require_folder(folder: Path, what: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"the {what} {folder} is no folder that exists; correct its path")
    return folder


def coco_identity(file_name: str) -> str:
    """Of COCO_val2014_000000391895.jpg and of 000000391895.jpg, which are one picture."""
    number = re.search(r"(?<!\d)(\d{1,18})\.\w+$", file_name)
    return f"coco/{int(number[1])}" if number else f"coco/{file_name}"


def flickr_identity(file_name: str) -> str | None:
    """Of 4385058960_b0f291553e.jpg and of 1000092795.jpg: a photo's number, with or without the secret of its address."""
    number = re.fullmatch(r"([1-9]\d{4,})(_[0-9a-f]{8,}(_\w)?)?\.jpe?g", os.path.basename(file_name))
    return f"flickr/{number[1]}" if number else None
