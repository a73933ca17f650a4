r"""Rebuild the embedded cutouts from the packages they come from.

    mkdir packages && cd packages && mkdir fluent noto twemoji furniture
    npm pack @lobehub/fluent-emoji-3d@1.1.0 emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    tar -xzf lobehub-fluent-emoji-3d-1.1.0.tgz -C fluent
    tar -xzf emoji-datasource-google-16.0.0.tgz -C noto
    tar -xzf emoji-datasource-twitter-16.0.0.tgz -C twemoji
    apt-get download sweethome3d-furniture=1.8-1 && dpkg -x sweethome3d-furniture_1.8-1_all.deb furniture
    cd .. && python -m semmim_mini.data.build_cutouts --packages packages --out data_samples/cutouts --verify

What is shown, what it is called and which pictures were good enough was decided by eye and is written in
`selection.csv`. This module does the rest, the same way each time: find the picture, crop it, make it at most 112 px
long, measure its colours, save it without loss, and write its row of `manifest.csv`. With `--verify` nothing is
written: everything is rebuilt in memory and compared with what lies in `--out`, pixel for pixel and row for row.
"""

import argparse
import csv
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from semmim_mini.data.cutouts import COLUMNS, MANIFEST
from semmim_mini.errors import UserError

SIDE = 112  # px, longest side of a cutout: enough for half of a 224 px scene
FAINT = 8  # alpha below this (of 255) is haze around a render: invisible, but it would widen the crop
CLEAR_SHARE = 0.25  # of the visible surface that a second colour must cover to be named
SELECTION = "selection.csv"
SELECTION_COLUMNS = ("concept", "synonyms", "plural", "category", "emoji", "furniture")


@dataclass(frozen=True)
class Emoji:
    """A package with one picture per code point."""

    key: str  # folder under --packages, part of file names; its first letter selects the style in selection.csv
    package: str
    version: str
    pictures: str  # path of a picture inside the package
    creator: str
    licence: str


EMOJI = (
    Emoji("fluent", "@lobehub/fluent-emoji-3d", "1.1.0", "package/assets/{code}.webp", "Microsoft", "MIT"),
    Emoji("noto", "emoji-datasource-google", "16.0.0", "package/img/google/64/{code}.png", "Google", "Apache-2.0"),
    Emoji("twemoji", "emoji-datasource-twitter", "16.0.0", "package/img/twitter/64/{code}.png", "Twitter", "CC-BY-4.0"),
)
FURNITURE, FURNITURE_VERSION = "sweethome3d-furniture", "1.8-1"
FURNITURE_LIBRARIES = "usr/share/sweethome3d/furniture/{library}.sh3f"
FURNITURE_LICENCES = {  # as stated by the package's copyright file, per library; creators are named per item
    "BlendSwap-CC-0": "CC0-1.0",
    "BlendSwap-CC-BY": "CC-BY-3.0",
    "KatorLegaz": "CC-BY-3.0-US",
    "Scopia": "CC-BY-3.0",
}


@dataclass(frozen=True)
class Found:
    """One picture of one concept before any pixel is touched, and whom to thank for it."""

    key: str
    image: Image.Image
    source: str
    version: str
    origin: str
    creator: str
    licence: str


# ------------------------------------------------------------------------------------------------------------- packages


def find_pictures(row: dict[str, str], packages: Path) -> Iterator[Found]:
    """All pictures that one line of the selection asks for, in its order.

    `emoji` lists code points, "1f415" for every style or "1f415:fn" for some (f Fluent, n Noto, t Twemoji);
    `furniture` lists "library:picture".
    """
    for token in row["emoji"].split():
        code, _, styles = token.partition(":")
        for source in EMOJI:
            if not styles or source.key[0] in styles:
                yield _find_emoji(source, code, packages)
    for token in row["furniture"].split():
        library, _, stem = token.partition(":")
        yield _find_furniture(library, stem, packages)


def _find_emoji(source: Emoji, code: str, packages: Path) -> Found:
    origin = source.pictures.format(code=code)
    path = packages / source.key / origin
    if not path.is_file():
        wanted = f"{source.package} {source.version}"
        raise UserError(f"{SELECTION} asks for {code!r}, but {path} is missing: unpack {wanted} there")
    return Found(source.key, Image.open(path), source.package, source.version, origin, source.creator, source.licence)


def _find_furniture(library: str, stem: str, packages: Path) -> Found:
    if library not in FURNITURE_LICENCES:
        raise UserError(f"{SELECTION} names the library {library!r}; choose one of {', '.join(FURNITURE_LICENCES)}")
    archive_name = FURNITURE_LIBRARIES.format(library=library)
    archive, creators = _open_library(packages / "furniture" / archive_name)
    inside = f"{library.lower()}/{stem}.png"
    if inside not in creators:
        raise UserError(f"{SELECTION} asks for {library}:{stem}, but {archive_name} lists no icon {inside!r}")
    image, origin = Image.open(io.BytesIO(archive.read(inside))), f"{archive_name}:{inside}"
    creator, licence = creators[inside], FURNITURE_LICENCES[library]
    return Found("furniture", image, FURNITURE, FURNITURE_VERSION, origin, creator, licence)


