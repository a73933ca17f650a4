r"""Image–text pairs: the one interface behind every source of data.

Scenes composed here, Flickr8k from a folder, COCO through a Karpathy file: to the rest of the library each is a sequence of
`Pair`s. A pair is one image with *all* its captions (COCO has five); which caption a training step reads is drawn later,
so that "captions of the same image" stays a fact of the data (`Pair.image_id`) and never has to be guessed from file names.

Only composed scenes know the truth about their pixels. They carry it in `Pair.truth`; photos carry `None`, and every
instrument that needs the truth says so instead of guessing.
"""

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torchvision import tv_tensors

BACKGROUND = 0  # the value of a pixel that belongs to no object; object j (0-based in `SceneTruth.objects`) is stored as j + 1


@dataclass(frozen=True)
class SceneObject:
    """One cutout placed in a scene."""

    concept: str  # canonical name, "dog"
    category: str  # "animal"
    colors: tuple[str, ...]  # colour words measured from the cutout's pixels
    cutout_id: str
    box: tuple[float, float, float, float]  # left, top, right, bottom as shares of the image side, before occlusion


@dataclass(frozen=True)
class Mention:
    """The words of a caption that name objects: caption[start:end] names every object in `objects` ("two dogs" names two)."""

    objects: tuple[int, ...]  # indices into SceneTruth.objects
    start: int
    end: int


@dataclass(frozen=True)
class Question:
    """A question about the scene with its one right answer."""

    question: str
    answer: str
    kind: str  # what | where | how many | which colour | yes/no


@dataclass(frozen=True)
class SceneTruth:
    """Everything a composed scene knows about itself."""

    object_map: tv_tensors.Mask  # (1, h, w) uint8: BACKGROUND, or 1 + index of the visible object at this pixel
    objects: tuple[SceneObject, ...]
    mentions: tuple[tuple[Mention, ...], ...]  # per caption
    questions: tuple[Question, ...] = field(default=())


@dataclass(frozen=True)
class Pair:
    """One image with its captions."""

    image: tv_tensors.Image  # (3, h, w) uint8
    captions: tuple[str, ...]
    image_id: int  # stable within the source; equal ids mean the same picture
    name: str  # for people: a file name, or "scene train 17"
    truth: SceneTruth | None = None


@runtime_checkable
class Pairs(Protocol):
    """A source of pairs: a sized, indexable, picklable collection."""

    name: str  # "scenes/train", "flickr8k/dev": shown in logs and reports

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of pair `index` without touching its pixels (for tokenizers and text-only passes)."""
        ...


def read_pair(pairs: Pairs, index: int) -> tuple[Pair, list[str]]:
    """Pair `index`, and of sources that may have to replace pictures the names of those it stands in for."""
    return pairs.read(index) if hasattr(pairs, "read") else (pairs[index], [])
