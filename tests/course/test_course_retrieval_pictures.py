"""Pictures of notebook 09: the numbers that they claim, on galleries whose ranks are known."""

import pytest
import torch

from semmim_mini.course.answers_pictures import DIRECTIONS, all_captions, answers_to, captions_found, pictures_found
from semmim_mini.course.explorer import Explorer
from semmim_mini.course.pictures import png
from semmim_mini.course.retrieval_pictures import gallery_curve, ranks_in_a_matrix, rerank_curve, two_beginnings
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.errors import UserError
from semmim_mini.figures.style import GREEN, WIDTH

IMAGES = 8  # of the gallery, each with five captions


@pytest.fixture(scope="module")
def scenes():
    return SceneDataset("test", size=IMAGES, resolution=32)


@pytest.fixture(scope="module")
def found():
    """Image i is unit vector i; its captions are, but for the first of image 2, which lies between image 3 and its own."""
    owners = torch.arange(IMAGES).repeat_interleave(5)
    image = torch.eye(IMAGES)
    text = image[owners]
    text[10] = 0.6 * image[2] + 0.8 * image[3]
    ids = torch.arange(100, 100 + IMAGES)
    return {"image": image, "text": text, "image_ids": ids, "text_ids": ids[owners], "owners": owners}


def check(drawn):
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000 and drawn.number


def words(drawn) -> list[str]:
    return [text.get_text() for text in drawn.figure.texts]


def test_ranks_stand_beside_their_queries():
    owners, ranks = torch.tensor([0, 0, 1]), (torch.tensor([1, 3]), torch.tensor([1, 2, 1]))
    drawn = ranks_in_a_matrix(torch.rand(2, 3), owners, ranks)
    check(drawn)
    assert drawn.number == {"image_to_text": 0.5, "text_to_image": pytest.approx(2 / 3)}
    assert [text.get_text() for text in drawn.figure.axes[0].texts] == ["image 1", "1", "image 2", "3", "1", "2", "1"]
    hits = [text.get_text() for text in drawn.figure.axes[0].texts if text.get_color() == GREEN]
    assert hits == ["1", "1", "1"]


def test_the_smallest_and_the_largest_gallery_are_told():
    drawn = gallery_curve([10, 100], {"image_to_text": [0.5, 0.1], "text_to_image": [0.4, 0.05]})
    check(drawn)
    assert drawn.number == {"image_to_text_10": 0.5, "image_to_text_100": 0.1, "text_to_image_10": 0.4, "text_to_image_100": 0.05}


def test_reranking_is_told_from_one_candidate_to_the_most():
    recall = {way: {"match": [0.2, 0.1], "both": [0.2, 0.25], "perfect": [0.2, 0.6]} for way in ("image_to_text", "text_to_image")}
    drawn = rerank_curve([1, 8], recall, [100, 700], 5000)
    check(drawn)
    assert drawn.number["image_to_text_itc"] == 0.2 and drawn.number["text_to_image_both"] == 0.25
    assert drawn.number["text_to_image_match"] == 0.1 and drawn.number["image_to_text_perfect"] == 0.6
    assert "20\u00a0% → 25\u00a0%" in words(drawn)[0] and any("5,000" in line for line in words(drawn))


def test_two_beginnings_are_compared_by_their_last_quarter():
    def log(losses):
        return [{"step": i, "loss": {"itc": x, "itm": x}, "chance": {"itc": 3.5, "itm": 0.64}} for i, x in enumerate(losses)]

    drawn = two_beginnings({"old": log([9.0] * 6 + [1.0, 2.0]), "new": log([3.0] * 8)})
    check(drawn)
    assert drawn.number["old itc"] == 1.5 and drawn.number["new itm"] == 3.0 and drawn.number["chance itc"] == 3.5


# Answers --------------------------------------------------------------------------------------------------------------


def test_captions_are_in_the_order_of_the_features(scenes):
    captions = all_captions(scenes, 3)
    assert captions[5:10] == list(scenes.captions(1)) and len(captions) == 15


def test_a_caption_finds_its_picture_or_says_its_place(found, scenes):
    drawn = pictures_found(found, scenes, (0, 10), 32)
    check(drawn)
    assert drawn.number == {"r1": 0.5, "r5": 1.0, "gallery": float(IMAGES)}
    assert "2 captions among 8 pictures: 1 find a right answer first, 2 among the first 5" in words(drawn)[0]
    assert "its own, place 1" in words(drawn) and "its own, place 2" in words(drawn)
    assert len(drawn.figure.axes) == 12  # of each caption its own picture and five answers
    framed = [i for i, axes in enumerate(drawn.figure.axes) if axes.spines["left"].get_visible()]
    assert framed == [1, 8]  # the first answer to the one, the second to the other; not the picture that stands at the left


def test_a_picture_finds_its_captions(found, scenes):
    drawn = captions_found(found, scenes, (2,), 32)
    check(drawn)
    assert drawn.number == {"r1": 1.0, "r5": 1.0, "gallery": 5.0 * IMAGES}
    assert words(drawn)[0].startswith("The best right answer has place 1 of 40; a random order would give it about 7")
    shown = [text for text in drawn.figure.texts if text.get_text()[:4] in ("1.00", "0.60")]
    assert len(shown) == 5 and all(text.get_color() == GREEN for text in shown)


def test_what_can_be_explored(found, scenes):
    assert answers_to(found, scenes, 32, direction="text→image", scene=2, caption=0).number["r1"] == 0.0
    assert answers_to(found, scenes, 32, direction="text→image", scene=2, caption=1).number["r1"] == 1.0
    assert answers_to(found, scenes, 32, direction="image→text", scene=2).number["gallery"] == 40.0
    for choice, message in (
        ({"direction": "up", "scene": 0}, "direction='up' is none; choose one of text→image, image→text"),
        ({"direction": "text→image", "scene": 8}, "scene=8 is not in the gallery; it has 0 to 7"),
        ({"direction": "text→image", "scene": 0, "caption": 5}, "caption=5 is none of scene 0; it has 0 to 4"),
    ):
        with pytest.raises(UserError, match=message):
            answers_to(found, scenes, 32, **choice)


def test_widgets_change_the_query(found, scenes):
    def draw(**choices):
        return answers_to(found, scenes, 32, **choices)

    explorer = Explorer(draw, "Answers.", {"direction": DIRECTIONS, "scene": range(IMAGES), "caption": range(5)})
    seen = {explorer.image.value}
    for name, value in (("scene", 2), ("caption", 1), ("direction", "image→text")):
        explorer.controls[name].value = value
        seen.add(explorer.image.value)
    assert len(seen) == 4 and explorer.message.value == ""