@lru_cache
def _open_library(path: Path) -> tuple[zipfile.ZipFile, dict[str, str]]:
    """A furniture library and the creator of each of its icons."""
    if not path.is_file():
        wanted = f"{FURNITURE} {FURNITURE_VERSION}"
        raise UserError(f"the furniture library {path} is missing: unpack {wanted} into {path.parents[4]}")
    archive = zipfile.ZipFile(path)
    text = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
    entries = dict(re.findall(r"^\s*(\w+#\d+)\s*=[ \t]*(.*?)\s*$", text, flags=re.MULTILINE))
    icons = {name.partition("#")[2]: icon.lstrip("/") for name, icon in entries.items() if name.startswith("icon#")}
    return archive, {icon: _unescape(entries[f"creator#{number}"]) for number, icon in icons.items()}


def _unescape(value: str) -> str:
    r"""Java properties write letters beyond Latin-1 as \uXXXX."""
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), value)


def check_versions(packages: Path) -> None:
    """Refuse other versions of the emoji packages: `--verify` would only say that many pictures differ."""
    for source in EMOJI:
        path = packages / source.key / "package/package.json"
        if not path.is_file():
            raise UserError(f"{path} is missing: unpack {source.package} {source.version} into {packages / source.key}")
        found = json.loads(path.read_text(encoding="utf-8"))["version"]
        if found != source.version:
            raise UserError(f"{path} is version {found}; the cutouts are built from {source.package} {source.version}")


# --------------------------------------------------------------------------------------------------------------- pixels


def cut_out(image: Image.Image, side: int = SIDE) -> np.ndarray:
    """Crop to what is visible and shrink to at most `side` px; never enlarge. Returns (h, w, 4) uint8.

    Pillow resizes RGBA in premultiplied form, so that the colour hidden under transparent pixels (black, mostly) does
    not seep into the rim. That hidden colour is set to zero afterwards: pictures become comparable and files smaller.
    """
    image = image.convert("RGBA")
    box = image.getchannel("A").point(lambda alpha: 255 if alpha >= FAINT else 0).getbbox()
    if box is None:
        raise UserError("a selected picture is fully transparent; take it out of the selection")
    image = image.crop(box)
    scale = side / max(image.size)
    if scale < 1:
        image = image.resize([max(1, round(length * scale)) for length in image.size], Image.Resampling.BICUBIC)
    pixels = np.array(image)
    pixels[pixels[..., 3] == 0] = 0
    return pixels


def measure_colors(pixels: np.ndarray) -> tuple[str, ...]:
    """One or two basic colour words for (h, w, 4) uint8 pixels, the most frequent first.

    Each pixel votes for one word with the weight of its alpha. The winner is always named; the runner-up only if it
    covers at least `CLEAR_SHARE` of the visible surface.
    """
    words, weight = name_colors(pixels[..., :3]), pixels[..., 3].astype(float)
    share = {word: weight[words == word].sum() / weight.sum() for word in np.unique(words)}
    ranked = sorted(share, key=lambda word: (-share[word], word))
    return tuple(word for place, word in enumerate(ranked[:2]) if place == 0 or share[word] >= CLEAR_SHARE)


def name_colors(rgb: np.ndarray) -> np.ndarray:
    """The basic colour word of every pixel: uint8 (h, w, 3) → strings (h, w).

    Borders in HSV, set by eye on the cutouts. English splits one hue by lightness (brown is dark orange, pink is pale
    red), so hue alone does not decide. The first rule that holds wins.
    """
    hue, saturation, value = _hsv(rgb)
    bluish = (hue >= 160) & (hue < 300)
    reddish = (hue < 15) | (hue >= 335)
    warm = (hue >= 8) & (hue < 48)  # from brick red over orange to amber
    vivid = (hue < 20) & (saturation > 0.9) & (value > 0.45)  # the shaded side of something red or orange
    rules = [
        ((value < 0.22) | ((saturation * value < 0.1) & (value < 0.3)), "black"),
        ((saturation < 0.12) & (value > 0.85), "white"),
        ((saturation < 0.16) & (value > 0.95), "white"),
        ((saturation < 0.3) & (value > 0.85) & (hue >= 30) & (hue < 68), "white"),  # cream
        (saturation < 0.15, "grey"),
        ((saturation < 0.24) & (value < 0.85) & bluish, "grey"),  # slate: metal, asphalt, fur in shadow
        ((hue < 22) & (saturation < 0.45) & (value > 0.88), "pink"),
        ((hue < 28) & (saturation < 0.36) & (value > 0.9), "pink"),  # the pink of a pig
        (warm & ~vivid & ((value < 0.72) | ((saturation < 0.66) & (value < 0.9))), "brown"),  # wood, fur, tan
        (reddish & (saturation < 0.55) & (value < 0.76), "brown"),  # mahogany
        (reddish & (saturation < 0.55), "pink"),
        (reddish, "red"),
        (hue < 40, "orange"),
        ((hue < 68) & (value < 0.5), "brown"),
        (hue < 68, "yellow"),
        (hue < 168, "green"),
        (hue < 255, "blue"),
        ((hue < 295) | (value < 0.55), "purple"),
    ]
    return np.select([rule for rule, _ in rules], [word for _, word in rules], default="pink")


