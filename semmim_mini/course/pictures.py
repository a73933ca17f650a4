"""A figure into a notebook: PNG only, of one size and with words for those who cannot see it."""

import io

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from semmim_mini.figures.style import STYLE, Drawn

DPI = 130  # sharp enough on dense screens, and a notebook stays far below a megabyte
SHOWN = 100  # px per inch on the page: a sheet of nine inches is 900 px wide


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a small PNG: 256 colours, no date, no version, so that the same figure gives the same bytes."""
    drawn, small = io.BytesIO(), io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(drawn, format="png", dpi=dpi)
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


def show(drawn: Drawn | Figure, alt: str) -> None:
    """Display a figure below the cell.

    Args:
        drawn: what the functions of `figures/` and the course's own pictures return.
        alt: what is to be seen, in one sentence, for screen readers.
    """
    from IPython.display import display

    display(picture(drawn, alt))


def picture(drawn: Drawn | Figure, alt: str):
    """What `show` displays; a live curve gives it to the handle of a display, again and again."""
    from IPython.display import Image as Displayed

    figure = drawn.figure if isinstance(drawn, Drawn) else drawn
    return Displayed(data=png(figure), format="png", width=round(figure.get_figwidth() * SHOWN), alt=alt)
