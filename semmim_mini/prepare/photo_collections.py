r"""COCO, Flickr30k and Flickr8k.

    Karpathy's splits   SOURCE/dataset_coco.json, or dataset_flickr30k.json, dataset_flickr8k.json (form: data/karpathy.py)
    COCO's own          SOURCE/annotations/captions_train2014.json and captions_val2014.json, or those of 2017:
                        {"images": [{"id": 391895, "file_name": "COCO_val2014_000000391895.jpg", …}, …],
                         "annotations": [{"image_id": 391895, "id": 770337, "caption": "A man with a red helmet …"}, …]}
    Flickr8k's own      SOURCE/captions.txt and the lists of the splits (form: data/flickr8k.py)

Pictures lie in SOURCE, in a folder `images` there, or in the folders that the archives unpack to. Where a Karpathy file is there, it
is taken: its train split, with restval, is what the field trains on and its test split what the field reports. COCO's own val is
another set of pictures, and three quarters of it are Karpathy's training data.
"""

import re
from pathlib import Path

from semmim_mini.data.flickr8k import SPLITS as FLICKR8K_SPLITS
from semmim_mini.data.flickr8k import flickr8k_photos
from semmim_mini.data.karpathy import SPLITS, read_entries
from semmim_mini.data.picture_files import Photo, clean_captions
from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown
from semmim_mini.prepare.entries import Bytes, Entry, Finder, coco_identity, flickr_identity, inside
from semmim_mini.prepare.json_files import read_json, require_list

FOLDERS = {
    "coco": ("", "images"),
    "flickr30k": ("", "images", "flickr30k-images", "flickr30k_images"),
    "flickr8k": ("", "images", "Images", "Flicker8k_Dataset", "Flickr8k_Dataset"),
}


def identity(collection: str, name: str) -> str:
    return coco_identity(name) if collection == "coco" else flickr_identity(name) or f"{collection}/{name}"


def karpathy(file: Path, images: Path | None, collection: str) -> dict[str, list[Entry]]:
    """The splits of a Karpathy file, pictures in the order of the file."""
    finder, splits = _finder(images or file.parent, collection), {}
    for number, entry in enumerate(read_entries(file)):
        name, folder = inside(entry["filename"], f"{file}: images[{number}]"), entry.get("filepath")
        picture = (finder.find(f"{folder}/{name}") if folder else None) or finder.find(name)
        captions = clean_captions(sentence["raw"] for sentence in entry["sentences"])
        split = "train" if entry["split"] in SPLITS["train"] else entry["split"]
        splits.setdefault(split, []).append(Entry((identity(collection, name),), name, picture, captions))
    return splits


def coco_captions(files: list[Path], images: Path | None) -> dict[str, list[Entry]]:
    """COCO's own caption files; the split is the one in a file's name."""
    splits = {}
    for file in files:
        subset = re.fullmatch(r"captions_((train|val)\d*)\.json", file.name)
        if not subset:
            raise UserError(f"the name {file.name} says no split; keep the official names, such as captions_train2014.json")
        if subset[2] in splits:
            raise UserError(f"{file.parent} has several {subset[2]} files, {file.name} among them; give one of them as SOURCE")
        base = file.parent.parent if file.parent.name == "annotations" else file.parent
        splits[subset[2]] = _coco_entries(file, _finder(images or base, "coco", subset[1]))
    return splits


def _coco_entries(file: Path, finder: Finder) -> list[Entry]:
    content = read_json(file)
    pictures = require_list(content, file, "images", id=int, file_name=str)
    captions: dict[int, list[str]] = {}
    for note in require_list(content, file, "annotations", image_id=int, caption=str):
        captions.setdefault(note["image_id"], []).append(note["caption"])
    unknown = captions.keys() - {picture["id"] for picture in pictures}
    if unknown:
        raise UserError(f"{file}: annotations name image_id {shown(min(unknown))}, which images does not list; fetch the file again")
    return [
        Entry((coco_identity(name),), name, finder.find(name), clean_captions(captions.get(picture["id"], ())))
        for picture in pictures
        for name in [inside(picture["file_name"], f"{file}: images with id {picture['id']}")]
    ]


def _finder(base: Path, collection: str, subset: str = "") -> Finder:
    """Pictures below `base`, in the folders that a collection's archives unpack to."""
    below = [base / folder for folder in FOLDERS[collection]]
    return Finder(*(folder / subset for folder in below), *below)


def flickr8k(folder: Path) -> dict[str, list[Entry]]:
    """Flickr8k's own files: every split whose list is there."""
    splits = [split for split in ("train", "val", "test") if (folder / f"Flickr_8k.{FLICKR8K_SPLITS[split]}.txt").exists()]
    return {split: [_of_photo(photo) for photo in flickr8k_photos(folder, split)] for split in splits or ["train"]}


def _of_photo(photo: Photo) -> Entry:
    return Entry((identity("flickr8k", photo.name),), photo.name, photo.path and Bytes(str(photo.path)), photo.captions)
