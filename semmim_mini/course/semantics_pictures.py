"""Pictures of notebook 08 about codes: who meets whom, codes that mean nothing, kinds of codes side by side, and a swapped caption."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int
from matplotlib.axes import Axes
from torch import Tensor

from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.figures.codes import code_colours, object_colours
from semmim_mini.figures.masks import caption_runs, named_objects
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARGIN,
    ORANGE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    hidden,
    line_height,
    outline,
    percent,
    styled,
    text_width,
    wrap_runs,
)
from semmim_mini.instruments.held_out import HeldOut

INNER = WIDTH - 2 * MARGIN
MEASURES = {"purity": ORANGE, "NMI": GREEN, "AMI": BLUE}
TILE, CELL, LINE = 1.35, 0.32, 0.27  # inches: a picture, a cell of the table, a bar


# Counting agreement ---------------------------------------------------------------------------------------------------


@styled
def contingency(batch: HeldOut, row: int, codes: Int[Tensor, "n"], names: Sequence[str], table: Int[Tensor, "things codes"]) -> Drawn:
    """A scene, its objects and its codes, and how many patches each thing shares with each code.

    Args:
        names: of the things, the rows of the table.

    Returns:
        The numbers of things, of codes and of patches.
    """
    side, (rows, columns) = int(len(codes) ** 0.5), table.shape
    truth = patch_objects(batch.object_maps[row], batch.images.shape[-1] // side).reshape(side, side).numpy()
    number = {"things": float(rows), "codes": float(columns), "patches": float(table.sum())}
    sheet = Sheet(
        f"{rows} things and {columns} codes meet on {int(table.sum())} patches",
        max(TILE + 0.3, 0.25 + CELL * (rows + 1)),
        "Table: patches that show the thing and have the code; grey: sums. Codes: bright colours match an object best, pale ones none.",
    )
    tiles = (as_picture(batch.images[0][row]), object_colours(truth), code_colours(codes.reshape(side, side).numpy(), truth))
    for i, (head, pixels) in enumerate(zip(("scene", "things", "codes"), tiles, strict=True)):
        sheet.text(MARGIN + i * (TILE + 0.1) + TILE / 2, 0, head, SMALL, "center", weight="bold")
        sheet.picture(MARGIN + i * (TILE + 0.1), 0.22, TILE, pixels)
    left = MARGIN + 3 * (TILE + 0.1) + 0.15 + max(text_width(name, SMALL) for name in names)
    width = min(CELL * (columns + 1), WIDTH - MARGIN - left)
    sheet.text(left + width / 2, 0, "a column for each code", SMALL, "center", weight="bold")
    _table(sheet.axes(left, 0.22, width, CELL * (rows + 1)), table.numpy(), names)
    return Drawn(sheet.figure, number)


def _table(axes: Axes, table: np.ndarray, names: Sequence[str]) -> None:
    """Counts, dark where there are many, with their sums at the right and below; columns in the order of the thing they meet most."""
    rows, columns = table.shape
    table = table[:, np.lexsort((-table.max(axis=0), table.argmax(axis=0)))]
    with_sums = np.pad(table, ((0, 1), (0, 1)))
    with_sums[:-1, -1], with_sums[-1, :-1], with_sums[-1, -1] = table.sum(axis=1), table.sum(axis=0), table.sum()
    without_sums = np.pad(table, ((0, 1), (0, 1)))
    axes.imshow(without_sums**0.5, cmap="Blues", extent=(0, columns + 1, rows + 1, 0), aspect="auto", vmin=0, vmax=1.5 * table.max() ** 0.5)
    for y, x in np.ndindex(with_sums.shape):
        is_sum = y == rows or x == columns
        if with_sums[y, x] or is_sum:
            how = {"color": GREY if is_sum else INK, "fontsize": SMALL, "ha": "center", "va": "center"}
            axes.text(x + 0.5, y + 0.5, str(with_sums[y, x]), **how)
    axes.set_yticks([y + 0.5 for y in range(rows)], list(names), color=INK)
    axes.set(xticks=[])
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


@styled
def measures_of_nothing(curves: Mapping[str, Sequence[float]], numbers: Sequence[int], real: Mapping[str, float], k: int) -> Drawn:
    """Three measures of codes dealt out at random, by the number of codes, and those of real codes as points.

    Args:
        curves: for each of `MEASURES` a value for each of `numbers`.
        real: the same measures of real codes, of which there are `k`.

    Returns:
        Each measure of the most random codes, and each of the real ones, `NAME_real`.
    """
    number = {name: values[-1] for name, values in curves.items()} | {f"{name}_real": value for name, value in real.items()}
    told = ", ".join(f"{name} {number[name]:.2f}" for name in curves)
    sheet = Sheet(
        f"{numbers[-1]:,} codes dealt out at random reach {told}",
        2.5,
        f"Lines: codes that mean nothing. Points: the {k} codes of the trained network. 1 is perfect for all three measures.",
    )
    axes = sheet.axes(MARGIN + 0.5, 0.1, INNER - 1.5, 2.0)
    for name, values in curves.items():
        colour = MEASURES[name]
        axes.plot(numbers, values, color=colour, linewidth=2)
        axes.plot(k, real[name], "o", color=colour, markersize=8)
        axes.text(1.15 * numbers[-1], values[-1], name, color=colour, va="center", fontweight="bold")
    axes.set(xscale="log", ylim=(-0.04, 1.0), xlabel="number of codes")
    axes.set_xticks(numbers, [f"{k:,}" for k in numbers])
    axes.minorticks_off()
    return Drawn(sheet.figure, number)


# Kinds side by side ---------------------------------------------------------------------------------------------------


@styled
def panels(
    title: str,
    scores: Mapping[str, Mapping[str, float]],
    chance: Mapping[str, float],
    note: str,
    bold: Sequence[str] = (),
    shares: Sequence[str] = (),
) -> Drawn:
    """Bars of several kinds (rows) in several questions (panels), each panel with its own scale and its own dashed chance.

    Args:
        scores: for each question a number for each kind; the kinds are the same everywhere.
        chance: for each question.
        bold: kinds that stand out; all others are references.
        shares: questions whose numbers are written in per cent.

    Returns:
        The numbers, as `QUESTION: KIND`, and chance, as `QUESTION: chance`.
    """
    number = {f"{q}: {kind}": value for q, row in scores.items() for kind, value in row.items()}
    number |= {f"{q}: chance": value for q, value in chance.items()}
    kinds = list(next(iter(scores.values())))
    left = MARGIN + 0.1 + max(text_width(kind, SMALL, kind in bold) for kind in kinds)
    width, high = (WIDTH - MARGIN - left) / len(scores) - 0.2, LINE * len(kinds)
    sheet = Sheet(title, LINE + high + 0.1, note)
    for i, kind in enumerate(kinds):
        sheet.text(MARGIN, LINE * (1 + i) + 0.06, kind, SMALL, weight="bold" if kind in bold else "normal")
    for i, (question, row) in enumerate(scores.items()):
        at = left + i * (width + 0.2)
        sheet.text(at, 0, question, SMALL, weight="bold")
        _bars(sheet.axes(at, LINE, width, high), row, chance[question], bold, question in shares)
    return Drawn(sheet.figure, number)


def _bars(axes: Axes, row: Mapping[str, float], chance: float, bold: Sequence[str], as_share: bool) -> None:
    most = max(*row.values(), chance, 0.01)
    for y, (kind, value) in enumerate(row.items()):
        axes.barh(y, value, height=0.7, color=BLUE if kind in bold else "#BBBBBB")
        written = f"{value:.1%}".replace("%", "\u00a0%") if as_share else f"{value + 0.0:.2f}"
        beyond = value if value > 1.3 * chance else max(chance, 0)  # no number stands on the dashed line
        axes.text(beyond + 0.03 * most, y, written, va="center", fontsize=SMALL)
    axes.axvline(chance, color=INK, linestyle=(0, (3, 2)), linewidth=1.2)
    axes.set(xlim=(min(0, *row.values()), 1.35 * most), ylim=(len(row) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


# A swapped caption ----------------------------------------------------------------------------------------------------


@styled
def swapped_captions(
    batch: HeldOut,
    wrong: Sequence[str],
    rows: Sequence[int],
    codes: tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]],
    objects: Bool[Tensor, "b n"],
) -> Drawn:
    """Scenes whose teacher reads the right caption, and a wrong one: both codes, and where they differ.

    Args:
        wrong: the other caption of every scene.
        rows: scenes to show.
        codes: with the right and with the wrong caption.

    Returns:
        Shares of patches whose code survives, over the whole batch: `all`, `objects`, `background`.
    """
    stays, side = codes[0] == codes[1], int(codes[0].shape[1] ** 0.5)
    kinds = {"all": stays, "objects": stays[objects], "background": stays[~objects]}
    number = {kind: float(x.float().mean()) for kind, x in kinds.items()}
    sheet = Sheet(
        f"Target codes that survive a caption swap: {percent(number['all'])}; on objects {percent(number['objects'])}, on the background "
        f"{percent(number['background'])}",
        0.22 + len(rows) * (TILE + 0.1),
        f"Shares over {len(stays)} scenes. Bright colours: the code that matches an object best; pale ones: all others. Grey: "
        "patches whose code changes.",
    )
    left = MARGIN + INNER - 4 * (TILE + 0.1)
    for i, head in enumerate(("scene", "right caption", "wrong caption", "changed")):
        sheet.text(left + i * (TILE + 0.1) + TILE / 2, 0, head, SMALL, "center", weight="bold")
    for line, row in enumerate(rows):
        _swapped(sheet, left, 0.22 + line * (TILE + 0.1), batch, row, [x[row].reshape(side, side).numpy() for x in codes])
        captions = [caption_runs(batch, row), [(f"or: {wrong[row]}", None)]]
        right, instead = (wrap_runs(caption, left - MARGIN - 0.15) for caption in captions)
        sheet.lines(MARGIN, 0.22 + line * (TILE + 0.1), right)
        sheet.lines(MARGIN, 0.22 + line * (TILE + 0.1) + (len(right) + 0.5) * line_height(), instead)
    return Drawn(sheet.figure, number)


def _swapped(sheet: Sheet, left: float, top: float, batch: HeldOut, row: int, codes: Sequence[np.ndarray]) -> None:
    """A scene, its codes with either caption, and where they differ, with the objects outlined that the right caption names."""
    side = len(codes[0])
    patch, picture = batch.images.shape[-1] // side, as_picture(batch.images[0][row])
    truth = patch_objects(batch.object_maps[row], patch).reshape(side, side).numpy()
    tiles = (picture, *(code_colours(x, truth) for x in codes), hidden(picture, codes[0] != codes[1], patch))
    for i, tile in enumerate(tiles):
        axes = sheet.picture(left + i * (TILE + 0.1), top, TILE, tile)
    for inside, colour in named_objects(batch, row, patch):
        outline(axes, inside, patch, colour)
