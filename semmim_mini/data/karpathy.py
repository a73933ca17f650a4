r"""COCO, Flickr30k and Flickr8k through the split files of Karpathy and Fei-Fei (2015).

    {"images": [{"filename": "COCO_val2014_000000391895.jpg", "filepath": "val2014", "split": "restval",
                 "sentences": [{"raw": "A man with a red helmet on a small moped."}, …]}, …]}

`filepath` stands in COCO's file alone; pictures are found with it or, where all lie in one folder, without it.
`restval` are the pictures of COCO's validation set that the field trains on, so they count as train.
"""

import json
from pathlib import Path

from semmim_mini.data.picture_files import MAX_PIXELS, BadPictures, Folders, Photo, PhotoPairs, at_home, clean_captions
from semmim_mini.errors import UserError

SPLITS = {"train": ("train", "restval"), "val": ("val",), "dev": ("val",), "test": ("test",)}
KNOWN = ("train", "restval", "val", "test")


class KarpathyPairs(PhotoPairs):
    """The pairs of one split, in the order of the file.

    Args:
        json_file: dataset_coco.json, dataset_flickr30k.json or dataset_flickr8k.json.
        images_dir: holds the pictures, directly or in the folders that `filepath` names.
        split: train (with restval), val (or dev), test.

    Raises:
        UserError: missing, malformed or empty; the message names the file and the entry.
    """

    def __init__(
        self,
        json_file: str | Path,
        images_dir: str | Path,
        split: str,
        max_bad_share: float = 0.01,
        decode_size: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ):
        json_file, images_dir = at_home(json_file), at_home(images_dir)
        if split not in SPLITS:
            raise UserError(f"a Karpathy file has no split {split!r}; choose one of {', '.join(SPLITS)}")
        if not images_dir.is_dir():
            raise UserError(f"the picture folder {images_dir} does not exist; correct data.source=karpathy:FILE.json:IMAGES_DIR")
        folders = Folders()
        chosen = [entry for entry in read_entries(json_file) if entry["split"] in SPLITS[split]]
        if not chosen:
            raise UserError(f"{json_file} has no picture in split {split!r}; choose another split or another file")
        photos = [self._photo(entry, images_dir, folders) for entry in chosen]
        photos = list({photo.name: photo for photo in photos}.values())
        name = f"{json_file.stem.removeprefix('dataset_')}/{'val' if split == 'dev' else split}"
        super().__init__(name, photos, BadPictures(max_bad_share), decode_size, max_pixels)

    @staticmethod
    def _photo(entry: dict, images_dir: Path, folders: Folders) -> Photo:
        name = entry["filename"]
        path = folders.find(images_dir / entry.get("filepath", ""), name) or folders.find(images_dir, name)
        return Photo(name, path, clean_captions(sentence["raw"] for sentence in entry["sentences"]))


def read_entries(path: Path) -> list[dict]:
    """`images` of a Karpathy file, each entry checked for what is read from it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"split file {path} cannot be read: {error.strerror}; download it, or correct data.source") from None
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or not UTF-8
        raise UserError(f"{path} is not valid JSON: {error}; download it again") from None
    entries = content.get("images") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path} has no list 'images'; it must have the layout of Karpathy's dataset_coco.json")
    for number, entry in enumerate(entries):
        problem = _problem(entry)
        if problem:
            raise UserError(f"{path}: images[{number}] {problem}; it must follow the layout of dataset_coco.json")
    return entries


def _problem(entry: object) -> str:
    if not isinstance(entry, dict):
        return f"is {entry!r:.80}, not an object"
    for key in ("filename", "split"):
        if not isinstance(entry.get(key), str) or not entry[key]:
            return f"has {key} {entry.get(key)!r:.80}, not a name"
    if entry["split"] not in KNOWN:
        return f"has split {entry['split']!r:.80}, none of {', '.join(KNOWN)}"
    folder = entry.get("filepath", "")
    if not isinstance(folder, str) or Path(folder).is_absolute() or ".." in Path(folder).parts:
        return f"has filepath {folder!r:.80}, not a folder inside the picture folder"
    sentences = entry.get("sentences")
    if not isinstance(sentences, list):
        return "has no list 'sentences'"
    if not all(isinstance(s, dict) and isinstance(s.get("raw"), str) for s in sentences):
        return "has sentences without a text 'raw'"
    return ""
