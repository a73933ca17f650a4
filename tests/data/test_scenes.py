"""Scenes as data: the same everywhere, apart from split to split, with objects that can be seen."""

import hashlib
import itertools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scene_shapes import COLORS, THINGS, make_shapes
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.scene_pixels import draw
from semmim_mini.data.scene_splits import SPLITS, Catalogue, pair_split, stable_share
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.errors import UserError

SHAPES = make_shapes()


def shapes(split="train", **changes):
    return SceneDataset(split, **{"size": 300, "cutouts": SHAPES, **changes})


def same(one, other):
    return torch.equal(one.image, other.image) and one.captions == other.captions and one.truth.questions == other.truth.questions


def digest(data, indices):
    whole = hashlib.sha256()
    for pair in (data[i] for i in indices):
        whole.update(pair.image.numpy().tobytes() + pair.truth.object_map.numpy().tobytes() + repr(pair.captions).encode())
        whole.update(repr((pair.truth.objects, pair.truth.questions, pair.truth.mentions)).encode())
    return whole.hexdigest()


# ---------------------------------------------------------------------------------------------------------------- the same


def test_a_scene_is_a_pair():
    data = shapes()
    pair = data[17]
    assert isinstance(data, Pairs) and data.name == "scenes/train" and len(data) == 300
    assert isinstance(pair.image, tv_tensors.Image) and pair.image.shape == (3, 64, 64) and pair.image.dtype == torch.uint8
    assert isinstance(pair.truth.object_map, tv_tensors.Mask) and pair.truth.object_map.shape == (1, 64, 64)
    assert pair.name == "scene train 17" and data.captions(17) == pair.captions


def test_order_size_and_history_do_not_matter():
    forward, longer = shapes(), shapes(size=5000)
    first = [forward[i] for i in range(12)]
    assert all(same(longer[i], first[i]) for i in reversed(range(12)))
    assert same(forward[-1], forward[299])


def test_another_seed_is_another_world():
    assert [shapes(seed=1).captions(i) for i in range(5)] != [shapes().captions(i) for i in range(5)]


def test_another_process_with_another_hash_seed_sees_the_same():
    code = "from test_scenes import digest, SceneDataset; print(digest(SceneDataset('test', size=50), [3, 0, 41]))"
    paths = [os.path.dirname(__file__), *(path for path in sys.path if path)]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(paths)}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == digest(SceneDataset("test", size=50), [3, 0, 41])


def test_plan_and_words_do_not_depend_on_the_resolution():
    small, large = shapes(resolution=32), shapes(resolution=256)
    for index in range(20):
        one, other = small[index], large[index]
        assert one.captions == other.captions and one.truth.questions == other.truth.questions
        assert one.truth.objects == other.truth.objects and one.truth.mentions == other.truth.mentions
        assert (one.truth.object_map == other.truth.object_map[:, 4::8, 4::8]).float().mean() > 0.95


@pytest.mark.parametrize("cutouts", [SHAPES, None])
def test_a_pickled_data_set_draws_the_same(cutouts):
    data = SceneDataset("val", size=9, seed=3, resolution=48, cutouts=cutouts)
    copy = pickle.loads(pickle.dumps(data))
    assert len(copy) == 9 and same(copy[4], data[4])


def test_image_ids_are_unique_over_splits():
    ids = [shapes(split, size=20)[i].image_id for split in SPLITS for i in range(20)]
    assert len(set(ids)) == 80


def test_there_is_no_scene_beyond_the_last():
    with pytest.raises(IndexError, match="there is no scene 300"):
        shapes()[300]


# ------------------------------------------------------------------------------------------------------------------ splits


def concept_pairs(layout):
    names = sorted({cutout.concept for cutout in layout.cutouts})
    return {pair_split(*pair) for pair in itertools.combinations(names, 2)}


def test_the_hash_is_pinned():
    # blake2b with 8 bytes of "pair", "cat", "dog", joined by a unit separator, as a share of 2**64. If it moved, so would every split.
    digest = hashlib.blake2b(b"pair\x1fcat\x1fdog", digest_size=8).hexdigest()
    assert stable_share("pair", "cat", "dog") == int(digest, 16) / 2**64 == pytest.approx(0.25418956268285736, abs=1e-9)
    assert pair_split("cat", "dog") == pair_split("dog", "cat")
    assert pair_split("dog", "dog") == "train"


def test_held_out_shares_of_the_pairs():
    names = [f"thing {i}" for i in range(80)]
    splits = [pair_split(*pair) for pair in itertools.combinations(names, 2)]  # 3,160 pairs
    assert 0.08 < splits.count("val") / 3160 < 0.12 and 0.08 < splits.count("test") / 3160 < 0.12


@pytest.mark.parametrize("cutouts", [SHAPES, None])
def test_combinations_of_concepts_stay_apart(cutouts):
    train, val, test, pictures = (SceneDataset(split, cutouts=cutouts) for split in SPLITS)
    for index in range(150):
        assert concept_pairs(train.layout(index)) <= {"train"}
        assert "val" in (found := concept_pairs(val.layout(index))) and "test" not in found
        assert "test" in (found := concept_pairs(test.layout(index))) and "val" not in found
        assert concept_pairs(pictures.layout(index)) <= {"train"}


