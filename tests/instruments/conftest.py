"""Scenes painted by hand, 16 px in four patches: patch 0 shows one object, patch 1 another, the lower two show grass."""

import pytest
import torch
from torchvision import tv_tensors

from semmim_mini.data.pairs import Mention, Pair, SceneObject, SceneTruth
from semmim_mini.data.text import train_wordpiece
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.model.semmim import SemMIM
from semmim_mini.training.step import SemMIMStep

# One plain colour for each thing, and one for the grass: five things and a background, as many as the smallest space has prototypes.
THINGS = {"dog": (220, 30, 30), "cat": (40, 60, 220), "owl": (240, 220, 40), "car": (15, 15, 15), "drum": (250, 250, 250)}
GRASS = (30, 160, 50)
NAMES = list(THINGS)


class PaintedScenes:
    """Scene i shows thing i and thing i + 1; its first caption names the one, its second the other."""

    name = "painted/test"

    def __init__(self, size: int):
        self.size = size

    def __len__(self) -> int:
        return self.size

    def captions(self, index: int) -> tuple[str, ...]:
        return tuple(f"a {thing} on grass" for thing in self.things(index))

    @staticmethod
    def things(index: int) -> list[str]:
        return [NAMES[(index + j) % len(NAMES)] for j in range(2)]

    def __getitem__(self, index: int) -> Pair:
        things, where = self.things(index), torch.zeros(16, 16, dtype=torch.long)
        where[:8, :8], where[:8, 8:] = 1, 2
        colors = torch.tensor([GRASS, *(THINGS[thing] for thing in things)], dtype=torch.uint8)
        truth = SceneTruth(
            object_map=tv_tensors.Mask(where[None].to(torch.uint8)),
            objects=tuple(SceneObject(t, "thing", ("red",), f"{t}_0", (j / 2, 0, (j + 1) / 2, 0.5)) for j, t in enumerate(things)),
            mentions=tuple((Mention((j,), 0, 2 + len(thing)),) for j, thing in enumerate(things)),
        )
        return Pair(tv_tensors.Image(colors[where].permute(2, 0, 1)), self.captions(index), index, f"painted scene {index}", truth)


@pytest.fixture(scope="session")
def painted():
    """`painted(size)`: that many scenes."""
    return PaintedScenes


@pytest.fixture(scope="session")
def words():
    return train_wordpiece([caption for i in range(5) for caption in PaintedScenes(5).captions(i)], 100)


@pytest.fixture(scope="session")
def look(words):
    """`look(size, batch=64)`: scenes as held-out batches."""
    return lambda size, batch=64: list(held_out_batches(PaintedScenes(size), words, resolution=16, max_length=8, count=size, batch=batch))


@pytest.fixture
def make_step(tiny, words):
    """`make_step("masking.ratio=0.25", …)`: a step whose text is loud enough to show in every code."""

    def make(*settings: str) -> SemMIMStep:
        torch.manual_seed(0)
        model = SemMIM(tiny(*settings), len(words)).eval()
        for side in (model.student, model.teacher):
            side.text.bert.embeddings.word_embeddings.weight.data.normal_()
            side.image.text_map.weight.data.normal_(std=5.0)
        return SemMIMStep(model)

    return make
