r"""Composed scenes: cutouts on a plain ground, with captions and the whole truth, drawn anew from a few numbers.

    (seed, split, index) ─► layout ─► captions, questions
                              └────► pixels, object map

No picture is stored. Scene 17 is computed when it is asked for, and it is the same scene in every process, in every order
and at every resolution. Real photos teach more; only scenes can say which pixels belong to the word "dog".
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torchvision import tv_tensors

from semmim_mini.data.cutouts import Cutout, load_cutouts
from semmim_mini.data.pairs import Pair, Question, SceneObject, SceneTruth
from semmim_mini.data.scene_language import make_captions
from semmim_mini.data.scene_layout import Layout, make_layout
from semmim_mini.data.scene_pixels import draw
from semmim_mini.data.scene_questions import make_questions
from semmim_mini.data.scene_relations import Facts
from semmim_mini.data.scene_splits import SPLITS, Catalogue
from semmim_mini.errors import UserError

LEAST_RESOLUTION = 16  # px: below, an object is a handful of pixels
SPLIT_STRIDE = 10**9  # image ids of one split; far more than any size
LAYOUT, LANGUAGE, QUESTIONS = range(3)  # streams of random numbers: a new caption grammar moves no object


class SceneDataset:
    """Composed scenes of one split; implements `Pairs`.

    Args:
        split: train, val, test (combinations of concepts unseen in training) or test_pictures (pictures unseen in training).
        size: number of scenes. Scene i does not depend on it.
        seed: another seed, another world of scenes; the splits stay apart for every seed.
        resolution: px, square.
        cutouts: the embedded ones by default.

    Raises:
        UserError: for an unknown split, size < 1, resolution < 16, seed < 0 or too few concepts.
    """

    def __init__(
        self, split: str = "train", size: int = 20_000, seed: int = 0, resolution: int = 64, cutouts: Sequence[Cutout] | None = None
    ):
        for field, value, least in (("size", size, 1), ("resolution", resolution, LEAST_RESOLUTION), ("seed", seed, 0)):
            if value < least:
                raise UserError(f"{field}={value} is too small for scenes; choose {least} or more")
        self.catalogue = _embedded(split) if cutouts is None else Catalogue(cutouts, split)
        self.split, self.size, self.seed, self.resolution, self._cutouts = split, size, seed, resolution, cutouts
        self.name = f"scenes/{split}"

    def __reduce__(self):
        """Workers that are not forked build the data set anew, instead of receiving every picture through a pipe."""
        return type(self), (self.split, self.size, self.seed, self.resolution, self._cutouts)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Pair:
        index, layout = self._index(index), self.layout(index)
        facts = Facts(layout)
        captions = make_captions(facts, self._draw(index, LANGUAGE))
        pixels, owner = draw(layout.background, list(zip(layout.cutouts, layout.poses, strict=True)), self.resolution)
        truth = SceneTruth(
            object_map=tv_tensors.Mask(torch.from_numpy(owner)[None]),
            objects=scene_objects(layout),
            mentions=tuple(caption.mentions for caption in captions),
            questions=make_questions(facts, self.catalogue, self._draw(index, QUESTIONS)),
        )
        return Pair(
            image=tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))),
            captions=tuple(caption.text for caption in captions),
            image_id=SPLITS.index(self.split) * SPLIT_STRIDE + index,
            name=f"scene {self.split} {index}",
            truth=truth,
        )

    def captions(self, index: int) -> tuple[str, ...]:
        """The five captions of scene `index`; its layout is worked out, its pixels are not."""
        index = self._index(index)
        return tuple(caption.text for caption in make_captions(Facts(self.layout(index)), self._draw(index, LANGUAGE)))

    def questions(self, index: int) -> tuple[Question, ...]:
        """The questions about scene `index`, without its pixels."""
        index = self._index(index)
        return make_questions(Facts(self.layout(index)), self.catalogue, self._draw(index, QUESTIONS))

    def layout(self, index: int) -> Layout:
        """The plan of scene `index`: which pictures, where, what hides what."""
        return make_layout(self.catalogue, self._draw(self._index(index), LAYOUT))

    def _draw(self, index: int, stream: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, SPLITS.index(self.split), index, stream])))

    def _index(self, index: int) -> int:
        if not -self.size <= index < self.size:
            raise IndexError(f"{self.name} has {self.size} scenes, there is no scene {index}")
        return index % self.size


@lru_cache
def _embedded(split: str) -> Catalogue:
    return Catalogue(load_cutouts(), split)


def scene_objects(layout: Layout) -> tuple[SceneObject, ...]:
    """The objects of a layout, from back to front, as the truth tells them."""
    return tuple(
        SceneObject(cutout.concept, cutout.category, cutout.colors, cutout.id, box)
        for cutout, box in zip(layout.cutouts, layout.boxes, strict=True)
    )
