r"""One look for all figures, and the sheet they are drawn on.

A sheet is laid out in inches from its top left corner, nine inches wide: shown at 900 px, a tenth of an inch is ten pixels and a
text of 10 points stands 14 px high. Title and note are wrapped by their measured width, so that no text runs out of the sheet.
Figures are plain `Figure` objects with their own canvas: nothing here touches pyplot's global state, nothing opens a window.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from torch import Tensor

WIDTH = 9.0  # inches
MARGIN = 0.15
GRID_FITTING = 1.03
SAVED_DPI = 150  # sharp on dense screens, and still a small file
TITLE, BODY, SMALL = 12.0, 10.0, 9.0  # points

# Okabe and Ito's palette: told apart by readers with any kind of colour vision.
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
OBJECT_COLOURS = (ORANGE, BLUE, GREEN, PURPLE, YELLOW, SKY)
INK, GREY, PALE = "#222222", "#666666", "#ECECEC"
HEAT = "viridis"

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": BODY,
    "text.color": INK,
    "text.usetex": False,
    "axes.titlesize": BODY,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": SMALL,
    "axes.labelcolor": GREY,
    "axes.edgecolor": "#AAAAAA",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "hatch.linewidth": 0.6,
}


class Drawn(NamedTuple):
    """A figure and the numbers it shows; no figure without one."""

    figure: Figure
    number: dict[str, float]


def styled(draw):
    """The wrapped function draws in this style, whatever the caller's settings are, and leaves those alone."""

    @functools.wraps(draw)
    def in_style(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return in_style


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG so that readers see the old one or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with matplotlib.rc_context(STYLE):
            figure.savefig(temporary, format="png", dpi=SAVED_DPI)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


# words ----------------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float = BODY, bold: bool = False) -> float:
    """Width in inches, blanks at the ends included; a little generous, because glyphs on a pixel grid may be wider than drawn ones."""
    prop = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    with_ends, ends = (text_to_path.get_text_width_height_descent(s, prop, ismath=False)[0] for s in (f"|{text}|", "||"))
    return GRID_FITTING * (with_ends - ends) / 72


def wrap(text: str, width: float, size: float = BODY, bold: bool = False) -> list[str]:
    """Lines of at most `width` inches; a longer word stands alone."""
    lines = [""]
    for word in text.split(" "):  # at plain blanks only: "24 %" and "22 → 39" are held together by other ones
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size, bold) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


Run = tuple[str, str | None]  # a stretch of text and its colour; None is plain ink, a colour is set bold


def wrap_runs(runs: Sequence[Run], width: float, size: float = BODY) -> list[list[Run]]:
    """Coloured text broken into lines of words, each with its colour."""
    lines: list[list[Run]] = [[]]
    used, blank = 0.0, text_width(" ", size)
    for word, colour in [(word, colour) for text, colour in runs for word in text.split()]:
        needs = text_width(word, size, colour is not None)
        if lines[-1] and used + blank + needs > width:
            lines.append([])
        used = needs if not lines[-1] else used + blank + needs
        lines[-1].append((word, colour))
    return lines


# the sheet ------------------------------------------------------------------------------------------------------------


class Sheet:
    """A figure with a title on top, a note at the bottom and a body of `height` inches, laid out from its top left corner."""

    def __init__(self, title: str, height: float, note: str = ""):
        inner, self.size = WIDTH - 2 * MARGIN, (WIDTH, height)
        above, below = wrap(title, inner, TITLE, bold=True), wrap(note, inner, SMALL) if note else []
        self.top = 0.2 * len(above) + 0.22  # where the body begins
        self.height = self.top + height + 0.17 * len(below) + 0.14
        self.figure = Figure(figsize=(WIDTH, self.height), dpi=100)
        FigureCanvasAgg(self.figure)
        for i, line in enumerate(above):
            self.text(MARGIN, 0.1 + 0.2 * i - self.top, line, size=TITLE, weight="bold")
        for i, line in enumerate(below):
            self.text(MARGIN, height + 0.06 + 0.17 * i, line, size=SMALL, color=GREY)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes whose frame is this box of the body."""
        return self.figure.add_axes((left / WIDTH, 1 - (self.top + top + height) / self.height, width / WIDTH, height / self.height))

    def picture(self, left: float, top: float, size: float, pixels: np.ndarray, **how) -> Axes:
        """A square picture without ticks, its corner at (0, 0), one unit a pixel."""
        axes = self.axes(left, top, size, size)
        height, width = pixels.shape[:2]
        axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", **how)
        axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axes.spines[:].set_visible(False)
        return axes

    def text(self, left: float, top: float, words: str, size: float = BODY, align: str = "left", **how):
        """One line of text whose upper edge is at `top`."""
        return self.figure.text(left / WIDTH, 1 - (self.top + top) / self.height, words, fontsize=size, ha=align, va="top", **how)

    def lines(self, left: float, top: float, lines: list[list[Run]], size: float = BODY) -> None:
        """Coloured text that `wrap_runs` has broken into lines."""
        for i, line in enumerate(lines):
            at = left
            for word, colour in line:
                how = {} if colour is None else {"color": colour, "weight": "bold"}
                self.text(at, top + i * line_height(size), word, size, **how)
                at += text_width(word, size, colour is not None) + text_width(" ", size)


def line_height(size: float = BODY) -> float:
    """Inches from one line of text to the next."""
    return 1.3 * size / 72


# pictures -------------------------------------------------------------------------------------------------------------


def as_picture(image: Tensor) -> np.ndarray:
    """A normalised image (3, h, w), pixels in [−1, 1], as (h, w, 3) in [0, 1]."""
    return ((image.detach().float().cpu() + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()


def heat(values: np.ndarray | Tensor, patch: int) -> np.ndarray:
    """A value for each patch, (n,) or (side, side), as pixels (side·patch, side·patch)."""
    values = np.asarray(values)
    side = int(values.size**0.5)
    return np.kron(values.reshape(side, side), np.ones((patch, patch)))


def hidden(picture: np.ndarray, mask: np.ndarray, patch: int) -> np.ndarray:
    """The picture with masked patches greyed; what they show stays faint. `mask` is (side, side)."""
    covered = heat(mask, patch)[..., None] > 0
    return np.where(covered, 0.2 * picture + 0.8 * 0.5, picture)


def outline(axes: Axes, inside: np.ndarray, patch: float, colour: str) -> None:
    """A line around the patches that are True in `inside` (side, side), with a white rim to stand out on any ground."""
    padded = np.pad(inside.astype(bool), 1)
    down, across = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1]), np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    segments = [((j, i), (j, i + 1)) for i, j in down] + [((j, i), (j + 1, i)) for i, j in across]
    places = np.array(segments, dtype=float).reshape(-1, 2, 2) * patch
    for width, ink in ((3.4, "white"), (1.8, colour)):
        lines = LineCollection(places, colors=ink, linewidths=width, capstyle="projecting")
        lines.set_clip_on(False)
        axes.add_collection(lines)


def mark_highest(axes: Axes, values: np.ndarray | Tensor, patch: int) -> None:
    """A cross on the patch with the highest of the values (n,)."""
    down, across = divmod(int(values.argmax()), int(len(values) ** 0.5))
    for size, ink, width in ((9, "black", 3.4), (8, "white", 1.8)):
        axes.plot((across + 0.5) * patch, (down + 0.5) * patch, "x", color=ink, markersize=size, markeredgewidth=width)


def percent(share: float) -> str:
    """A share for people; the blank in it never breaks."""
    return f"{share:.0%}".replace("%", "\u00a0%")