def test_held_out_scenes_also_hold_known_pairs():
    val = SceneDataset("val", cutouts=SHAPES)
    assert any("train" in concept_pairs(val.layout(index)) for index in range(50))


@pytest.mark.parametrize("cutouts", [SHAPES, None])
def test_reserved_pictures_are_shown_nowhere_else(cutouts):
    def shown(split):
        data = SceneDataset(split, cutouts=cutouts)
        return {cutout.id for index in range(150) for cutout in data.layout(index).cutouts}

    assert not shown("test_pictures") & (shown("train") | shown("val") | shown("test"))


def test_one_picture_of_each_concept_is_reserved_from_three_on():
    def ids(cutouts, split):
        return {concept.name: [cutout.id for cutout in concept.cutouts] for concept in Catalogue(cutouts, split).concepts}

    kept, reserved = ids(SHAPES, "train"), ids(SHAPES, "test_pictures")
    assert all(len(kept[name]) == 2 and len(reserved[name]) == 1 for name, _, _ in THINGS)
    assert all(len(pictures) == 2 for pictures in ids(make_shapes(pictures=2), "train").values())


def test_what_could_be_called_by_the_same_name_never_meets():
    data = shapes()
    for index in range(300):
        concepts = {cutout.concept for cutout in data.layout(index).cutouts}
        assert not {"car", "police car"} <= concepts


# ------------------------------------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("cutouts", [SHAPES, None])
def test_objects_cover_a_quarter_to_a_third(cutouts):
    data = SceneDataset("train", cutouts=cutouts)
    cover = np.array([(data[i].truth.object_map > 0).float().mean() for i in range(200)])
    assert 0.22 < cover.mean() < 0.34 and cover.min() > 0.03 and cover.max() < 0.6


def test_counts_of_objects():
    data = shapes()
    concepts = [[cutout.concept for cutout in data.layout(i).cutouts] for i in range(300)]
    counts = [len(names) for names in concepts]
    assert set(counts) == {1, 2, 3, 4} and 2.5 < np.mean(counts) < 2.9
    assert 20 < sum(len(set(names)) < len(names) for names in concepts) < 150  # something to count, but not always


@pytest.mark.parametrize("resolution", [64, 96])
def test_every_object_stays_visible_and_inside(resolution):
    data = SceneDataset("val", resolution=resolution)
    for index in range(60):
        layout, seen = data.layout(index), data[index].truth.object_map[0].numpy()
        for value, thing in enumerate(zip(layout.cutouts, layout.poses, strict=True), start=1):
            alone = draw(layout.background, [thing], resolution)[1] == 1
            assert (seen == value)[alone].mean() > 0.39 and not (seen == value)[~alone].any()
            rows, columns = np.flatnonzero(alone.any(1)), np.flatnonzero(alone.any(0))
            box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / resolution
            np.testing.assert_allclose(box, layout.boxes[value - 1], atol=2.5 / 64)
            assert 0.13 < max(box[2] - box[0], box[3] - box[1]) < 0.8


def test_hidden_shares_count_pixels():
    data = shapes(resolution=128)
    for index in range(40):
        layout, seen = data.layout(index), data[index].truth.object_map[0].numpy()
        for i, thing in enumerate(zip(layout.cutouts, layout.poses, strict=True)):
            alone = draw(layout.background, [thing], 128)[1] == 1
            counted = [(seen == j + 1)[alone].mean() for j in range(len(layout.cutouts))]
            np.testing.assert_allclose(counted, layout.hidden[i], atol=0.06)


def test_pixels_of_an_object_have_its_colours():
    data = shapes()
    for index in range(30):
        pair = data[index]
        for value, thing in enumerate(pair.truth.objects, start=1):
            rgb = pair.image[:, pair.truth.object_map[0] == value].int().T
            own = [(rgb - torch.tensor(COLORS[color])).abs().amax(1) < 30 for color in thing.colors]
            assert torch.stack(own).any(0).float().mean() > 0.7


# ------------------------------------------------------------------------------------------------------------------ errors


def test_unknown_split_lists_the_known():
    with pytest.raises(UserError, match=r"split='dev' .*train, val, test, test_pictures"):
        SceneDataset("dev", cutouts=SHAPES)


@pytest.mark.parametrize(("field", "value", "least"), [("size", 0, 1), ("resolution", 15, 16), ("seed", -1, 0)])
def test_impossible_numbers(field, value, least):
    with pytest.raises(UserError, match=rf"{field}={value} is too small for scenes; choose {least} or more"):
        SceneDataset(**{field: value}, cutouts=SHAPES)


def test_too_few_concepts():
    with pytest.raises(UserError, match=r"hold 7 concepts .* at least 8"):
        SceneDataset(cutouts=make_shapes(THINGS[:7]))


def test_a_name_too_long_for_captions():
    with pytest.raises(UserError, match="'cup of very hot tea' has more than 3 words"):
        SceneDataset(cutouts=make_shapes((*THINGS, ("cup of very hot tea", ("cup of very hot tea",), "teas"))))


def test_too_few_pictures_to_reserve_any():
    with pytest.raises(UserError, match="hold 0 concepts for scenes/test_pictures"):
        SceneDataset("test_pictures", cutouts=make_shapes(pictures=2))
