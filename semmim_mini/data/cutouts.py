"""The embedded cutouts: everyday things on transparent ground, with their names and colours.

Composed scenes are made of them, so that a course needs no download and the truth about every pixel is known. A concept
("dog") has several pictures in different styles, and often in different colours: what they share is its meaning.
Sources, creators and licences stand in the manifest, one row per picture; `build_cutouts.py` rebuilds all of it.
"""

import csv
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown

MANIFEST = "manifest.csv"
COLUMNS = (
    *("id", "file", "concept", "names", "plural", "category", "colors"),
    *("source", "version", "origin", "creator", "licence"),
)
MAX_SIDE = 4096  # px; checked from the header, before a hostile file can unfold in memory


@dataclass(frozen=True, eq=False)
class Cutout:
    """One picture of one thing. Compared by identity: arrays have no single answer to "equal?"."""

    id: str  # "dog_fluent_01", unique
    concept: str  # canonical name, "dog"
    names: tuple[str, ...]  # singular names, canonical first: ("dog", "puppy")
    plural: str  # of the canonical name, "dogs"
    category: str  # "animal"
    colors: tuple[str, ...]  # one or two basic colour words, most frequent first
    picture: np.ndarray  # uint8 (h, w, 4), not premultiplied, read-only


def samples_folder() -> Path:
    """The embedded data: `data_samples` beside the package in a checkout, `_samples` inside an installed one."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent / "data_samples", package / "_samples"):
        if (folder / "cutouts" / MANIFEST).is_file():
            return folder
    raise UserError(
        f"the embedded data is missing: neither {package.parent / 'data_samples'} nor {package / '_samples'} holds "
        f"cutouts/{MANIFEST}; reinstall the package or use a full checkout"
    )


def load_cutouts(folder: Path | None = None) -> list[Cutout]:
    """All cutouts of a folder, sorted by id. Read once per process; the pictures are shared and read-only.

    Args:
        folder: holds `manifest.csv` and the pictures; the embedded one by default.

    Raises:
        UserError: naming the manifest's row and file for anything missing, unreadable, doubled or not RGBA.
    """
    return list(_load(Path(folder) if folder is not None else samples_folder() / "cutouts"))


@lru_cache
def _load(folder: Path) -> tuple[Cutout, ...]:
    cutouts = [_read_cutout(folder, line, row) for line, row in enumerate(_read_manifest(folder / MANIFEST), start=2)]
    used: dict[str, int] = {}
    for line, cutout in enumerate(cutouts, start=2):
        if used.setdefault(cutout.id, line) != line:
            where = f"{folder / MANIFEST}, row {line}"
            raise UserError(f"{where}: id {shown(cutout.id)} was used in row {used[cutout.id]}; give each row its own")
    return tuple(sorted(cutouts, key=lambda cutout: cutout.id))


def _read_manifest(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"no manifest at {path}: a folder of cutouts holds {MANIFEST} beside its pictures")
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        try:
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path} lacks the columns {', '.join(missing)}; it needs {', '.join(COLUMNS)}")
            return list(reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{path}, line {reader.line_num}: {error}; it needs to be csv in UTF-8") from None


def _read_cutout(folder: Path, line: int, row: dict[str, str]) -> Cutout:
    where = f"{folder / MANIFEST}, row {line}"
    for name in ("id", "file", "concept", "names", "plural", "category", "colors"):
        if not row[name]:
            raise UserError(f"{where}: {name} is empty; every cutout needs one")
    if not re.fullmatch(r"[\w.-]+", row["file"]):  # it becomes a path
        raise UserError(f"{where}: file {row['file']!r:.80} is no name of a picture beside {MANIFEST}; use letters, digits and - _ .")
    return Cutout(
        id=row["id"],
        concept=row["concept"],
        names=tuple(row["names"].split("|")),
        plural=row["plural"],
        category=row["category"],
        colors=tuple(row["colors"].split("|")),
        picture=_read_picture(folder / row["file"], where),
    )


def _read_picture(path: Path, where: str) -> np.ndarray:
    if not os.path.isfile(path):  # a name too long for the system is no file either
        raise UserError(f"{where}: file {shown(path.name)} is missing in {path.parent}; restore it or remove the row")
    try:
        with Image.open(path, formats=("WEBP", "PNG")) as image:
            if max(image.size) > MAX_SIDE:
                size = f"{image.width}×{image.height} px"
                raise UserError(f"{where}: {path.name} is {size}; at most {MAX_SIDE} px per side are read")
            if image.mode != "RGBA":
                raise UserError(f"{where}: {path.name} has mode {image.mode}; a cutout needs an alpha channel (RGBA)")
            picture = np.array(image)
    except UserError:
        raise
    except Exception as error:  # decoders, fed with any bytes, raise nearly everything
        reason = f"{path.name} is not a readable picture ({error or type(error).__name__})"
        raise UserError(f"{where}: {reason}; restore it or remove the row") from error
    picture.flags.writeable = False
    return picture
