"""Patterns, code maps and components: chosen by rule, coloured by match, numbers of the instruments."""

import numpy as np
import pytest
import torch

from semmim_mini.figures.codes import GROUND, PALES, _rgb, code_colours, code_map, match, object_colours
from semmim_mini.figures.patterns import (
    Best,
    best_patches,
    chance_purity,
    choose,
    concept_names,
    crop,
    most_common,
    patch_grid,
    pattern_layout,
    telling_patches,
)
from semmim_mini.figures.pca import pca_of_patches, three_colours
from semmim_mini.figures.style import BLUE, ORANGE
from semmim_mini.instruments.semantics import concept_labels, patch_codes, semantics, untrained

PATCH = 8


@pytest.fixture(scope="module")
def seen(batches, scenes):
    return batches(scenes)


@pytest.fixture(scope="module")
def before(model, seen):
    return untrained(model, seen)


# patterns


def test_patterns_of_scenes(model, seen, before, check):
    drawn = pattern_layout(before, model.teacher, seen, PATCH, prototypes=3, per=4)
    check(drawn)
    assert set(drawn.number) == {"purity", "purity_untrained", "purity_chance"}
    assert all(0.25 <= value <= 1 for value in drawn.number.values())


def test_patterns_of_photos_have_scores_only(model, batches, photos, before, check):
    drawn = pattern_layout(before, model.teacher, batches(photos), PATCH, prototypes=3, per=4)
    check(drawn)
    assert set(drawn.number) == {"score", "score_untrained"}


def test_best_patches_are_the_encoders(model, seen):
    best, codes = best_patches(model.teacher, seen, chunk=3), patch_grid(patch_codes(model.teacher, seen), seen)
    with torch.no_grad():
        scores = torch.cat([model.teacher.space.patch(model.teacher.image(b.images[0])[:, 1:]) for b in seen]).numpy()
    np.testing.assert_allclose(best.scores, scores.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, best.places[:, None], axis=1)[:, 0], best.scores, atol=1e-5)
    for image in range(len(codes)):
        assert set(np.flatnonzero(best.hits[image])) == set(codes[image].flatten())


def test_the_rule_by_hand():
    # Four images, four prototypes: 0 scores high on ground, 1 is hit in one image only, 2 beats 3.
    scores = np.array([[0.9, 0.99, 0.5, 0.4], [0.9, 0.1, 0.6, 0.5], [0.9, 0.1, 0.1, 0.3], [0.8, 0.1, 0.2, 0.3]])
    places = np.array([[0, 1, 1, 1]] * 4)
    hits = np.array([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1]], dtype=bool)
    telling = np.array([[False, True]] * 4)
    chosen = choose(Best(scores, places, hits), telling, prototypes=2, per=2)
    assert [p.prototype for p in chosen] == [2, 3]
    assert chosen[0].images.tolist() == [1, 0] and chosen[1].images.tolist() == [1, 0]  # best first
    everything = choose(Best(scores, places, hits), telling, prototypes=9, per=2)
    assert [p.prototype for p in everything] == [2, 3, 0, 1]  # the rest fills up: ground, then the one hardly in use


def test_no_picture_twice_in_a_row(model, seen):
    for pattern in choose(best_patches(model.teacher, seen), telling_patches(seen, PATCH), 6, 5):
        assert len(set(pattern.images.tolist())) == 5


def test_purity_by_hand():
    assert most_common(np.array([4, 7, 7, 0])) == (7, 0.5)
    assert chance_purity(np.array([[0, 3], [3, 0], [0, 0], [3, 3]]), per=2) == 1.0
    two_kinds = chance_purity(np.array([[1], [2]]), per=2)
    assert two_kinds == 0.5


def test_names_follow_the_labels(seen):
    labels, names = concept_labels(seen, PATCH), concept_names(seen)
    assert names[0] == "background" and labels.max() < len(names)
    first = seen[0].pairs[0].truth.objects[0].concept
    assert names[1] == first


def test_telling_patches_of_photos_have_contrast(batches, photos):
    seen = batches(photos)
    assert telling_patches(seen, PATCH).mean() == pytest.approx(0.5, abs=0.05)


def test_crops_are_three_patches_wide_and_white_outside():
    image = torch.full((3, 16, 16), -1.0)
    image[:, :8, 8:] = 0.0  # patch 1
    shown = crop(image, 1, 8)
    assert shown.shape == (24, 24, 3)
    assert (shown[:8] == 1).all() and (shown[:, 16:] == 1).all()
    assert (shown[8:16, 8:16] == 0.5).all() and (shown[16:, :16] == 0).all()


# code maps


def test_code_maps_have_the_instruments_numbers(model, seen, before, check):
    drawn = code_map(before, model.teacher, seen, PATCH, rows=2)
    check(drawn)
    measured = semantics(model, seen)
    assert drawn.number == pytest.approx({key: measured[key] for key in ("ami", "ami_random_init", "ami_pixel_kmeans")})
    assert len(drawn.figure.axes) == 10


def test_codes_and_objects_are_matched_one_to_one():
    objects = np.array([[0, 0, 1], [0, 2, 1], [0, 2, 1]])
    codes = np.array([[9, 9, 5], [9, 7, 5], [9, 5, 5]])
    assert match(codes, objects) == {9: 0, 5: 1, 7: 2}
    # One code for everything matches one thing only.
    assert match(np.zeros((3, 3), dtype=int), objects) == {0: 0}


def test_a_perfect_code_map_looks_like_the_truth():
    objects = np.array([[0, 0, 1], [0, 2, 1], [0, 2, 1]])
    np.testing.assert_array_equal(code_colours(objects + 40, objects), object_colours(objects))


def test_unmatched_codes_are_pale():
    shown = code_colours(np.array([[3, 3, 4, 4, 4, 6]]), np.array([[1, 1, 1, 0, 0, 1]]))
    np.testing.assert_allclose(shown[0, 0], _rgb(ORANGE))
    np.testing.assert_allclose(shown[0, 3], _rgb(GROUND))
    np.testing.assert_allclose(shown[0, 5], _rgb(PALES[0]))


def test_the_second_object_is_blue():
    np.testing.assert_allclose(object_colours(np.array([2]))[0], _rgb(BLUE))


# components


def test_components_of_scenes_and_photos(model, seen, batches, photos, before, check):
    for batch in (seen, batches(photos)):
        drawn = pca_of_patches(before, model.teacher, batch)
        check(drawn)
        assert 0 < drawn.number["explained"] <= 1 and 0 < drawn.number["explained_untrained"] <= 1


def test_three_dimensions_are_explained_by_three_components():
    draw = np.random.default_rng(0)
    features = draw.normal(size=(200, 3)) @ draw.normal(size=(3, 12))
    colours, explained = three_colours(features)
    assert explained == pytest.approx(1) and colours.min() == 0 and colours.max() == 1


def test_a_grid_has_the_encoders_order():
    class Two:
        pairs = (None, None)

    values = np.arange(8)
    np.testing.assert_array_equal(patch_grid(values, [Two()]), [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
