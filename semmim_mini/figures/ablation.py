"""The ablation at a glance: a panel a figure, a line a row, every seed a point."""

import math
import statistics
from collections.abc import Mapping, Sequence

from semmim_mini.figures.style import BLUE, GREY, MARGIN, ORANGE, SMALL, WIDTH, Drawn, Sheet, line_height, styled, text_width, wrap

COLUMNS, LINE, GAP = 3, 0.21, 0.55  # panels beside each other; inches of a row, and between panels


@styled
def ablation_figure(rows: Sequence[tuple[str, str]], points: Mapping[str, Sequence[Sequence[float]]]) -> Drawn:
    """Every seed of every row, its mean as a tick, and the first row's mean as a line through all.

    Args:
        rows: (name, title).
        points: panel title → per row the values of its seeds; a row without values stays empty.

    Returns:
        The means, "R@1 image→text A8" → value.
    """
    panels = {title: values for title, values in points.items() if any(values)}
    number = {
        f"{title} {name}": statistics.mean(values)
        for title, several in panels.items()
        for (name, _), values in zip(rows, several, strict=True)
        if values
    }
    names = max(text_width(name, SMALL) for name, _ in rows) + 0.12
    height, width = LINE * len(rows) + 0.1, (WIDTH - 2 * MARGIN - names) / COLUMNS - 0.2
    lines = math.ceil(len(panels) / COLUMNS)
    titles = [wrap(title, width, bold=True) for title in panels]
    over = line_height() * (max(map(len, titles), default=1) - 1)  # room for titles of more than one line
    sheet = Sheet(
        f"Ablation: {len(rows)} rows, up to {max((len(v) for several in panels.values() for v in several), default=0)} seeds each",
        lines * (height + GAP + over),
        f"Points: seeds. Ticks: their means. Dashed: the mean of {rows[0][0]}. " + " · ".join(f"{name}: {title}" for name, title in rows),
    )
    for i, (title, several) in enumerate(zip(titles, panels.values(), strict=True)):
        row, column = divmod(i, COLUMNS)
        left, top = MARGIN + names + column * (width + 0.2), 0.26 + over + row * (height + GAP + over)
        _panel(sheet.axes(left, top, width, height), "\n".join(title), several, [name for name, _ in rows] if column == 0 else None)
    return Drawn(sheet.figure, number)


def _panel(axes, title: str, several: Sequence[Sequence[float]], names: Sequence[str] | None) -> None:
    axes.set_title(title, pad=5)
    axes.set_ylim(len(several) - 0.4, -0.6)
    axes.set_yticks(range(len(several)), names or [""] * len(several))
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    if several and several[0]:
        axes.axvline(statistics.mean(several[0]), color=ORANGE, linewidth=1.2, linestyle="--")
    for i, values in enumerate(several):
        axes.axhline(i, color="#EEEEEE", linewidth=0.8, zorder=0)
        axes.plot(values, [i] * len(values), "o", color=BLUE, alpha=0.55, markersize=4.5, markeredgewidth=0)
        if values:
            axes.plot([statistics.mean(values)] * 2, [i - 0.32, i + 0.32], color=GREY, linewidth=1.6)
