"""Pictures of notebook 13: where weights and memory are, what lies in a shard, two shuffles, who compares what, the first hour."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from semmim_mini.config import Config
from semmim_mini.data.shard_index import BLOCK, text_offset
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MARGIN,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    SMALL,
    WIDTH,
    YELLOW,
    Drawn,
    Sheet,
    percent,
    styled,
    text_width,
)
from semmim_mini.training.schedules import first_step, space_start

INNER = WIDTH - 2 * MARGIN
GIB = 2**30
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, YELLOW, SKY, GREY, INK)


def _legend(sheet: Sheet, top: float, names: Sequence[str], colours: Sequence[str]) -> None:
    """Names in their colours, one after another."""
    left = MARGIN
    for name, colour in zip(names, colours, strict=True):
        sheet.text(left, top, name, SMALL, color=colour, weight="bold")
        left += text_width(name, SMALL, bold=True) + 0.2


# 1: weights, 2: memory --------------------------------------------------------------------------------------------------


@styled
def parts_of_presets(parts: Mapping[str, Mapping[str, int]]) -> Drawn:
    """Parameters of each preset by part, as shares of all; numbers: their sums, by preset.

    Args:
        parts: preset → part → parameters, as `plan.parameters.parameters` counts them.
    """
    names = list(dict.fromkeys(name for several in parts.values() for name in several))
    number = {preset: float(sum(several.values())) for preset, several in parts.items()}
    colours = dict(zip(names, COLOURS, strict=False))
    sheet = Sheet("Where the parameters of the presets are", 0.34 + 0.42 * len(parts) + 0.35, "Across: share of all parameters.")
    _legend(sheet, 0, names, [colours[name] for name in names])
    axes = sheet.axes(MARGIN + 0.6, 0.3, INNER - 2.0, 0.42 * len(parts))
    for row, (preset, several) in enumerate(parts.items()):
        left = 0.0
        for name in names:
            share = several.get(name, 0) / number[preset]
            axes.barh(row, share, left=left, height=0.62, color=colours[name])
            if share > 0.06:
                ink = INK if colours[name] == YELLOW else "white"
                axes.text(left + share / 2, row, percent(share), ha="center", va="center", fontsize=SMALL, color=ink)
            left += share
        axes.text(1.01, row, f"{number[preset] / 1e6:,.1f} million", va="center", fontsize=SMALL)
    axes.set(xlim=(0, 1), ylim=(len(parts) - 0.5, -0.5))
    axes.set_yticks(range(len(parts)), list(parts))
    axes.set_xticks([0, 0.5, 1], ["0", "50\u00a0%", "100\u00a0%"])
    axes.tick_params(axis="y", length=0)
    return Drawn(sheet.figure, number)


@styled
def memory_of_choices(plans: Mapping[str, dict], room: Mapping[str, float]) -> Drawn:
    """What stands on one GPU and how high a step rises above it, for several settings; dashed what a GPU has.

    Args:
        plans: label → what `plan.make_plan` says.
        room: name of a GPU → its memory in GiB.

    Returns:
        GiB in all, by label.
    """
    number = {label: plan["memory"]["total"] / GIB for label, plan in plans.items()}
    sheet = Sheet(
        f"Memory of one GPU, by setting: {min(number.values()):.0f} to {max(number.values()):.0f} GiB",
        0.3 + 0.42 * len(plans) + 0.5,
        "Predicted by semmim-mini plan. Dashed: what a GPU has, of which tensors may fill 92 %.",
    )
    _legend(sheet, 0, ("stands all the time", "comes and goes within a step"), (BLUE, ORANGE))
    left = max(text_width(label, SMALL) for label in plans) + 0.15
    axes = sheet.axes(MARGIN + left, 0.34, INNER - left - 0.2, 0.42 * len(plans))
    for row, (label, plan) in enumerate(plans.items()):
        stands = sum(plan["memory"]["standing"].values()) / GIB
        axes.barh(row, stands, height=0.6, color=BLUE)
        axes.barh(row, number[label] - stands, left=stands, height=0.6, color=ORANGE)
        axes.text(number[label] - 0.5, row, f"{number[label]:.0f}", ha="right", va="center", fontsize=SMALL, color="white")
    for name, memory in room.items():
        axes.axvline(memory, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(memory - 0.5, len(plans) - 0.45, name, ha="right", va="bottom", fontsize=SMALL, color=GREY)
    axes.set(xlim=(0, 1.06 * max([*room.values(), *number.values()])), ylim=(len(plans) - 0.4, -0.5), xlabel="GiB")
    axes.set_yticks(range(len(plans)), list(plans))
    axes.tick_params(axis="y", length=0)
    return Drawn(sheet.figure, number)


# 3: shards --------------------------------------------------------------------------------------------------------------


@styled
def shard_bytes(places: np.ndarray, shard: Path, samples: int = 4) -> Drawn:
    """The first samples of a shard as they lie in the file.

    Args:
        places: of the split's samples, as `shard_index.open_split` gives them; the first ones lie in `shard`.

    Returns:
        Bytes of the file, its samples by `places`, and the share of bytes that are picture.
    """
    first = places[:samples]
    end = text_offset(int(first[-1]["offset"]), int(first[-1]["picture"])) + int(first[-1]["text"])
    number = {"bytes": float(shard.stat().st_size), "picture_share": float(first["picture"].sum()) / end, "samples": float(len(first))}
    sheet = Sheet(f"The first {len(first)} samples of {shard.name}, byte by byte", 0.3 + 0.5 + 0.45, _SHARD_NOTE)
    _legend(sheet, 0, ("header of tar", "picture (JPEG)", "captions (JSON)"), (GREY, BLUE, ORANGE))
    axes = sheet.axes(MARGIN + 0.1, 0.32, INNER - 0.7, 0.5)
    axes.barh(0, end, height=1, color=PALE)
    for place in first:
        offset, picture, text = (int(place[name]) for name in ("offset", "picture", "text"))
        words = text_offset(offset, picture)
        headers = ((offset - BLOCK, BLOCK, GREY), (words - BLOCK, BLOCK, GREY))
        for begin, size, colour in (*headers, (offset, picture, BLUE), (words, text, ORANGE)):
            axes.barh(0, size, left=begin, height=1, color=colour)
        axes.plot([offset, words + text], [-0.72, -0.72], color=INK, linewidth=1.4, clip_on=False)
    axes.set(xlim=(0, end), ylim=(-0.5, 0.5), yticks=[])
    axes.tick_params(axis="x", pad=8)
    axes.spines[:].set_visible(False)
    axes.set_xticks([0, end // 2, end], ["0", f"{end // 2:,}", f"{end:,} bytes"])
    return Drawn(sheet.figure, number)


_SHARD_NOTE = "Black lines: what one read brings, from the picture's first byte to its captions' last. Pale: padding to 512 bytes."


@styled
def two_orders(orders: Mapping[str, Sequence[int]], blocks: Sequence[int], batch: int) -> Drawn:
    """Which pair stands at which place of an epoch; number: files that a batch touches, on average.

    Args:
        orders: name → the pair at each place.
        blocks: pairs of each file, one after another.
    """
    ends = np.cumsum(blocks)
    number = {name: _files_of_a_batch(np.asarray(order), ends, batch) for name, order in orders.items()}
    said = "; ".join(f"{name}: {files:.1f}" for name, files in number.items())
    sheet = Sheet(f"Files that a batch of {batch} touches, of {len(blocks)}. {said}", 2.75, "A point: a pair. Lines: where a file ends.")
    width = (INNER - 0.9) / len(orders)
    for i, (name, order) in enumerate(orders.items()):
        axes = sheet.axes(MARGIN + 0.45 + i * (width + 0.3), 0.2, width - 0.1, 2.1)
        for end in ends[:-1]:
            axes.axhline(end - 0.5, color="#DDDDDD", linewidth=0.7, zorder=0)
        axes.plot(range(len(order)), order, ".", color=BLUE, markersize=2.6)
        axes.set(xlim=(0, len(order)), ylim=(0, len(order)), title=name, xlabel="place in the epoch", ylabel="pair" if i == 0 else "")
    return Drawn(sheet.figure, number)


def _files_of_a_batch(order: np.ndarray, ends: np.ndarray, batch: int) -> float:
    whole = order[: len(order) // batch * batch].reshape(-1, batch)
    return float(np.mean([len(set(np.searchsorted(ends, row, side="right"))) for row in whole]))


# 4: processes -----------------------------------------------------------------------------------------------------------


@styled
def who_compares(b: int, world: int) -> Drawn:
    """Images by captions of a batch over several processes: what each compares alone, and with features gathered.

    Returns:
        Wrong captions that an image is compared with, `alone` and `gathered`.
    """
    share, tile = b // world, 2.5
    number = {"alone": float(share - 1), "gathered": float(b - 1)}
    sheet = Sheet(
        f"Wrong captions that an image is compared with: {share - 1} alone, {b - 1} with features gathered",
        0.25 + tile + 0.3,
        f"A batch of {b} over {world} processes. Coloured: computed, in the colour of the process. White line: the true pairs.",
    )
    rows = np.repeat(np.arange(world), share)
    alone = np.where(rows[:, None] == rows[None, :], rows[:, None] + 1, 0)
    for i, (title, grid) in enumerate((("each process alone", alone), ("keys gathered", np.broadcast_to(rows[:, None] + 1, (b, b))))):
        left = MARGIN + 1.2 + i * (tile + 1.3)
        axes = sheet.picture(left, 0.22, tile, grid, cmap=ListedColormap([PALE, *COLOURS[:world]]), vmin=0, vmax=world)
        axes.set_title(title)
        axes.set(xlabel="captions (keys)", ylabel="images (queries)")
        axes.plot([0, b], [0, b], color="white", linewidth=1.5)
    handles = [Patch(color=colour, label=f"process {p}") for p, colour in enumerate(COLOURS[:world])]
    sheet.figure.legend(handles=handles, loc="center right", frameon=False, fontsize=SMALL)
    return Drawn(sheet.figure, number)


# 5: the first hour ------------------------------------------------------------------------------------------------------


@styled
def first_hour(config: Config, seconds: float) -> Drawn:
    """What a run is doing in its first hour: rate, still prototypes, random masks, soft targets, the teacher's temperature.

    Args:
        seconds: of a step.

    Returns:
        The minute at which each of them is over, by name.
    """
    minutes = {name: step * seconds / 60 for name, step in beginnings(config).items()}
    longest = max(60.0, 1.05 * max(minutes.values()))
    sheet = Sheet(f"The plan of the first {longest:.0f} minutes, at {seconds:.2f} s a step", 0.36 * len(minutes) + 0.6, _HOUR_NOTE)
    left = max(text_width(name, SMALL) for name in minutes) + 0.15
    axes = sheet.axes(MARGIN + left, 0.05, INNER - left - 0.3, 0.36 * len(minutes))
    for row, end in enumerate(minutes.values()):
        axes.barh(row, longest, height=0.6, color=PALE)
        axes.barh(row, end, height=0.6, color=ORANGE)
        axes.text(end - longest / 150, row, f"{end:.0f} min", ha="right", va="center", fontsize=SMALL, color="white")
    axes.axvline(60, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(0, longest), ylim=(len(minutes) - 0.5, -0.5), xlabel="minutes")
    axes.set_yticks(range(len(minutes)), list(minutes))
    axes.tick_params(axis="y", length=0)
    return Drawn(sheet.figure, minutes)


_HOUR_NOTE = "Orange: still going on. Dashed: one hour. The seconds of a step are predicted, not measured."


def beginnings(config: Config) -> dict[str, int]:
    """The step from which on each schedule of a beginning is over."""
    masked, space = config.losses.mim.start, space_start(config)
    shares = {
        "prototypes stand still": space + config.space.freeze_share * (1 - space),
        "masks are random": masked + config.masking.random_until * (1 - masked),
        "soft targets of ITC grow": config.losses.alpha_ramp[1],
        "the rate rises": config.optim.warmup,
        "the teacher's temperature rises": config.teacher.temperature_warmup,
    }
    return {name: first_step(config, share) for name, share in shares.items()}