def _hsv(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hue in degrees (0 where there is none), saturation and value from 0 to 1."""
    red, green, blue = np.moveaxis(rgb.astype(float) / 255, -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    chroma = value - np.minimum(np.minimum(red, green), blue)
    safe = np.maximum(chroma, 1e-6)
    sector = np.select(
        [value == red, value == green],
        [((green - blue) / safe) % 6, (blue - red) / safe + 2],
        default=(red - green) / safe + 4,
    )
    return 60 * sector, chroma / np.maximum(value, 1e-6), value


# ------------------------------------------------------------------------------------------------------------- building


def read_selection(path: Path) -> list[dict[str, str]]:
    """The curated list, one concept per line."""
    if not path.is_file():
        raise UserError(f"the selection {path} is missing: --out must hold {SELECTION}")
    with path.open(encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle)
        if tuple(reader.fieldnames or ()) != SELECTION_COLUMNS:
            raise UserError(f"{path} has the columns {reader.fieldnames}; it needs {', '.join(SELECTION_COLUMNS)}")
        return list(reader)


def build(selection: list[dict[str, str]], packages: Path) -> Iterator[tuple[dict[str, str], np.ndarray]]:
    """Manifest rows and pixels of every selected picture, in the order of the selection."""
    for row in selection:
        count: dict[str, int] = {}
        for found in find_pictures(row, packages):
            count[found.key] = count.get(found.key, 0) + 1
            pixels = cut_out(found.image)
            stem = f"{slug(row['concept'])}_{found.key}_{count[found.key]:02d}"
            yield _manifest_row(stem, row, found, pixels), pixels


def slug(concept: str) -> str:
    """What a file name may hold: "teddy bear" becomes "teddy-bear"."""
    return re.sub(r"[^a-z0-9]+", "-", concept.lower().replace("'", "")).strip("-")


def _manifest_row(stem: str, row: dict[str, str], found: Found, pixels: np.ndarray) -> dict[str, str]:
    names = "|".join([row["concept"], *filter(None, row["synonyms"].split("|"))])
    values = {"id": stem, "file": f"{stem}.webp", "names": names, "colors": "|".join(measure_colors(pixels))}
    values |= {name: row[name] for name in ("concept", "plural", "category")}
    values |= {name: getattr(found, name) for name in ("source", "version", "origin", "creator", "licence")}
    return {name: values[name] for name in COLUMNS}


def encode(pixels: np.ndarray) -> bytes:
    """Lossless WebP: a quarter smaller than PNG on these pictures. Method 6 saves 4 % more in twenty times the time."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=100, method=4, exact=True)
    return buffer.getvalue()


def write(built: list[tuple[dict[str, str], np.ndarray]], out: Path) -> None:
    """Write pictures and manifest; pictures of an earlier selection are removed."""
    out.mkdir(parents=True, exist_ok=True)
    for row, pixels in built:
        _write_atomically(out / row["file"], encode(pixels))
    for stale in set(out.glob("*.webp")) - {out / row["file"] for row, _ in built}:
        stale.unlink()
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for row, _ in built)
    _write_atomically(out / MANIFEST, text.getvalue().encode())


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def differences(built: list[tuple[dict[str, str], np.ndarray]], out: Path) -> list[str]:
    """What distinguishes a rebuild from the shipped files, one line each; empty when nothing does."""
    if not (out / MANIFEST).is_file():
        return [f"{out / MANIFEST} is missing"]
    with (out / MANIFEST).open(encoding="utf-8", newline="") as handle:
        shipped = {row["id"]: row for row in csv.DictReader(handle)}
    rebuilt = {row["id"]: row for row, _ in built}
    found = [f"{name}: shipped, but not in the selection" for name in sorted(shipped.keys() - rebuilt.keys())]
    for row, pixels in built:
        if row != shipped.get(row["id"]):
            found.append(f"{row['id']}: the manifest's row differs")
        path = out / row["file"]
        if not path.is_file():
            found.append(f"{row['id']}: {row['file']} is missing")
        elif not np.array_equal(np.array(Image.open(path).convert("RGBA")), pixels):
            found.append(f"{row['id']}: pixels differ")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point; 0 when built or equal, 1 when `--verify` found differences or something is missing."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded cutouts, or compare them with a rebuild.")
    parser.add_argument("--packages", type=Path, required=True, help="folder with the unpacked packages")
    parser.add_argument("--out", type=Path, required=True, help=f"folder with {SELECTION}, for pictures and {MANIFEST}")
    parser.add_argument("--verify", action="store_true", help="compare with --out instead of writing")
    options = parser.parse_args(arguments)
    try:
        check_versions(options.packages)
        built = list(build(read_selection(options.out / SELECTION), options.packages))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.verify:
        write(built, options.out)
        print(f"{len(built)} pictures")
        return 0
    found = differences(built, options.out)
    print(*found, f"{len(built)} pictures, {len(found)} differences", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
