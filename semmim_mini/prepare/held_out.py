r"""Pictures that somebody evaluates on, to be kept out of training.

    dataset_coco.json        its val and test, as coco/391895: also out of Visual Genome, which shares COCO's pictures
    dataset_flickr30k.json   its val and test, as flickr/1000092795: also out of SBU, Flickr8k and the rest of Visual Genome

Only what the annotations say can be sorted out. COCO's own pictures come from Flickr, too, under numbers that its files do not tell.
"""

from pathlib import Path

from semmim_mini.data.karpathy import read_entries
from semmim_mini.errors import UserError
from semmim_mini.prepare.photo_collections import FOLDERS, identity


def held_out_identities(files: list[Path]) -> set[str]:
    """The identities of val and test in Karpathy's files.

    Raises:
        UserError: a file that is not named as Karpathy's are, or malformed.
    """
    found = set()
    for file in files:
        collection = file.stem.removeprefix("dataset_")
        if collection not in FOLDERS:
            raise UserError(f"--held-out {file} is none of Karpathy's files; they are named dataset_{', dataset_'.join(FOLDERS)}.json")
        found |= {identity(collection, entry["filename"]) for entry in read_entries(file) if entry["split"] in ("val", "test")}
    return found
