r"""A picture with controls: widgets where somebody can move them, a still picture everywhere else.

    scene ▢  caption ▢  strategy ▢   ─►  draw(scene=…, caption=…, strategy=…)  ─►  PNG

A notebook that is read as a page, executed for its committed outputs (`course.execute` sets SEMMIM_STATIC) or run without ipywidgets
has nobody to move a slider. There `explore` shows what the first values draw, and leaves no widget behind: its state would differ in
every run. Any function that returns a figure can be explored; `read_scene` makes the batch that most of them start from.
"""

import html
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
from einops import repeat
from matplotlib.figure import Figure

from semmim_mini.config import DataConfig
from semmim_mini.course.pictures import SHOWN, png, show
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.figures.style import WIDTH, Drawn
from semmim_mini.instruments.held_out import HeldOut

STATIC = "SEMMIM_STATIC"  # set to anything: still pictures, no widgets


def explore(draw: Callable[..., Drawn | Figure], alt: str, controls: Mapping[str, Sequence], **first: Any) -> None:
    """Show `draw(**choices)` below the cell, with a control for each choice where there is somebody to move it.

    Args:
        draw: called with one value of every control, by name.
        alt: what is to be seen, in one sentence, for screen readers.
        controls: for each name the values to choose from.
        first: where a control starts; without one, at its first value.

    Raises:
        UserError: a control without values, or a first value that is none of them.
    """
    if not has_widgets():
        show(draw(**starting_values(controls, first)), alt)
        return
    from IPython.display import display

    display(Explorer(draw, alt, controls, **first).box)


def has_widgets() -> bool:
    """Whether widgets would be seen: in the kernel of a notebook, with ipywidgets installed, and not while the course is executed."""
    if os.environ.get(STATIC) or find_spec("ipywidgets") is None:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


def starting_values(controls: Mapping[str, Sequence], first: Mapping[str, Any]) -> dict[str, Any]:
    """The value that each control has before anybody moves it."""
    for name, value in first.items():
        if name not in controls:
            raise UserError(f"{name}={value!r} starts a control that is not there; the controls are {', '.join(controls)}")
    for name, values in controls.items():
        if len(values) == 0:
            raise UserError(f"the control {name} has no value to choose; give it at least one")
        if name in first and first[name] not in values:
            raise UserError(f"{name}={first[name]!r} is no value of its control; choose one of {', '.join(map(str, values))}")
    return {name: first.get(name, values[0]) for name, values in controls.items()}


class Explorer:
    """The widgets of `explore`. `controls[name].value = …` moves one, as a hand would; `image.value` is the PNG that is shown."""

    def __init__(self, draw: Callable[..., Drawn | Figure], alt: str, controls: Mapping[str, Sequence], **first: Any):
        import ipywidgets

        self.draw = draw
        self.controls = {name: _control(name, controls[name], value) for name, value in starting_values(controls, first).items()}
        self.image = _described_image(alt)
        self.message = ipywidgets.HTML()
        for control in self.controls.values():
            control.observe(self._redraw, names="value")
        rows = ipywidgets.HBox(list(self.controls.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.box = ipywidgets.VBox([rows, self.message, self.image])
        self._redraw()

    def _redraw(self, _change: Any = None) -> None:
        """A choice that cannot be drawn leaves the last picture, and says why: an error in a callback would be lost."""
        try:
            drawn = self.draw(**{name: control.value for name, control in self.controls.items()})
        except UserError as error:
            self.message.value = html.escape(str(error))
            return
        self.message.value = ""
        self.image.value = png(drawn.figure if isinstance(drawn, Drawn) else drawn)


def _described_image(alt: str):
    """An empty picture with words for who cannot see it.

    ipywidgets 8 asks whatever has a tooltip for its description, which its images lack: in the browser an error would stand in their place.
    """
    import ipywidgets
    from traitlets import Unicode

    class DescribedImage(ipywidgets.Image):
        description = Unicode("").tag(sync=True)

    return DescribedImage(format="png", width=round(WIDTH * SHOWN), tooltip=alt)


def _control(name: str, values: Sequence, value: Any):
    """A slider for numbers, a list for everything else. A slider draws when it is let go, not at every step in between."""
    import ipywidgets

    how = {"options": list(values), "value": value, "description": name.replace("_", " ")}
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return ipywidgets.SelectionSlider(continuous_update=False, **how) if numbers else ipywidgets.Dropdown(**how)


def read_scene(pairs: Pairs, tokenizer, data: DataConfig, scene: int, caption: int = 0) -> HeldOut:
    """One pair with one of its captions, as the batch that networks read; on the CPU.

    Raises:
        UserError: there is no such scene or caption.
    """
    if not 0 <= scene < len(pairs):
        raise UserError(f"scene={scene} is not in {pairs.name}; it has 0 to {len(pairs) - 1}")
    pair = pairs[scene]
    if not 0 <= caption < len(pair.captions):
        raise UserError(f"caption={caption} is none of {pair.name}; it has 0 to {len(pair.captions) - 1}")
    view = CenterView(data.resolution, with_truth=pair.truth is not None)(pair)
    ids, words = tokenize(tokenizer, [pair.captions[caption]], data.max_length)
    return HeldOut(
        images=repeat(view.pixels, "c h w -> two 1 c h w", two=2),
        input_ids=ids,
        attention_mask=words,
        image_ids=torch.tensor([pair.image_id]),
        pairs=[pair],
        object_maps=[view.object_map],
        chosen=[caption],
    )
