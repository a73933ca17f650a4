r"""One shard from a list of entries: the work of one process of `prepare`.

    entry ─► picture, upright RGB, shorter side at most `size` ─► KEY.jpg ┐
          └► captions, image_id, name                          ─► KEY.json ┴─► webdataset.TarWriter ─► SHARDS/train-000000.tar
                                                                                                       SHARDS/train-000000.json, its receipt

A shard is written under a temporary name and renamed when complete; then comes its receipt: what it was made from, its checksum, where
its samples lie, and which pictures were left out, and why. A shard with a receipt that still holds is kept when `prepare` is run
again, so running it again is how one resumes, and also how one checks what is there.

The same entries give the same bytes, on one machine: tars get no time stamps, and pictures no metadata.
"""

import hashlib
import io
import json
import os
import zlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from semmim_mini.data.picture_files import UnreadablePicture, clean_captions, open_rgb
from semmim_mini.data.shard_index import PLACE, Shard, sha256, text_offset
from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.tar_files import members
from semmim_mini.training.checkpoint import write_text

QUALITY = 90  # of JPEG [C]
SMALLEST = 64  # px, shorter side [C]: below lie icons, spacers and thumbnails
LONGEST_TEXT = 2**20  # bytes of a caption file
EXAMPLES = 5  # names of left out pictures that a receipt keeps, for each reason

REASONS = {
    "missing": "listed, but not on disk",
    "unreadable": "truncated, or no picture",
    "too many pixels": "more than are read at all: a decompression bomb, or a scan",
    "too small": f"shorter side below {SMALLEST} px",
    "no caption": "no words to go with it",
    "duplicate": "the same picture is listed above",
    "held out": "is, or without --held-out may be, in a val or test split that models are evaluated on",
    "ambiguous": "two addresses that would be saved under one name",
}


class LeftOut(Exception):
    """A picture that cannot be used; its text is a key of `REASONS`."""


@dataclass(frozen=True)
class Task:
    """A shard to make."""

    folder: str
    name: str  # train-000000
    first: int  # number of its first entry in the listing, from which keys are made
    entries: tuple[Entry, ...]
    size: int  # px, the most that the shorter side has

    @property
    def made_from(self) -> str:
        """A digest of everything that decides what the shard holds, except the bytes of the pictures."""
        facts = [(e.identities, e.name, e.picture is None, e.captions, e.left_out) for e in self.entries]
        text = repr((self.size, QUALITY, SMALLEST, self.first, facts))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass
class Receipt:
    """What a shard holds and what it was made from."""

    made_from: str
    bytes: int = 0
    sha256: str = ""
    samples: int = 0
    captions: int = 0
    places: list[list[int]] = field(default_factory=list)  # of each sample, as in `shard_index.PLACE`
    left_out: dict[str, int] = field(default_factory=dict)  # by reason
    examples: dict[str, list[str]] = field(default_factory=dict)
    kept: bool = False  # made by an earlier run

    def shard(self, name: str) -> Shard:
        return Shard(f"{name}.tar", self.bytes, self.samples, self.sha256)


def write_shard(task: Task) -> Receipt:
    """Make a shard, or find that it is there already.

    Raises:
        UserError: the disk is full or read-only.
    """
    tar = Path(task.folder) / f"{task.name}.tar"
    made_from, receipt = task.made_from, read_receipt(tar.with_suffix(".json"))
    if receipt and receipt.made_from == made_from and _holds(receipt, tar):
        return replace(receipt, kept=True)
    receipt, temporary = Receipt(made_from), tar.with_name(f".{tar.name}.{os.getpid()}.tmp")
    try:
        _write_tar(task, temporary, receipt)
        receipt.places = find_samples(temporary)
        receipt.samples = len(receipt.places)
        receipt.bytes, receipt.sha256 = temporary.stat().st_size, sha256(temporary)
        os.replace(temporary, tar)
        write_text(tar.with_suffix(".json"), json.dumps(asdict(receipt)) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {tar}: {error.strerror or error}; finished shards stay: free space and run it again") from error
    finally:
        temporary.unlink(missing_ok=True)
    return receipt


def read_receipt(path: Path) -> Receipt | None:
    """A shard's receipt, if there is one that can be read."""
    try:
        receipt = Receipt(**json.loads(path.read_bytes()))
        np.array([tuple(place) for place in receipt.places], PLACE)
        counts = (receipt.bytes, receipt.samples, receipt.captions, *receipt.left_out.values())
        names = [name for listed in receipt.examples.values() for name in listed]
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    formed = all(type(count) is int and count >= 0 for count in counts) and all(isinstance(name, str) for name in names)
    return receipt if formed and receipt.samples == len(receipt.places) and isinstance(receipt.sha256, str) else None


def _holds(receipt: Receipt, tar: Path) -> bool:
    try:
        return sha256(tar) == receipt.sha256
    except OSError:
        return False


def _write_tar(task: Task, path: Path, receipt: Receipt) -> None:
    from webdataset import TarWriter

    left_out, examples = Counter(), {}
    with open(path, "wb") as file:
        with TarWriter(file, mtime=0, encoder=False) as tar:
            for number, entry in enumerate(task.entries, start=task.first):
                try:
                    picture, captions = make_sample(entry, task.size)
                except LeftOut as reason:
                    left_out[str(reason)] += 1
                    examples.setdefault(str(reason), []).append(entry.name)
                else:
                    text = {"captions": captions, "image_id": entry.image_id, "name": entry.name}
                    tar.write({"__key__": f"{number:09d}", "jpg": picture, "json": json.dumps(text).encode()})
                    receipt.captions += len(captions)
        file.flush()
        os.fsync(file.fileno())
    receipt.left_out, receipt.examples = dict(left_out), {reason: names[:EXAMPLES] for reason, names in examples.items()}


def make_sample(entry: Entry, size: int) -> tuple[bytes, tuple[str, ...]]:
    """JPEG and captions of an entry, or `LeftOut`."""
    if entry.left_out:
        raise LeftOut(entry.left_out)
    if entry.picture is None:
        raise LeftOut("missing")
    captions = entry.captions or clean_captions(_read_captions(entry.caption_file))
    if not captions:
        raise LeftOut("no caption")
    try:
        with entry.picture.open() as file:
            picture = open_rgb(file, entry.name, size, slack=1)
        if min(picture.size) < SMALLEST:
            raise LeftOut("too small")
        jpeg = io.BytesIO()
        picture.info.clear()  # a comment would be written along
        picture.save(jpeg, "JPEG", quality=QUALITY)
    except UserError:
        raise LeftOut("too many pixels") from None
    except (UnreadablePicture, OSError, ValueError):  # the last two: gone since it was listed, or longer than JPEG allows
        raise LeftOut("unreadable") from None
    return jpeg.getvalue(), captions


def _read_captions(file: Bytes | None) -> list[str]:
    if file is None:
        return []
    try:
        with file.open() as opened:
            return [opened.read(LONGEST_TEXT).decode("utf-8", "ignore")]
    except (OSError, UnreadablePicture):
        return []


def find_samples(tar: Path) -> list[list[int]]:
    """Where the samples of a shard lie, read back from the file itself."""
    files, places = list(members(tar)), []
    with open(tar, "rb") as file:
        for (_, offset, picture), (_, text_at, text) in zip(files[::2], files[1::2], strict=True):
            if text_at != text_offset(offset, picture):
                raise OSError("the tar has unforeseen headers")
            file.seek(offset)
            places.append([offset, picture, text, zlib.crc32(file.read(text_at + text - offset))])
    return places
