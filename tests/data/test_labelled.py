"""Labelled pictures: one thing alone, the same everywhere, in the right split; and photos from folders, with every mistake."""

import pickle
from collections import Counter

import pytest
import torch
from PIL import Image
from scene_shapes import THINGS, make_shapes

from semmim_mini.data.labelled import PHOTO_TEMPLATES, SCENE_TEMPLATES, Labelled, PictureFolder, SingleObjects, open_labelled
from semmim_mini.data.pairs import BACKGROUND
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.errors import UserError

SHAPES = make_shapes()
CONCEPTS = tuple(sorted(thing[0] for thing in THINGS))


def alone(split="train", **changes):
    return SingleObjects(split, **{"per_class": 4, "cutouts": SHAPES, "resolution": 32, **changes})


# Scenes ---------------------------------------------------------------------------------------------------------------


def test_every_concept_has_equally_many_pictures():
    pictures = alone()
    assert pictures.classes == CONCEPTS and len(pictures) == 4 * len(CONCEPTS)
    assert set(Counter(label for _, label in pictures).values()) == {4}


def test_the_label_is_the_one_thing_to_be_seen():
    for split in ("train", "val", "test", "test_pictures"):
        pictures = alone(split)
        for pair, label in (pictures[i] for i in range(0, len(pictures), 5)):
            (thing,) = pair.truth.objects
            assert thing.concept == pictures.classes[label] == pair.captions[0]
            shown = set(pair.truth.object_map.unique().tolist())
            assert shown == {BACKGROUND, 1} and pair.image.shape == (3, 32, 32)


def test_categories_are_the_same_pictures_under_coarser_names():
    fine, coarse = alone(), alone(level="category")
    assert coarse.classes == ("animal", "thing")
    for (one, _), (other, label) in zip(fine, coarse, strict=True):
        assert torch.equal(one.image, other.image) and coarse.classes[label] == one.truth.objects[0].category


def test_new_pictures_are_new_and_all_other_splits_show_training_s():
    used = {split: {pair.truth.objects[0].cutout_id for pair, _ in alone(split)} for split in ("train", "val", "test", "test_pictures")}
    # Three pictures of each concept: one is kept back, two take turns in training.
    assert len(used["train"]) == 2 * len(CONCEPTS) and used["train"] == used["val"] == used["test"]
    assert len(used["test_pictures"]) == len(CONCEPTS) and not used["test_pictures"] & used["train"]


def test_no_picture_is_in_two_splits_and_none_is_a_scene():
    splits = [alone(split) for split in ("train", "val", "test", "test_pictures")]
    images = {pair.image.numpy().tobytes() for pictures in splits for pair, _ in pictures}
    ids = {pair.image_id for pictures in splits for pair, _ in pictures}
    assert len(images) == len(ids) == sum(map(len, splits))
    assert not ids & {SceneDataset(s, 5, cutouts=SHAPES)[4].image_id for s in ("train", "test_pictures")}


def test_a_picture_depends_on_its_number_only():
    once, again = alone(), alone(per_class=9)
    for i in (0, 7, 30):
        assert torch.equal(once[i][0].image, again[i][0].image)
    assert torch.equal(once[-1][0].image, once[len(once) - 1][0].image)
    assert not torch.equal(once[0][0].image, alone(seed=1)[0][0].image)
    with pytest.raises(IndexError):
        once[len(once)]


def test_pictures_travel_to_workers_as_a_few_numbers():
    embedded = SingleObjects("test_pictures", 2, resolution=32)
    message = pickle.dumps(embedded)
    assert len(message) < 500 and len(embedded.classes) == 171
    assert torch.equal(pickle.loads(message)[3][0].image, embedded[3][0].image)


def test_concepts_without_a_new_picture_keep_their_place_among_the_classes():
    few = make_shapes(THINGS[:9]) + make_shapes(THINGS[9:], pictures=1)  # of the last three nothing can be kept back
    pictures = SingleObjects("test_pictures", 1, cutouts=few)
    assert len(pictures) == 9 and pictures.classes == SingleObjects("train", 1, cutouts=few).classes == CONCEPTS
    assert all(pictures.classes[label] == pair.truth.objects[0].concept for pair, label in pictures)


