"""Views: what may change does, what the caption says does not, and the truth follows."""

import colorsys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair, SceneTruth
from semmim_mini.data.views import IMAGENET_MEAN, IMAGENET_STD, OPERATIONS, CenterView, TwoViews, crop_box, names_a_side
from semmim_mini.errors import UserError


def square_pair(side: int = 64, box=(16, 16, 40, 40), caption: str = "a red square") -> Pair:
    """A red square on blue whose object map is exactly the square."""
    top, left, bottom, right = box
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    image[2] = 255
    image[:, top:bottom, left:right] = torch.tensor([255, 0, 0], dtype=torch.uint8)[:, None, None]
    truth = torch.zeros(1, side, side, dtype=torch.uint8)
    truth[:, top:bottom, left:right] = 1
    return Pair(tv_tensors.Image(image), (caption,), 1, "square", SceneTruth(tv_tensors.Mask(truth), (), ((),)))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def red(pixels: torch.Tensor) -> torch.Tensor:
    return pixels[..., 0, :, :] > pixels[..., 2, :, :]


@pytest.mark.parametrize("randaugment", [None, (2, 7), (3, 10)])
def test_the_truth_follows_the_view(randaugment):
    views, pair = TwoViews(64, (0.2, 1.0), randaugment, with_truth=True), square_pair()
    overlap = []
    for seed in range(60):
        seen = views(pair, "a red square", seeded(seed))
        assert seen.pixels.shape == (2, 3, 64, 64) and seen.object_map.shape == (2, 1, 64, 64)
        assert set(seen.object_map.unique().tolist()) <= {0, 1}  # never blended
        square, truth = red(seen.pixels), seen.object_map[:, 0] == 1
        if truth.sum() > 100:
            overlap.append(((square & truth).sum() / (square | truth).sum()).item())
    assert len(overlap) > 50 and min(overlap) > 0.85  # borders may be off by a pixel


def test_views_differ_from_each_other_and_repeat_with_the_seed():
    views, pair = TwoViews(32), square_pair()
    one, again, other = (views(pair, "a dog", seeded(s)).pixels for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other) and not torch.equal(one[0], one[1])


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    TwoViews(32)(square_pair(), "a dog", seeded(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def left_is_left(seen) -> torch.Tensor:
    """For each view: whether the red half is still on the left."""
    columns = red(seen.pixels).float().mean(dim=1)
    return columns[:, :16].mean(dim=1) > columns[:, -16:].mean(dim=1)


HALVES = square_pair(box=(0, 0, 64, 32))  # the left half is red
GENTLE = dict(scale=(0.8, 1.0), randaugment=(2, 7))


def test_a_side_in_the_caption_rules_out_mirroring():
    views = TwoViews(64, **GENTLE)
    assert all(left_is_left(views(HALVES, "the Left half is red", seeded(s))).all() for s in range(250))


def test_without_a_side_half_of_the_views_are_mirrored():
    views = TwoViews(64, **GENTLE)
    share = torch.stack([left_is_left(views(HALVES, "one half is red", seeded(s))) for s in range(250)]).float().mean()
    assert 0.42 < share < 0.58  # 500 draws: 3.5 standard deviations


@pytest.mark.parametrize("word", ["left", "right", "RIGHT", "leftmost", "right-hand", "rightwards", "left.", "(right)"])
def test_words_that_name_a_side(word):
    assert names_a_side(f"a dog {word} of a cat") and names_a_side(word)


@pytest.mark.parametrize("caption", ["an upright post", "bright light", "a cleft rock", "copyright", ""])
def test_words_that_only_look_like_it(caption):
    assert not names_a_side(caption)


@given(size=st.tuples(st.integers(1, 300), st.integers(1, 300)), draws=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 4))
def test_a_crop_lies_inside_and_keeps_its_share(size, draws):
    top, left, height, width = crop_box(*size, (0.2, 1.0), *draws)
    assert min(top, left) >= 0 and min(height, width) >= 1
    assert top + height <= size[0] and left + width <= size[1]


def test_crop_by_hand():
    # Half of 100 × 100 at ratio 1 (the middle of the logarithmic range): a square of side √5000 = 70.7 → 71.
    assert crop_box(100, 100, (0.0, 1.0), 0.5, 0.5, 0.0, 0.999) == (0, 29, 71, 71)


@given(draws=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 4))
def test_all_of_the_area_is_the_view_of_evaluation(draws):
    """A crop of random shape could not keep it all."""
    assert crop_box(100, 60, (1.0, 1.0), *draws) == (20, 0, 60, 60)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("draw", [-1.0, -0.4, 0.4, 1.0])
