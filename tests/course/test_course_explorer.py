"""Explorers: a moved widget redraws the picture; where nobody can move one, there is a picture and no widget."""

import io

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from semmim_mini.config import DataConfig
from semmim_mini.course.execute import ENVIRONMENT
from semmim_mini.course.explorer import STATIC, Explorer, explore, has_widgets, read_scene, starting_values
from semmim_mini.data.scene_truth import named_patches
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.figures.style import Drawn
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.instruments.mask_quality import named_and_objects

CONTROLS = {"scene": range(3), "kind": ("line", "bars")}


@pytest.fixture
def draw():
    """A figure of a scene's number; `drawn.asked` lists the choices it was called with."""

    def drawn(scene, kind):
        drawn.asked.append((scene, kind))
        if scene == 2:
            raise UserError("scene 2 is <empty>")
        figure = Figure(figsize=(2, 1))
        axes = figure.add_subplot()
        (axes.plot if kind == "line" else axes.bar)([0, 1], [scene, 1])
        return Drawn(figure, {"scene": float(scene)})

    drawn.asked = []
    return drawn


def test_a_moved_widget_changes_the_picture(draw):
    explorer = Explorer(draw, "Scenes.", CONTROLS)
    first = explorer.image.value
    assert Image.open(io.BytesIO(first)).format == "PNG" and explorer.image.tooltip == "Scenes."
    explorer.controls["scene"].value = 1
    second = explorer.image.value
    explorer.controls["kind"].value = "bars"
    assert len({first, second, explorer.image.value}) == 3
    assert draw.asked == [(0, "line"), (1, "line"), (1, "bars")]
    explorer.controls["kind"].value, explorer.controls["scene"].value = "line", 0
    assert explorer.image.value == first


def test_the_browser_is_told_all_that_it_asks_of_a_picture_with_words(draw):
    # tests/notebooks/test_notebooks_browser.py sees what happens otherwise: an error in the picture's place.
    assert Explorer(draw, "Scenes.", CONTROLS).image.get_state(["tooltip", "description"]) == {"tooltip": "Scenes.", "description": ""}


def test_numbers_slide_and_words_are_listed(draw):
    explorer = Explorer(draw, "Scenes.", CONTROLS, kind="bars")
    kinds = {name: type(control).__name__ for name, control in explorer.controls.items()}
    assert kinds == {"scene": "SelectionSlider", "kind": "Dropdown"}
    assert not explorer.controls["scene"].continuous_update and explorer.controls["kind"].value == "bars"
    assert [control.description for control in explorer.box.children[0].children] == ["scene", "kind"]


def test_what_cannot_be_drawn_is_said_and_the_last_picture_stays(draw):
    explorer = Explorer(draw, "Scenes.", CONTROLS)
    before = explorer.image.value
    explorer.controls["scene"].value = 2
    assert explorer.image.value == before and explorer.message.value == "scene 2 is &lt;empty&gt;"
    explorer.controls["scene"].value = 1
    assert explorer.image.value != before and explorer.message.value == ""


def test_a_plain_figure_will_do():
    figure = Figure(figsize=(1, 1))
    assert Explorer(lambda scene: figure, "A figure.", {"scene": [0]}).image.value


# without widgets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """What notebooks would display, in order."""
    displayed = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    monkeypatch.delenv(STATIC, raising=False)
    return displayed


def test_outside_a_notebook_the_first_picture_is_shown(draw, shown):
    assert not has_widgets()
    explore(draw, "Scenes.", CONTROLS, scene=1)
    data, metadata = shown[0]._repr_mimebundle_()
    assert set(data) == {"image/png"} and metadata["image/png"]["alt"] == "Scenes."
    assert draw.asked == [(1, "line")] and len(shown) == 1


class Shell:
    kernel = object()


def test_in_a_notebook_there_are_widgets(draw, shown, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", Shell)
    assert has_widgets()
    explore(draw, "Scenes.", CONTROLS)
    assert type(shown[0]).__name__ == "VBox" and draw.asked == [(0, "line")]


def test_while_the_course_is_executed_there_are_none(draw, shown, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", Shell)
    monkeypatch.setenv(STATIC, ENVIRONMENT[STATIC])
    assert not has_widgets()
    explore(draw, "Scenes.", CONTROLS)
    assert "image/png" in shown[0]._repr_mimebundle_()[0]


def test_without_ipywidgets_there_are_none(shown, monkeypatch):
    monkeypatch.setattr("IPython.get_ipython", Shell)
    monkeypatch.setattr("semmim_mini.course.explorer.find_spec", lambda name: None)
    assert not has_widgets()


@pytest.mark.parametrize(
    ("controls", "first", "message"),
    [
        (CONTROLS, {"layer": 1}, "layer=1 starts a control that is not there; the controls are scene, kind"),
        (CONTROLS, {"kind": "pie"}, "kind='pie' is no value of its control; choose one of line, bars"),
        ({"scene": []}, {}, "the control scene has no value"),
    ],
)
def test_controls_that_make_no_sense(controls, first, message):
    with pytest.raises(UserError, match=message):
        starting_values(controls, first)


# a scene as a batch ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes():
    return SceneDataset("test", size=6, resolution=32)


@pytest.fixture(scope="module")
def tokenizer(scenes):
    return train_wordpiece([caption for i in range(6) for caption in scenes.captions(i)], 300)


DATA = DataConfig(resolution=32, max_length=20)


def test_a_scene_is_read_as_the_instruments_read_it(scenes, tokenizer):
    held_out = next(held_out_batches(scenes, tokenizer, resolution=32, max_length=20, count=4, batch=4))
    one = read_scene(scenes, tokenizer, DATA, scene=3, caption=held_out.chosen[3])
    length = one.input_ids.shape[1]
    assert torch.equal(one.images[:, 0], held_out.images[:, 3]) and torch.equal(one.input_ids[0], held_out.input_ids[3, :length])
    assert torch.equal(named_and_objects(one, 8)[0][0], named_and_objects(held_out, 8)[0][3])
    assert one.image_ids.tolist() == [held_out.image_ids[3].item()]


def test_another_caption_names_other_things(scenes, tokenizer):
    for caption in range(5):
        one = read_scene(scenes, tokenizer, DATA, scene=1, caption=caption)
        assert torch.equal(one.input_ids, tokenize(tokenizer, [scenes[1].captions[caption]], 20)[0])
        assert torch.equal(named_and_objects(one, 8)[0][0], named_patches(scenes[1].truth, caption, 8))


def test_scenes_and_captions_that_are_not_there(scenes, tokenizer):
    with pytest.raises(UserError, match=r"scene=6 is not in scenes/test; it has 0 to 5"):
        read_scene(scenes, tokenizer, DATA, scene=6)
    with pytest.raises(UserError, match=r"caption=5 is none of scene test 0; it has 0 to 4"):
        read_scene(scenes, tokenizer, DATA, scene=0, caption=5)