@pytest.mark.parametrize("wrong", [{"level": "colour"}, {"per_class": 0}, {"split": "dev"}])
def test_impossible_wishes_are_refused(wrong):
    with pytest.raises(UserError, match=repr(next(iter(wrong.values()))).strip("'")):
        alone(**wrong)


def test_templates_have_one_place_for_the_class():
    assert all(template.count("{}") == 1 for template in SCENE_TEMPLATES + PHOTO_TEMPLATES)
    assert "there is a {}" in SCENE_TEMPLATES and "a photo of a {}" in PHOTO_TEMPLATES


# Folders --------------------------------------------------------------------------------------------------------------


def fill(folder, **classes):
    """`fill(folder, hot_dog=2)`: folders of that many pictures, each class in a grey of its own."""
    for shade, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (20, 12), (40 * shade, i, 0)).save(folder / name / f"{i}.png")
    return folder


def test_folders_are_classes(tmp_path):
    pictures = PictureFolder(fill(tmp_path / "animals", hot_dog=2, cat=3))
    assert pictures.classes == ("cat", "hot dog") and pictures.name == "folder/animals"
    found = [(pair.name, label, int(pair.image[0, 0, 0])) for pair, label in pictures]
    assert found == [("cat/0.png", 0, 40), ("cat/1.png", 0, 40), ("cat/2.png", 0, 40), ("hot_dog/0.png", 1, 0), ("hot_dog/1.png", 1, 0)]
    assert pictures[0][0].truth is None and pickle.loads(pickle.dumps(pictures))[4][1] == 1


def test_hidden_files_notes_and_deeper_folders(tmp_path):
    fill(tmp_path, cat=1, dog=1, **{".cache": 1})
    (tmp_path / "cat" / "notes.txt").write_text("mine")
    (tmp_path / "cat" / "._0.png").write_bytes(b"what a Mac leaves behind")
    fill(tmp_path / "dog", puppies=2)
    pictures = PictureFolder(tmp_path)
    assert pictures.classes == ("cat", "dog") and [label for _, label in pictures] == [0, 1, 1, 1]


def test_an_unreadable_picture_gives_way_with_its_label(tmp_path):
    fill(tmp_path, cat=1, dog=1)
    (tmp_path / "cat" / "0.png").write_bytes(b"no picture")
    pair, label = PictureFolder(tmp_path, max_bad_share=0.5)[0]
    assert pair.name == "dog/0.png" and label == 1
    with pytest.raises(UserError, match="1 of 2 pictures cannot be used"):
        PictureFolder(tmp_path)[0]


def test_mistakes_in_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="is no folder"):
        PictureFolder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds 1 class folders"):
        PictureFolder(fill(tmp_path / "one", cat=1))
    with pytest.raises(UserError, match="no pictures in dog"):
        PictureFolder(fill(tmp_path / "two", cat=1, dog=0))


def test_sources_by_name(tmp_path):
    scenes = open_labelled("scenes", "val", resolution=48, per_class=2, level="category")
    assert isinstance(scenes, Labelled)
    assert (scenes.name, len(scenes), len(scenes.classes)) == ("scenes/val, alone", 2 * 171, 13) and scenes[0][0].image.shape[-1] == 48
    whole = fill(tmp_path / "whole", cat=1, train=1)  # a class of locomotives is no split
    photos = open_labelled(f"folder:{whole}", resolution=32)
    assert isinstance(photos, Labelled) and photos.classes == ("cat", "train")
    divided = tmp_path / "divided"
    for split, count in (("train", 3), ("val", 1)):
        fill(divided / split, cat=count, dog=count)
    assert len(open_labelled(f"folder:{divided}", "train", resolution=32)) == 6
    with pytest.raises(UserError, match="has no split 'test'"):
        open_labelled(f"folder:{divided}", "test", resolution=32)
    with pytest.raises(UserError, match="has no split 'train'"):
        open_labelled(f"folder:{whole}", "train", resolution=32)
    with pytest.raises(UserError, match="no source of labelled pictures"):
        open_labelled("imagenet", resolution=32)
