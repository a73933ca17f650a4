"""Stamps and backgrounds, by hand."""

import math

import numpy as np
import pytest

from semmim_mini.data.cutouts import Cutout
from semmim_mini.data.scene_pixels import Background, Pose, draw, paint, stamp

RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (128, 128, 128)


def flag() -> Cutout:
    """40×40 px, red on the left, blue on the right."""
    picture = np.zeros((40, 40, 4), np.uint8)
    picture[:, :20], picture[:, 20:] = (*RED, 255), (*BLUE, 255)
    return Cutout("flag_1", "flag", ("flag",), "flags", "thing", ("red", "blue"), picture)


def ground(kind="plain", tones=(GREY, GREY), turn=0.0, scale=4.0) -> Background:
    return Background(kind, np.array(tones, np.uint8), None, turn, scale, np.zeros((5, 5)))


def half_red(turn: float, mirrored: bool) -> str:
    """The half of the drawn flag that is red."""
    pixels = draw(ground(), [(flag(), Pose(0.5, 0.5, 0.5, turn, mirrored))], 80)[0]
    at = {"left": (40, 28), "right": (40, 52), "top": (28, 40), "bottom": (52, 40)}
    spots = {name: pixels[y - 2 : y + 2, x - 2 : x + 2].mean((0, 1)) for name, (y, x) in at.items()}
    (half,) = [name for name, rgb in spots.items() if rgb[0] > 200 and rgb[2] < 50]
    return half


@pytest.mark.parametrize(
    ("turn", "mirrored", "half"), [(0, False, "left"), (0, True, "right"), (90, False, "top"), (90, True, "bottom"), (-90, False, "bottom")]
)
def test_turned_clockwise_and_mirrored_before(turn, mirrored, half):
    assert half_red(math.radians(turn), mirrored) == half


def test_place_and_size_in_shares_of_the_side():
    owner = draw(ground(), [(flag(), Pose(0.25, 0.75, 0.25, 0.0, False))], 80)[1]
    assert owner.sum() == 20 * 20 and owner[50:70, 10:30].all()


def test_the_later_thing_covers_the_earlier():
    owner = draw(ground(), [(flag(), Pose(0.5, 0.5, 0.5, 0.0, False)), (flag(), Pose(0.5, 0.5, 0.25, 0.0, False))], 80)[1]
    assert (owner == 2).sum() == 400 and (owner == 1).sum() == 1600 - 400


def test_half_transparent_pixels_blend_by_half():
    cutout = flag()
    cutout.picture[..., 3] = 128
    pixels, owner = draw(ground(), [(cutout, Pose(0.5, 0.5, 0.5, 0.0, False))], 80)
    np.testing.assert_allclose(pixels[40, 28], (192, 64, 64), atol=2)
    assert owner[40, 28] == 1


def test_a_stamp_is_premultiplied():
    pixels, _, _ = stamp(flag(), Pose(0.5, 0.5, 0.3, 0.2, False), 64)
    assert (pixels[..., :3] <= pixels[..., 3:]).all()


def test_backgrounds():
    tones = ((0, 0, 0), (200, 100, 50))
    assert (paint(ground("plain", tones), 16) == 0).all()
    horizon = paint(ground("ground", tones, scale=0.5), 32)
    assert (horizon[:15] == 0).all() and (horizon[17:] == tones[1]).all()
    gradient = paint(ground("gradient", tones), 32)[:, :, 0].astype(int)
    assert (np.diff(gradient, axis=1) >= 0).all() and (np.diff(gradient, axis=0) == 0).all()
    checks = paint(ground("checks", tones, scale=2), 32)
    assert checks[8, 8, 0] == checks[24, 24, 0] == 200 and checks[8, 24, 0] == checks[24, 8, 0] == 0
    stripes = paint(ground("stripes", tones, scale=4), 64)[0, :, 0]
    assert (np.diff(stripes > 100) != 0).sum() == 7  # four light stripes and four dark ones


@pytest.mark.parametrize("kind", ["plain", "gradient", "ground", "stripes", "checks", "blobs"])
def test_a_background_is_the_same_picture_at_any_resolution(kind):
    background = Background(kind, np.array([(10, 10, 10), (200, 200, 200)], np.uint8), None, 0.7, 0.5 if kind == "ground" else 4, NOISE)
    small, large = (paint(background, resolution).astype(float) for resolution in (64, 256))
    # Soft edges are two pixels wide, so that narrow ones differ a little.
    assert np.abs(large.reshape(64, 4, 64, 4, 3).mean((1, 3)) - small).mean() < 12


NOISE = np.random.default_rng(0).random((5, 5))
