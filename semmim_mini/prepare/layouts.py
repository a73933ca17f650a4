r"""From a collection's name and what is on disk to its entries: the one place that knows every layout.

| collection | layouts | splits | reader |
| --- | --- | --- | --- |
| coco      | Karpathy's file; COCO's caption files        | the files' own | `photo_collections` |
| flickr30k | Karpathy's file                              | the files' own | `photo_collections` |
| flickr8k  | Karpathy's file; Flickr8k's own files        | the files' own | `photo_collections` |
| vg        | image_data.json and region_descriptions.json | train, or as `--split` says | `visual_genome` |
| sbu, cc3m | img2dataset's output; TSV; JSON; SBU's texts | train, or as `--split` says | `img2dataset`, `web_lists` |

SOURCE is the folder, or the annotation file in it where there are several.
"""

from collections.abc import Iterable
from pathlib import Path

from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Entry, require_folder
from semmim_mini.prepare.img2dataset import img2dataset
from semmim_mini.prepare.photo_collections import coco_captions, flickr8k, karpathy
from semmim_mini.prepare.visual_genome import visual_genome
from semmim_mini.prepare.web_lists import SBU_TEXTS, web_list

COLLECTIONS = ("coco", "vg", "sbu", "cc3m", "flickr30k", "flickr8k")
SPLITS = ("train", "val", "test")
# Lists that are found without being named, wherever the archives put them.
WEB_LISTS = ("Train_GCC-training.tsv", "sbu-captions-all.json", SBU_TEXTS[0], f"dataset/{SBU_TEXTS[0]}")


def list_entries(
    collection: str, source: Path, images: Path | None = None, split: str | None = None, held_out: set[str] = frozenset()
) -> dict[str, Iterable[Entry]]:
    """The entries of every split, or of one.

    Args:
        source: a folder, or an annotation file.
        images: where the pictures are, if not beside the annotations.
        split: only this one; of a list without splits, which it shall be.
        held_out: identities that must not be trained on.

    Raises:
        UserError: an unknown collection, split or layout; malformed annotations, by file and entry.
    """
    if collection not in COLLECTIONS:
        raise UserError(f"collection {collection!r} is unknown; choose one of {', '.join(COLLECTIONS)}")
    if split not in (None, *SPLITS):
        raise UserError(f"--split {split!r} is none; choose one of {', '.join(SPLITS)}")
    if not source.exists():
        raise UserError(f"{source} does not exist; give the folder that holds {collection}, or its annotation file")
    if images is not None:
        require_folder(images, "folder of pictures")
    if collection == "vg":
        coco_is_known = any(identity.startswith("coco/") for identity in held_out)
        return {split or "train": visual_genome(require_folder(source, "folder of Visual Genome"), images, coco_is_known)}
    if collection in ("sbu", "cc3m"):
        return {split or "train": _web(collection, source, images)}
    splits = _photos(collection, source, images)
    if split and split not in splits:
        raise UserError(f"{source} has no split {split!r} of {collection}, only {', '.join(splits)}")
    return {split: splits[split]} if split else splits


def _photos(collection: str, source: Path, images: Path | None) -> dict[str, list[Entry]]:
    file = source / f"dataset_{collection}.json" if source.is_dir() else source
    if file.is_file() and (source.is_dir() or not file.name.startswith("captions_")):
        return karpathy(file, images, collection)
    if collection == "flickr8k":
        _require_none(images, "Flickr8k's own files name the folders of their pictures")
        return flickr8k(require_folder(source, "folder of Flickr8k"))
    if collection == "coco":
        folders = (source / "annotations", source) if source.is_dir() else ()
        files = [file] if source.is_file() else sorted(path for folder in folders for path in folder.glob("captions_*.json"))
        if files:
            return coco_captions(files, images)
    raise UserError(f"{source} has no dataset_{collection}.json{' and no captions_*.json' * (collection == 'coco')}; see --help")


def _web(collection: str, source: Path, images: Path | None) -> Iterable[Entry]:
    if source.is_file() and source.suffix != ".tar":
        return web_list(source, images, collection)
    lists = [source / name for name in WEB_LISTS if (source / name).is_file()]
    if len(lists) > 1:
        raise UserError(f"{source} holds {', '.join(str(path.relative_to(source)) for path in lists)}; give one of them as SOURCE")
    if lists:
        return web_list(lists[0], images, collection)
    _require_none(images, "img2dataset keeps pictures and captions together")
    return img2dataset(source, collection)


def _require_none(images: Path | None, why: str) -> None:
    if images is not None:
        raise UserError(f"--images {images} cannot be used here: {why}; leave it out")
