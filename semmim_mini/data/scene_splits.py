r"""What each split may contain: combinations of concepts, and pictures, that training never sees.

    train          pairs of concepts that hash to "train"
    val, test      at least one pair of concepts that hashes to the split's own share, none of the other's: has the model learnt
                   what a dog is, or only what stands next to dogs?
    test_pictures  training's combinations, but pictures kept back from everything else: one of every concept that has at
                   least `RESERVE_FROM` of them

Hashes are of names, so that adding a concept never moves another one's pairs from one split into another.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from semmim_mini.data.cutouts import Cutout
from semmim_mini.errors import UserError

SPLITS = ("train", "val", "test", "test_pictures")
HELD_OUT_SHARE = {"val": 0.1, "test": 0.1}  # of the pairs of concepts
RESERVE_FROM = 3  # pictures: a concept with fewer keeps all of them for training
FEWEST_CONCEPTS = 8
MOST_WORDS = 3  # of a concept's name: four longer ones would not fit into a caption
# Different words for what one could rightly call by the other's name; those that share a word ("car", "police car") are found by it.
LOOKALIKES = (
    ("car", "taxi", "van", "police car", "racing car", "truck", "ambulance", "fire engine", "bus"),
    ("chicken", "chick", "rooster", "duck"),
    ("phone", "telephone"),
    ("rowing boat", "sailboat", "ship"),
    ("hat", "cap", "helmet"),
    ("boot", "shoe", "sandal"),
    ("desk", "table"),
    ("house", "hut", "castle", "church", "school", "dog house", "dolls' house", "factory"),
    ("rose", "tulip", "daisy", "sunflower", "bunch of flowers", "pot plant", "vase"),
    ("bookcase", "wardrobe", "chest of drawers", "fridge"),
    ("chair", "armchair", "sofa", "stool", "bench", "high chair", "deck chair", "wheelchair"),
    ("clock", "watch", "cuckoo clock"),
    ("dog", "wolf", "fox"),
    ("mouse", "hamster"),
    ("crocodile", "lizard", "dinosaur"),
    ("guitar", "banjo", "violin"),
    ("bicycle", "tricycle", "motorbike"),
    ("backpack", "handbag", "suitcase", "briefcase", "toolbox"),
    ("bowl", "cup", "glass of milk", "plate"),
    ("tree", "fir tree", "palm tree", "christmas tree", "bush"),
    ("bucket", "dustbin", "barrel", "basket"),
    ("mountain", "volcano"),
    ("whale", "dolphin", "shark", "fish", "seal"),
    ("horse", "unicorn", "zebra"),
    ("birthday cake", "cupcake"),
    ("baseball", "basketball", "football", "volleyball", "tennis ball", "rugby ball"),
    ("medal", "trophy"),
    ("tent", "circus tent"),
    ("cot", "bed", "bunk bed"),
    ("bath", "washbasin"),
    ("lamp", "desk lamp", "street lamp", "light bulb", "torch"),
    ("oven", "microwave", "washing machine", "toaster"),
    ("swan", "flamingo", "duck"),
    ("train", "toy train"),
)
SMALL_WORDS = {"of", "and", "the", "in"}


def stable_share(*words: str) -> float:
    """A number in [0, 1) that depends on the words only: not on the process, the machine or Python's hash seed."""
    digest = hashlib.blake2b("\x1f".join(words).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


@cache
def pair_split(one: str, other: str) -> str:
    """The split that owns an unordered pair of concepts: train, val or test. A concept with itself is training's."""
    if one == other:
        return "train"
    share = stable_share("pair", *sorted((one, other)))
    val = HELD_OUT_SHARE["val"]
    return "val" if share < val else "test" if share < val + HELD_OUT_SHARE["test"] else "train"


@dataclass(frozen=True)
class Concept:
    """A concept with the pictures that a split may show."""

    name: str
    names: tuple[str, ...]  # canonical first
    plural: str
    category: str
    cutouts: tuple[Cutout, ...]


class Catalogue:
    """The concepts of a split, and which of them may share a scene.

    Attributes:
        concepts: sorted by name, those without a picture left out.
        index, categories: of the concepts.
        clash: (c, c) bool; concepts that could be mistaken for each other: they never meet.
        together: (c, c) bool; False for pairs of another split and for those that clash.
        own: (c, c) bool; the pairs that make a scene of this split: at least one is needed where the split is held out.
    """

    def __init__(self, cutouts: Sequence[Cutout], split: str):
        if split not in SPLITS:
            raise UserError(f"split={split!r} is unknown to scenes; choose one of {', '.join(SPLITS)}")
        self.split, self.concepts = split, _concepts(cutouts, reserved=split == "test_pictures")
        if len(self.concepts) < FEWEST_CONCEPTS:
            raise UserError(
                f"the cutouts hold {len(self.concepts)} concepts for scenes/{split}; at least {FEWEST_CONCEPTS} are needed, "
                f"and test_pictures counts only those with {RESERVE_FROM} pictures or more; add cutouts"
            )
        names = [concept.name for concept in self.concepts]
        self.index = {name: i for i, name in enumerate(names)}
        self.categories = np.array([concept.category for concept in self.concepts])
        owner = np.array([[pair_split(a, b) for b in names] for a in names])
        self.clash = _clashes(self.concepts)
        home = "train" if split == "test_pictures" else split
        self.own = (owner == home) & ~self.clash
        self.together = ((owner == "train") | (owner == home)) & ~self.clash
        self.held_out = home != "train"
        if not self.own.any():
            raise UserError(f"none of the pairs of {len(names)} concepts belongs to scenes/{split}; add cutouts of more concepts")


def _concepts(cutouts: Sequence[Cutout], reserved: bool) -> tuple[Concept, ...]:
    grouped: dict[str, list[Cutout]] = {}
    for cutout in sorted(cutouts, key=lambda cutout: cutout.id):
        grouped.setdefault(cutout.concept, []).append(cutout)
    for name, pictures in grouped.items():
        if max(len(words.split()) for words in (name, pictures[0].plural)) > MOST_WORDS:
            raise UserError(f"concept {name!r} has more than {MOST_WORDS} words; shorten it or its plural {pictures[0].plural!r}")
    kept = []
    for name, pictures in sorted(grouped.items()):
        back = min(pictures, key=lambda cutout: stable_share("picture", cutout.id)) if len(pictures) >= RESERVE_FROM else None
        shown = tuple(cutout for cutout in pictures if (cutout is back) == reserved)
        if shown:
            kept.append(Concept(name, pictures[0].names, pictures[0].plural, pictures[0].category, shown))
    return tuple(kept)


def _clashes(concepts: tuple[Concept, ...]) -> np.ndarray:
    """(c, c) bool: different concepts one of which could be called by (part of) the other's name."""
    words = [{word for name in concept.names for word in name.split()} - SMALL_WORDS for concept in concepts]
    groups = [{i for i, group in enumerate(LOOKALIKES) if concept.name in group} for concept in concepts]
    clash = [[a != b and bool(words[a] & words[b] or groups[a] & groups[b]) for b in range(len(words))] for a in range(len(words))]
    return np.array(clash)
