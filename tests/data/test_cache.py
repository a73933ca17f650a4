"""Pairs kept in memory: the same pairs, each made once, without what training does not read."""

import pickle

import pytest
import torch

from semmim_mini.data.cache import CachedPairs
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.scenes import SceneDataset


class Counting:
    """Scenes that count how often each is made, and how often captions alone are asked for."""

    name = "counting/train"

    def __init__(self):
        self.scenes, self.made, self.asked = SceneDataset("train", size=4, resolution=16), [], []

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        self.made.append(index)
        return self.scenes[index]

    def captions(self, index: int) -> tuple[str, ...]:
        self.asked.append(index)
        return self.scenes.captions(index)


@pytest.fixture
def source():
    return Counting()


def test_pairs_are_the_sources_without_the_truth(source):
    cached = CachedPairs(source)
    assert isinstance(cached, Pairs) and len(cached) == 4 and cached.name == "counting/train"
    for _ in range(2):  # when made, and when looked up
        for index in (2, 0, 3):
            pair, original = cached[index], source.scenes[index]
            assert torch.equal(pair.image, original.image) and pair.image.dtype == torch.uint8
            assert (pair.captions, pair.image_id, pair.name) == (original.captions, original.image_id, original.name)
            assert original.truth is not None and pair.truth is None


def test_every_pair_is_made_once(source):
    cached = CachedPairs(source)
    for index in (1, 3, 1, 1, 3, 0):
        cached[index]
    assert source.made == [1, 3, 0]


def test_captions_are_told_without_pixels(source):
    cached = CachedPairs(source)
    assert [cached.captions(i) for i in range(4)] == [source.scenes.captions(i) for i in range(4)]
    assert source.made == [] and source.asked == [0, 1, 2, 3]
    assert cached.captions(2) == cached[2].captions == cached.captions(2)
    assert source.asked == [0, 1, 2, 3, 2]  # the last answer came from memory


def test_a_cache_travels_to_another_process():
    cached = CachedPairs(SceneDataset("train", size=4, resolution=16))
    cached[1]
    arrived = pickle.loads(pickle.dumps(cached))
    assert len(arrived) == 4 and arrived.name == cached.name
    for index in (1, 2):  # known before, and not
        assert torch.equal(arrived[index].image, cached[index].image) and arrived[index].captions == cached[index].captions
