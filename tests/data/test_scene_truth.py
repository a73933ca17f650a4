"""True patches of a true map, against a loop and by hand."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from semmim_mini.data.pairs import Mention, SceneTruth
from semmim_mini.data.scene_truth import named_patches, patch_objects
from semmim_mini.errors import UserError

# One patch of 3×3 px per column: 2 pixels of nine are too few, 3 are enough; 4 of object 2 beat 3 of object 1; on a tie 1 wins.
ROWS = [[1, 1, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2], [0, 0, 0, 0, 0, 0, 2, 2, 2, 1, 1, 1], [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0]]
BY_HAND = tv_tensors.Mask(torch.tensor([ROWS], dtype=torch.uint8))
maps = st.tuples(st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda s: st.tuples(st.just(s[0]), arrays(np.uint8, (s[0] * s[1], s[0] * s[2]), elements=st.integers(0, 4)))
)


def slow_patch_objects(pixels: np.ndarray, p: int) -> list[int]:
    values = []
    for top in range(0, len(pixels), p):
        for left in range(0, len(pixels[0]), p):
            patch = pixels[top : top + p, left : left + p].ravel().tolist()
            counts = {value: patch.count(value) for value in sorted(set(patch) - {0})}
            best = max(counts, key=counts.get, default=0)
            values.append(best if best and 3 * counts[best] >= p * p else 0)
    return values


def test_by_hand():
    assert patch_objects(BY_HAND, 3).tolist() == [0, 1, 2, 1]


@given(maps)
def test_equals_a_loop(case):
    p, pixels = case
    assert patch_objects(tv_tensors.Mask(torch.from_numpy(pixels)[None]), p).tolist() == slow_patch_objects(pixels, p)


@given(maps)
def test_mirrored_map_mirrored_patches(case):
    p, pixels = case
    mask = tv_tensors.Mask(torch.from_numpy(pixels)[None])
    grid = patch_objects(mask, p).reshape(len(pixels) // p, -1)
    torch.testing.assert_close(patch_objects(F.horizontal_flip(mask), p), grid.flip(1).flatten())


def test_views_and_batches_lead():
    stacked = torch.stack([BY_HAND, BY_HAND.flip(-1)])[:, None]  # (2, 1, 1, 3, 12)
    assert patch_objects(stacked, 3).shape == (2, 1, 4)


def test_named_patches_follow_the_mentions():
    mentions = ((Mention((0,), 0, 1),), (Mention((1,), 0, 1),), (Mention((0,), 0, 1), Mention((1,), 2, 3)), ())
    truth = SceneTruth(BY_HAND, (), mentions)
    wanted = [[0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert [named_patches(truth, caption, 3).int().tolist() for caption in range(4)] == wanted


def test_named_patches_of_a_view():
    truth = SceneTruth(BY_HAND, (), ((Mention((1,), 0, 1),),))
    assert named_patches(truth, 0, 3, object_map=BY_HAND.flip(-1)).tolist() == [False, True, False, False]


@pytest.mark.parametrize("patch_size", [5, 0])
def test_a_patch_that_does_not_divide_is_refused(patch_size):
    with pytest.raises(UserError, match=f"patch_size={patch_size} does not divide an object map of 3×12"):
        patch_objects(BY_HAND, patch_size)