@pytest.mark.parametrize("color", [(255, 165, 0), (120, 60, 20), (30, 90, 200), (250, 200, 210)])
def test_no_operation_turns_the_hue(operation, draw, color):
    image = torch.tensor(color, dtype=torch.uint8)[:, None, None].repeat(1, 32, 32)
    image[:, :8] = 16  # with something darker, so that contrast and sharpness have work to do
    after, _ = operation(image, None, 0.7, draw)
    hue, new = (colorsys.rgb_to_hsv(*x)[0] for x in (color, after[:, 20, 16].tolist()))
    assert abs(hue - new) < 0.02


def test_no_operation_mirrors_or_loses_the_picture():
    image = HALVES.image.as_subclass(torch.Tensor)
    for operation in OPERATIONS:
        for draw in (-1.0, 1.0):
            after = red(operation(image, None, 0.7, draw)[0])
            assert after[:, :16].float().mean() > 0.7 and after[:, 48:].float().mean() < 0.1, operation.__name__


def test_translation_by_hand():
    from semmim_mini.data.views import translate_x

    pair = square_pair(box=(16, 16, 40, 40))
    image, truth = translate_x(pair.image.as_subclass(torch.Tensor), pair.truth.object_map, 1.0, 0.5)
    # 10/256 of 64 px at full strength is 2.5 px, 2 whole ones; what comes in from outside is grey.
    assert truth[0, 20].nonzero().flatten().tolist() == list(range(18, 42))
    assert image[:, 0, :2].unique().tolist() == [128] and image[:, 0, 2].tolist() == [0, 0, 255]


def test_brightness_never_clips_a_colour():
    from semmim_mini.data.views import brightness

    orange = torch.tensor([255, 165, 0], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    assert torch.equal(brightness(orange, None, 1.0, 1.0)[0], orange)
    assert brightness(orange, None, 1.0, -1.0)[0][:, 0, 0].tolist() == [178, 115, 0]  # × 0.7


def test_normalisation_by_hand():
    white = Pair(tv_tensors.Image(torch.full((3, 8, 8), 255, dtype=torch.uint8)), ("x",), 1, "white")
    torch.testing.assert_close(CenterView(8)(white).pixels, torch.ones(3, 8, 8))  # (1 − 0.5) / 0.5
    pixels = CenterView(8, mean=IMAGENET_MEAN, std=IMAGENET_STD)(white).pixels[:, 0, 0]
    torch.testing.assert_close(pixels, torch.tensor([0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]))


def test_the_centre_of_an_oblong_picture():
    image = torch.zeros(3, 8, 16, dtype=torch.uint8)
    image[:, :, 4:12] = 255  # white in the middle square, black on both sides
    pixels = CenterView(4)(Pair(tv_tensors.Image(image), ("x",), 1, "oblong")).pixels
    assert pixels.shape == (3, 4, 4) and pixels.min() > 0.9


@settings(max_examples=20, deadline=None)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), seed=st.integers(0, 99))
def test_any_size_of_picture_gives_the_resolution(size, seed):
    pair = Pair(tv_tensors.Image(torch.randint(0, 256, (3, *size), dtype=torch.uint8)), ("x",), 1, "any")
    assert TwoViews(16)(pair, "x", seeded(seed)).pixels.shape == (2, 3, 16, 16)
    assert CenterView(16)(pair).pixels.shape == (3, 16, 16)


def test_the_square_and_its_truth_in_the_evaluation_view():
    seen = CenterView(32, with_truth=True)(square_pair())
    truth = torch.zeros(32, 32, dtype=torch.bool)
    truth[8:20, 8:20] = True
    assert torch.equal(seen.object_map[0] == 1, truth) and torch.equal(red(seen.pixels), truth)


@pytest.mark.parametrize("view", [lambda p: CenterView(8, with_truth=True)(p), lambda p: TwoViews(8, with_truth=True)(p, "x", seeded(0))])
def test_the_truth_of_a_photo_is_refused(view):
    photo = Pair(tv_tensors.Image(torch.zeros(3, 8, 8, dtype=torch.uint8)), ("x",), 1, "dog.jpg")
    with pytest.raises(UserError, match=r"dog.jpg has no object map.*data.source=scenes"):
        view(photo)
