r"""What img2dataset leaves on disk, for any collection that comes as a list of addresses.

    webdataset   SOURCE/00000.tar   with 000000012.jpg, 000000012.json and 000000012.txt, the caption
    files        SOURCE/00000/000000012.jpg, .json, .txt

Beside them lie 00000_stats.json and 00000.parquet, which are not needed here, nor is the .json. Captions are read together with the
pictures, in the worker processes. A picture that could not be downloaded is not there at all, and so in no report.
"""

import os
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.tar_files import members, require_whole

PICTURES = ("jpg", "jpeg", "png", "webp")


def img2dataset(source: Path, collection: str) -> Iterator[Entry]:
    """The pictures in the order of their numbers; a tar, a folder of tars, or a folder of folders."""
    tars = [source] if source.suffix == ".tar" else sorted(source.glob("*.tar"))
    folders = sorted(path for path in source.glob("*") if path.is_dir() and path.name.isdecimal())
    if not tars and not folders:
        raise UserError(f"{source} has no tars and no numbered folders; give the output_folder of img2dataset")
    for tar in tars:
        require_whole(tar)
    return _entries(tars or folders, collection)


def _entries(places: list[Path], collection: str) -> Iterator[Entry]:
    for place in places:
        found = _in_folder(place) if place.is_dir() else _in_tar(place)
        for key, files in groupby(found, key=lambda item: item[0]):
            yield _entry(key, {ending: file for _, ending, file in files}, place, collection)


def _entry(key: str, files: dict[str, Bytes], place: Path, collection: str) -> Entry:
    picture = next((files[ending] for ending in PICTURES if ending in files), None)
    return Entry((f"{collection}/{key}",), f"{place.name}: {key}", picture, caption_file=files.get("txt"))


def _in_tar(tar: Path) -> Iterable[tuple[str, str, Bytes]]:
    """Key, ending and place of every member. A key ends at the first dot of the name [F: WebDataset]."""
    for name, offset, size in members(tar):
        folder, _, base = name.rpartition("/")
        key, _, ending = base.partition(".")
        yield f"{folder}/{key}" if folder else key, ending.lower(), Bytes(str(tar), offset, size)


def _in_folder(folder: Path) -> Iterable[tuple[str, str, Bytes]]:
    for name in sorted(os.listdir(folder)):
        key, _, ending = name.partition(".")
        yield key, ending.lower(), Bytes(str(folder / name))
