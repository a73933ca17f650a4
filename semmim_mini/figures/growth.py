"""How a step grows, on one page: a panel a size, time and memory beside the ideal line."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from semmim_mini.figures.style import BLUE, GREEN, GREY, MARGIN, ORANGE, SMALL, WIDTH, Drawn, Sheet, styled

COLUMNS, PANEL, GAP = 3, 1.7, 0.75  # panels beside each other; inches of a panel, and between panels
TITLES = {
    "b": "Batch b",
    "n": "Patches n",
    "k": "Prototypes k",
    "depth": "Depth of the image encoder",
    "queue": "Queue",
    "shards": "Shards, same pictures",
    "processes": "Processes, same share each",
}
LINES = {"time": BLUE, "memory": ORANGE, "apart": GREEN}


@styled
def growth_figure(growth: Mapping[str, Sequence[Mapping]]) -> Drawn:
    """Ratios over sizes, from `bench`.

    Args:
        growth: axis → rows with `size`, `ideal`, and the ratios `time`, `memory` and `apart`, those that were measured.

    Returns:
        The ratios at the largest size, "b time" → value.
    """
    number = {f"{axis} {name}": rows[-1][name] for axis, rows in growth.items() for name in LINES if rows[-1].get(name) is not None}
    lines = math.ceil(len(growth) / COLUMNS)
    sheet = Sheet(
        f"How a step grows: twice the batch takes {number.get('b time', math.nan):.2f}× the time",
        lines * (PANEL + GAP),
        "Ratios to the configuration itself; dashed: the ideal, growth in proportion, or none for shards and processes. "
        + "Blue: time. Orange: peak memory. Green: as many processes that never talk to each other.",
    )
    width = (WIDTH - 2 * MARGIN - 0.45) / COLUMNS - 0.5
    for i, (axis, rows) in enumerate(growth.items()):
        row, column = divmod(i, COLUMNS)
        _panel(sheet.axes(MARGIN + 0.45 + column * (width + 0.5), 0.3 + row * (PANEL + GAP), width, PANEL), axis, rows)
    return Drawn(sheet.figure, number)


def _panel(axes: Axes, axis: str, rows: Sequence[Mapping]) -> None:
    sizes = [row["size"] for row in rows]
    axes.set_title(TITLES[axis], pad=5)
    axes.plot(sizes, [row["ideal"] for row in rows], color=GREY, linestyle="--", linewidth=1.2)
    for name, colour in LINES.items():
        points = [(row["size"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4.5, linewidth=1.6)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=SMALL)
    axes.minorticks_off()
    top = max(value for row in rows for value in (row["ideal"], *(row.get(name) or 0 for name in LINES)))
    axes.set_ylim(0, 1.15 * max(top, 1.2))
