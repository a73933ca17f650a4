r"""Pairs from shards: a few thousand large files instead of millions of small ones.

    index i ─► shard and place (data/shard_index.py) ─► one read ─► crc32 ─► JPEG and captions ─► Pair

On the disks of a cluster every open file is a question to a server, and a small one costs as much as a large one. Shards keep
thousands of pairs in one file, which is opened once. `semmim-mini prepare` makes them; WebDataset reads them, too.

The other ways to read shards stream each from beginning to end, and shuffle in a buffer of what has just been read. Here a pair
keeps its number, so that everything the loader promises for loose files holds for shards: any process can read any pair, a run
resumes in the middle of an epoch, and every pair is seen once in each. What streaming is for, few large reads near each other, the
order of training sees to (`blocks`; data/order.py).
"""

import bisect
import itertools
import json
import os
import zlib
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from semmim_mini.data.pairs import Pair
from semmim_mini.data.picture_files import (
    MAX_PIXELS,
    BadPictures,
    Replacing,
    UnreadablePicture,
    as_tensor,
    at_home,
    open_rgb,
    whole_letters,
)
from semmim_mini.data.shard_index import map_places, open_split, text_offset

HELD_OPEN = 128  # files that a process keeps open: more than a window of the order reads (16 of each source of a mixture)


class ShardPairs(Replacing):
    """The pairs of one split, in the order of their shards.

    A picture that turns out damaged gives way to the next good one, as loose photos do.

    Args:
        folder: made by `semmim-mini prepare`.
        split: train, val or test, as far as the folder has them.
        max_bad_share: of pictures that may be damaged.
        decode_size: px, see `picture_files.read_picture`.

    Raises:
        UserError: no such folder or split, a shard that is missing or cut off; later, too many damaged pictures.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        max_bad_share: float = 0.01,
        decode_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        super().__init__()
        self.folder, self.split = at_home(folder), split
        index, self.places = open_split(self.folder, split)
        self.name, self.bad = f"{index.collection}/{split}", BadPictures(max_bad_share)
        self.decode_size, self.max_pixels = decode_size, max_pixels
        self.files = [shard.file for shard in index.shards]
        self.blocks = [shard.samples for shard in index.shards]
        self._ends = list(itertools.accumulate(self.blocks))
        self.dropped, self.total = [], len(self.places)
        self._open = OpenFiles(HELD_OPEN)

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict:
        """Without the map of places: a worker process maps the file itself."""
        return {key: value for key, value in vars(self).items() if key != "places"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self.places = map_places(self.folder, self.split)

    def captions(self, index: int) -> tuple[str, ...]:
        index = range(len(self))[index]
        offset, picture, text, _ = self.places[index].tolist()
        try:
            return _meaning(self._read(index, text_offset(offset, picture), text))[0]
        except UnreadablePicture:
            return self[index].captions  # of the pair that stands in

    def _pair(self, index: int) -> Pair:
        offset, picture, text, crc32 = self.places[index].tolist()
        begin = text_offset(0, picture)
        data = self._read(index, offset, begin + text)
        if zlib.crc32(data) != crc32:
            raise UnreadablePicture("it is not what the index describes")
        captions, image_id, name = _meaning(data[begin:])
        rgb = open_rgb(BytesIO(data[:picture]), self._label(index), self.decode_size, self.max_pixels)
        return Pair(as_tensor(rgb), captions, image_id, name)

    def _read(self, index: int, offset: int, size: int) -> bytes:
        path = self.folder / self.files[bisect.bisect(self._ends, index)]
        try:
            data = self._open.read(path, offset, size)
        except OSError as error:
            raise UnreadablePicture(f"{path}: {error.strerror}") from error
        if len(data) != size:
            raise UnreadablePicture(f"{path} ends too early")
        return data

    def _label(self, index: int) -> str:
        shard = bisect.bisect(self._ends, index)
        return f"{self.files[shard]}, sample {index - self._ends[shard] + self.blocks[shard]}"


def _meaning(text: bytes) -> tuple[tuple[str, ...], int, str]:
    """Captions, image_id and name, as KEY.json holds them."""
    try:
        found = json.loads(text)
        captions, image_id, name = (found[key] for key in ("captions", "image_id", "name"))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UnreadablePicture(f"its captions are damaged: {error!r:.80}") from error
    texts = [*captions, name] if isinstance(captions, list) and captions else [None]
    if not all(isinstance(text, str) and text == whole_letters(text) for text in texts) or type(image_id) is not int or image_id >> 63:
        raise UnreadablePicture("its captions are not what prepare writes")
    return tuple(captions), image_id, name


class OpenFiles:
    """Files kept open for reading at any place; the one unused for longest is closed."""

    def __init__(self, most: int):
        self.most = most
        self._files: OrderedDict[Path, BinaryIO] = OrderedDict()

    def __reduce__(self):
        """Open files do not travel to other processes."""
        return OpenFiles, (self.most,)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        file = self._files.pop(path, None) or open(path, "rb", buffering=0)  # noqa: SIM115 (kept open)
        self._files[path] = file
        if len(self._files) > self.most:
            self._files.popitem(last=False)[1].close()
        if hasattr(os, "pread"):  # the position of a file is shared with forked workers: pread leaves it alone
            return os.pread(file.fileno(), size, offset)
        file.seek(offset)
        return file.read(size)
