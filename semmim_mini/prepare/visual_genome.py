r"""Visual Genome (Krishna et al. 2017): pictures with phrases about their regions.

    SOURCE/image_data.json            [{"image_id": 2412112, "coco_id": 547168, "flickr_id": 8505158818, "url": …, …}, …]
    SOURCE/region_descriptions.json   [{"id": 2412112, "regions": [{"region_id": 1353, "phrase": "a cat on a table", …}, …]}, …]
    SOURCE/VG_100K/2412112.jpg        or VG_100K_2/2412112.jpg, as the two archives unpack

The captions of a picture are its phrases, each once. They speak of parts, "the clock is green", where COCO's captions speak of the
whole: the field takes them so [F: ALBEF, UNITER].

Leakage. Half of the pictures are COCO's, and some of these are in COCO's test split. A model that has read fifty phrases about a
test picture is no longer tested by it, so they have to go [F: UNITER]. Which they are, the split file knows: `--held-out
dataset_coco.json` leaves out Karpathy's val and test. Without it every picture with a coco_id is left out, because any may be one.
"""

from pathlib import Path

from semmim_mini.data.picture_files import clean_captions
from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Entry, Finder
from semmim_mini.prepare.json_files import read_json, require_list


def visual_genome(folder: Path, images: Path | None, coco_is_known: bool) -> list[Entry]:
    """All pictures in the order of image_data.json.

    Args:
        coco_is_known: whether somebody else sorts out COCO's held-out pictures; else all of COCO's are left out here.
    """
    file = folder / "image_data.json"
    pictures = require_list(read_json(file), file, None, image_id=int, coco_id=(int, type(None)), flickr_id=(int, type(None)))
    phrases = _phrases(folder / "region_descriptions.json")
    base = images or folder
    finder = Finder(base / "VG_100K", base / "VG_100K_2", base)
    return [_entry(picture, phrases.get(picture["image_id"], ()), finder, coco_is_known) for picture in pictures]


def _entry(picture: dict, phrases: tuple[str, ...], finder: Finder, coco_is_known: bool) -> Entry:
    name, coco, flickr = f"{picture['image_id']}.jpg", picture.get("coco_id"), picture.get("flickr_id")
    known_as = [f"{collection}/{number}" for collection, number in (("coco", coco), ("flickr", flickr)) if number is not None]
    reason = "held out" if coco is not None and not coco_is_known else ""
    return Entry((*known_as, f"vg/{name}"), name, finder.find(name), phrases, left_out=reason)


def _phrases(file: Path) -> dict[int, tuple[str, ...]]:
    found = {}
    for number, entry in enumerate(require_list(read_json(file), file, None, regions=list)):
        image = entry.get("id", entry.get("image_id"))  # the files have the first, their documentation the second
        regions = entry["regions"]
        if type(image) is not int or not all(isinstance(r, dict) and isinstance(r.get("phrase"), str) for r in regions):
            raise UserError(f"{file}: [{number}] has no id, or regions without a text 'phrase'; fetch the file again")
        found[image] = tuple(dict.fromkeys(clean_captions(region["phrase"] for region in regions)))
    return found
