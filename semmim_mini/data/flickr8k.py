r"""Flickr8k (Hodosh et al. 2013) from a folder: about 8,000 photos, five captions each.

Images/*.jpg                    also Flicker8k_Dataset/ (spelt so in the original archive) or Flickr8k_Dataset/
captions.txt                    csv with the header image,caption; or Flickr8k.token.txt with name.jpg#0<tab>caption
Flickr_8k.trainImages.txt       one file name per line; likewise devImages, testImages
"""

import csv
import re
from pathlib import Path

from semmim_mini.data.picture_files import MAX_PIXELS, BadPictures, Folders, Photo, PhotoPairs, at_home, clean_captions
from semmim_mini.errors import UserError

IMAGE_FOLDERS = ("Images", "Flicker8k_Dataset", "Flickr8k_Dataset")
CAPTION_FILES = ("captions.txt", "Flickr8k.token.txt")
# dev: the collection's own word for val
SPLITS = {"train": "trainImages", "val": "devImages", "dev": "devImages", "test": "testImages"}


class Flickr8kPairs(PhotoPairs):
    """The pairs of one split, in the order of its list.

    Args:
        folder: holds the files named above.
        split: train, val (or dev), test.
        max_bad_share: of pictures that may be missing or without caption.
        decode_size: px, see `picture_files.read_picture`.

    Raises:
        UserError: something is missing or malformed; the message names the file and the line.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        max_bad_share: float = 0.01,
        decode_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        photos = flickr8k_photos(at_home(folder), split)
        super().__init__(f"flickr8k/{'val' if split == 'dev' else split}", photos, BadPictures(max_bad_share), decode_size, max_pixels)


def flickr8k_photos(folder: Path, split: str) -> list[Photo]:
    """The pictures of one split, in the order of its list, also those that are missing; errors are `Flickr8kPairs`'."""
    if split not in SPLITS:
        raise UserError(f"Flickr8k has no split {split!r}; choose one of {', '.join(SPLITS)}")
    if not folder.is_dir():
        raise UserError(f"the Flickr8k folder {folder} does not exist; give data.source=flickr8k:DIR the one with captions.txt")
    images = _first(folder, IMAGE_FOLDERS, "folder of pictures")
    captions_file = _first(folder, CAPTION_FILES, "captions file")
    captions = read_captions(captions_file)
    list_file = _first(folder, (f"Flickr_8k.{SPLITS[split]}.txt",), f"list of the {split} pictures")
    names = list(dict.fromkeys(line.strip() for line in _text(list_file).splitlines() if line.strip()))
    if not names:
        raise UserError(f"{list_file} names no picture; it needs one file name per line")
    if not any(name in captions for name in names):
        raise UserError(f"{list_file} names no picture of {captions_file}; its first is {names[0]!r:.80}: take both from one source")
    folders = Folders()
    return [Photo(name, folders.find(images, name), clean_captions(captions.get(name, ()))) for name in names]


def read_captions(path: Path) -> dict[str, list[str]]:
    """All captions by file name, from either form of captions file; a malformed line raises `UserError` naming it."""
    found: dict[str, list[str]] = {}
    for name, caption in _token_lines(path) if path.name.endswith(".token.txt") else _csv_lines(path):
        found.setdefault(name, []).append(caption)
    return found


def _csv_lines(path: Path):
    rows = csv.reader(_text(path).splitlines(keepends=True), strict=True)
    try:
        for number, row in enumerate(rows):
            if number == 0:
                if [cell.strip().lower() for cell in row] != ["image", "caption"]:
                    raise UserError(f"{path}, line 1: the header is {','.join(row)!r:.80}; it must be image,caption")
                continue
            if not row:
                continue
            name, *cells = row
            caption = ",".join(cells)  # a caption written without quotes may hold commas
            if not cells or not name.strip() or "\n" in caption or "\r" in caption:
                reason = "a quotation mark is never closed" if cells and name.strip() else "it has no image,caption"
                raise UserError(f"{path}, line {rows.line_num}: {','.join(row)[:80]!r} is malformed: {reason}")
            yield name.strip(), caption
    except csv.Error as error:
        raise UserError(f"{path}, line {rows.line_num}: {error}; quote captions as csv does, with inner marks doubled") from None


def _token_lines(path: Path):
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        match = re.fullmatch(r"\s*(\S.*?)#\d+\t(.*)", line, flags=re.DOTALL)
        if not match:
            raise UserError(f"{path}, line {number}: {line[:80]!r} is malformed; it must be name.jpg#0, a tab, the caption")
        yield match[1], match[2]


def _first(folder: Path, names: tuple[str, ...], what: str) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise UserError(f"{folder} has no {what}; looked for {', '.join(names)}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; check the file and its permissions") from None
