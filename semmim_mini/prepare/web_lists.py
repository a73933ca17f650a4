r"""SBU Captions and Conceptual Captions as lists of pictures from the web.

    TSV           caption<tab>address or path        Train_GCC-training.tsv, as Conceptual Captions distributes it
    JSON          [{"image": "cc3m/000000012.jpg", "caption": "a red bus"}, …]      as ALBEF distributes it; also with "caption": […]
    SBU's JSON    {"image_urls": ["http://…", …], "captions": ["…", …], "user_ids": …}      sbu-captions-all.json
    SBU's texts   SBU_captioned_photo_dataset_urls.txt and …_captions.txt, line by line

Nothing is downloaded: pictures are on disk, below SOURCE or `--images`. A path is found as it is written, an address by its last
part, as `2723/4385058960_b0f291553e.jpg` is saved under `4385058960_b0f291553e.jpg`. Where two addresses end alike, the file may be of
either, and a wrong pair is worse than none: both are left out. (img2dataset numbers its files and keeps captions with them, which
needs no such guess: `img2dataset.py`.)
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from semmim_mini.data.picture_files import clean_captions
from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Entry, Finder, flickr_identity, inside
from semmim_mini.prepare.json_files import read_json, require_list

Row = tuple[str, str, Iterable[str]]  # where it stands in the file, path or address, captions
SBU_TEXTS = ("SBU_captioned_photo_dataset_urls.txt", "SBU_captioned_photo_dataset_captions.txt")


def web_list(file: Path, images: Path | None, collection: str) -> list[Entry]:
    """The pictures of a list in the order of the file; one listed several times has all its captions."""
    base, captions, paths = images or file.parent, {}, {}
    for where, address, texts in _rows(file):
        captions.setdefault(address, []).extend(texts)
        if address not in paths:
            paths[address] = _path(address, where)
    finder, uses = Finder(base, base / "images", base / "dataset"), Counter(paths.values())
    return [_entry(paths[address], texts, uses[paths[address]] > 1, finder, collection) for address, texts in captions.items()]


def _entry(path: str, texts: list[str], ambiguous: bool, finder: Finder, collection: str) -> Entry:
    identity = flickr_identity(path) if collection == "sbu" else None
    captions = tuple(dict.fromkeys(clean_captions(texts)))
    return Entry((identity or f"{collection}/{path}",), path, finder.find(path), captions, left_out="ambiguous" if ambiguous else "")


def _path(address: str, where: str) -> str:
    if "://" not in address:
        return inside(address, where)
    name = re.split(r"[/\\]", unquote(re.split(r"[?#]", address)[0]))[-1]
    return re.sub(r"[/\\\0]", "_", address) if name in ("", ".", "..") or "\0" in name else name  # without a name: not on disk


def _rows(file: Path) -> list[Row]:
    if file.name == SBU_TEXTS[0]:
        return _line_by_line(file, file.with_name(SBU_TEXTS[1]))
    if file.suffix == ".json":
        content = read_json(file)
        return _columns(content, file) if isinstance(content, dict) else _objects(content, file)
    return _tab_separated(file)


def _tab_separated(file: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(_lines(file), start=1):
        caption, tab, address = line.rpartition("\t")
        if line.strip():
            if not tab or "\t" in caption or not address.strip():
                raise UserError(f"{file}, line {number}: {line[:80]!r} is malformed; it must be caption, one tab, address or path")
            rows.append((f"{file}, line {number}", address.strip(), [caption]))
    return rows


def _objects(content: object, file: Path) -> list[Row]:
    rows = []
    for number, entry in enumerate(require_list(content, file, None, image=str, caption=(str, list))):
        captions = entry["caption"] if isinstance(entry["caption"], list) else [entry["caption"]]
        if not all(isinstance(caption, str) for caption in captions):
            raise UserError(f"{file}: [{number}] has captions that are no texts: {captions!r:.80}")
        rows.append((f"{file}: [{number}]", entry["image"], captions))
    return rows


def _columns(content: dict, file: Path) -> list[Row]:
    urls, captions = content.get("image_urls"), content.get("captions")
    lists = isinstance(urls, list) and isinstance(captions, list) and len(urls) == len(captions) > 0
    if not lists or not all(isinstance(text, str) for text in (*urls, *captions)):
        raise UserError(f"{file} has no lists of texts image_urls and captions of equal length; it must be as SBU distributes it")
    return [(f"{file}: image_urls[{i}]", url, [caption]) for i, (url, caption) in enumerate(zip(urls, captions, strict=True))]


def _line_by_line(urls_file: Path, captions_file: Path) -> list[Row]:
    urls, captions = _lines(urls_file), _lines(captions_file)
    if len(urls) != len(captions):
        raise UserError(f"{urls_file} has {len(urls):,} lines and {captions_file.name} {len(captions):,}; fetch both again")
    both = enumerate(zip(urls, captions, strict=True), start=1)
    return [(f"{urls_file}, line {number}", url.strip(), [caption]) for number, (url, caption) in both if url.strip()]


def _lines(file: Path) -> list[str]:
    """Lines as a line feed ends them: captions hold characters that Python, too, takes for line ends."""
    try:
        return file.read_bytes().decode("utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; check the path, or fetch the file") from None
