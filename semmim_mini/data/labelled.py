r"""Pictures with one label each, for zero-shot classification and probes.

    scenes        one cutout alone on a background, label: its concept (171) or its category (13)
    folder:DIR    photos in one folder per class, DIR/class name/*.jpg, the layout of torchvision's ImageFolder

What is classified, of scenes [C]. Not a window cut out of a scene of many things: it would be blurred by the enlargement, show the
thing larger than training ever did, and hold pieces of its neighbours. A thing laid out *alone* is what a tenth of the training
scenes are, drawn by the same code, and its label is beyond dispute. Every concept has equally many pictures.

| split | cutouts | what it asks |
| --- | --- | --- |
| `train` | training's | – |
| `val`, `test` | training's, laid out anew | is this thing, seen in training, found again elsewhere, at another size, tilt and ground? |
| `test_pictures` | kept back, never seen in training | is a *new* picture of a known concept recognised? |

One thing is no combination, so that unseen combinations, which make `test` hard for captions, do not matter here; `test_pictures` is
the split that tells concepts learnt from pictures learnt by heart. Image ids and random streams are those of no scene.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.datasets.folder import IMG_EXTENSIONS

from semmim_mini.data.cutouts import Cutout
from semmim_mini.data.pairs import Pair, SceneTruth
from semmim_mini.data.picture_files import BadPictures, Photo, PhotoPairs
from semmim_mini.data.scene_language import OPENERS

# Private to scenes' layout: the lines of `make_layout` that follow the choice of cutouts.
from semmim_mini.data.scene_layout import Layout, lay_out
from semmim_mini.data.scene_pixels import draw
from semmim_mini.data.scene_splits import SPLITS, Concept
from semmim_mini.data.scenes import SPLIT_STRIDE, SceneDataset, scene_objects
from semmim_mini.errors import UserError

ALONE = 3  # stream of random numbers beside those of `data.scenes`
LEVELS = ("concept", "category")
FOLDER_SPLITS = ("train", "val", "test")
SCENE_TEMPLATES = tuple(f"{opener.format(**{'is': 'is'})} a {{}}" for opener in OPENERS)  # how the captions of scenes begin
PHOTO_TEMPLATES = (  # [F: CLIP begins with the first]
    *("a photo of a {}", "a photo of the {}", "a picture of a {}", "a close photo of a {}"),
    *("a photo of one {}", "a {} in a photo", "there is a {} in the picture"),
)


@runtime_checkable
class Labelled(Protocol):
    """Pictures with one label each; sized, indexable, picklable."""

    name: str  # "scenes/test, alone", for reports
    classes: tuple[str, ...]  # in the words that prompts use
    templates: tuple[str, ...]  # sentences like those the pictures' captions have, {} for the class

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Pair, int]:
        """Picture `index` and the place of its class in `classes`."""
        ...


class SingleObjects:
    """Every concept alone, `per_class` times; picture i shows concept i mod 171, whose cutouts take turns.

    Args:
        split: as in the table above.
        per_class: pictures of each concept.
        level: `concept`, or `category` for the same pictures under coarser names.
        seed, resolution, cutouts: as in `data.scenes`.

    Raises:
        UserError: an unknown split or level, or a size below 1.
    """

    templates = SCENE_TEMPLATES

    def __init__(
        self,
        split: str = "test",
        per_class: int = 10,
        level: str = "concept",
        seed: int = 0,
        resolution: int = 64,
        cutouts: Sequence[Cutout] | None = None,
    ):
        if level not in LEVELS:
            raise UserError(f"level={level!r} names no labels; choose one of {', '.join(LEVELS)}")
        if per_class < 1:
            raise UserError(f"per_class={per_class} is too small; choose 1 or more")
        self._scenes = SceneDataset(split, 1, seed, resolution, cutouts)  # checks its arguments, and knows the split's cutouts
        self.split, self.per_class, self.level, self._seed, self._cutouts = split, per_class, level, seed, cutouts
        self.name = f"scenes/{split}, alone"
        # The names are training's in every split, so that one list of classes, and one chance level, serves them all.
        train = SceneDataset("train", 1, seed, resolution, cutouts).catalogue.concepts
        self.classes = tuple(sorted({self._label(concept) for concept in train}))

    def __reduce__(self):
        """Rebuilt elsewhere instead of carried there with every picture."""
        return type(self), (self.split, self.per_class, self.level, self._seed, self._scenes.resolution, self._cutouts)

    def __len__(self) -> int:
        return self.per_class * len(self._scenes.catalogue.concepts)

    def __getitem__(self, index: int) -> tuple[Pair, int]:
        index = range(len(self))[index]  # IndexError beyond the end: for loops end by it
        layout, label = self.layout(index), self._label(self._concept(index))
        pixels, owner = draw(layout.background, list(zip(layout.cutouts, layout.poses, strict=True)), self._scenes.resolution)
        pair = Pair(
            image=tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))),
            captions=(label,),
            image_id=(len(SPLITS) + SPLITS.index(self.split)) * SPLIT_STRIDE + index,
            name=f"{label}, {self.split} {index}",
            truth=SceneTruth(tv_tensors.Mask(torch.from_numpy(owner)[None]), scene_objects(layout), mentions=((),)),
        )
        return pair, self.classes.index(label)

    def layout(self, index: int) -> Layout:
        """The plan of picture `index`: one cutout, its pose, its background."""
        pictures = self._concept(index).cutouts
        cutout = pictures[index // len(self._scenes.catalogue.concepts) % len(pictures)]
        seeds = np.random.SeedSequence([self._seed, SPLITS.index(self.split), index, ALONE])
        return lay_out((cutout,), np.random.Generator(np.random.PCG64(seeds)))

    def _concept(self, index: int) -> Concept:
        concepts = self._scenes.catalogue.concepts
        return concepts[index % len(concepts)]

    def _label(self, concept: Concept) -> str:
        return concept.name if self.level == "concept" else concept.category


class PictureFolder:
    """Photos in one folder per class; underscores in a folder's name are read as blanks.

    A picture that turns out unreadable gives way to the next readable one, label and all, as in `picture_files.PhotoPairs`.

    Args:
        folder: holds one folder per class, with pictures at any depth.
        decode_size, max_bad_share: as in `PhotoPairs`.

    Raises:
        UserError: no such folder, fewer than two classes, a class without pictures.
    """

    templates = PHOTO_TEMPLATES

    def __init__(self, folder: str | Path, decode_size: int | None = None, max_bad_share: float = 0.01):
        folder = Path(folder)
        self.name = f"folder/{folder.name}"
        homes = _folders(folder)
        if len(homes) < 2:
            raise UserError(f"{folder} holds {len(homes)} class folders; classification needs 2 or more, as in DIR/class name/*.jpg")
        self.classes = tuple(home.name.replace("_", " ") for home in homes)
        files = [_pictures(home) for home in homes]
        if empty := [home.name for home, found in zip(homes, files, strict=True) if not found]:
            raise UserError(f"{folder}: no pictures in {', '.join(empty[:5])}; fill or remove the folder ({', '.join(IMG_EXTENSIONS)})")
        photos = [
            Photo(path.relative_to(folder).as_posix(), path, (label,))
            for label, found in zip(self.classes, files, strict=True)
            for path in found
        ]
        self._photos = PhotoPairs(self.name, photos, BadPictures(max_bad_share), decode_size)

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> tuple[Pair, int]:
        pair = self._photos[index]
        return pair, self.classes.index(pair.captions[0])


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; photos to classify lie in DIR/class name/*.jpg")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def open_labelled(
    spec: str, split: str = "test", *, resolution: int, seed: int = 0, per_class: int = 10, level: str = "concept"
) -> Labelled:
    """Labelled pictures of `scenes`, or of `folder:DIR`: DIR/split where DIR has train, val or test with classes in them, else DIR.

    Raises:
        UserError: an unknown source; a folder without the split that is asked for.
    """
    kind, _, rest = spec.partition(":")
    if spec == "scenes":
        return SingleObjects(split, per_class, level, seed, resolution)
    if kind != "folder" or not rest:
        raise UserError(f"{spec!r} is no source of labelled pictures; it takes one of these forms: scenes, folder:DIR")
    folder = Path(rest)
    divided = {path.name for path in _folders(folder) if path.name in FOLDER_SPLITS and _folders(path)}
    if not divided and split == "test":
        return PictureFolder(folder, decode_size=2 * resolution)
    if split not in divided:
        raise UserError(f"{folder} has no split {split!r}; its pictures would lie in {Path(rest) / split}/class name/*.jpg")
    return PictureFolder(folder / split, decode_size=2 * resolution)
