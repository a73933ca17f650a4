"""Pictures of notebook 07: a step, which term teaches which part, schedules, runs that were resumed, first losses."""

import math

import numpy as np
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.config import Config
from semmim_mini.data.loader import Batch
from semmim_mini.figures.curves import NAMES, label_ends
from semmim_mini.figures.style import (
    BLUE,
    GREY,
    INK,
    MARGIN,
    ORANGE,
    PALE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    hidden,
    line_height,
    percent,
    styled,
    wrap,
)
from semmim_mini.training.schedules import PRETRAINING_TERMS, plan_at

COLOURS = (BLUE, ORANGE)  # of two configurations, or of two runs, side by side
POINTS = 400  # at which schedules are looked up


# one step -------------------------------------------------------------------------------------------------------------


@styled
def step_in_pictures(batch: Batch, mask: Tensor, losses: dict[str, float], chance: dict[str, float], row: int = 0) -> Drawn:
    """The five parts of `training/step.py` from left to right, with one pair of the batch, and the losses that each part pays.

    Args:
        mask: (b, n), what the step hides of view 1.
        losses: of an untrained model; `chance` beside them.

    Returns:
        The number of losses above chance, and the hidden share.
    """
    views = [as_picture(view[row]) for view in batch.images]
    side, size = math.isqrt(mask.shape[1]), views[0].shape[0]
    covered = hidden(views[0], mask[row].reshape(side, side).cpu().numpy(), size // side)
    paid = {term: f"{losses[term]:.2f} ({chance[term]:.2f})" for term in losses}
    columns = (
        (1.55, "1  read", (), batch.captions[row], "whole, and with words hidden for MLM", {"word features": ""}),
        (1.5, "2  teach", views, "", "teacher, no gradient; patches read words", {"codes of [CLS]": "", "codes of patches": ""}),
        (1.35, "3  hide", (covered,), "", "by relevance to the caption", {"mask": ""}),
        (1.7, "4  look", views, "", "student: both views whole, no words in them", {_short(t): paid[t] for t in losses if t != "mim"}),
        (1.4, "5  fill in", (covered,), "", "student: one view, masked; words are read", {_short("mim"): paid["mim"]}),
        (1.2, "6  move", (), "weighted sum of the losses, AdamW", "after the backward pass", {"student": "", "teacher": "", "memory": ""}),
    )
    number = {"above": float(sum(losses[t] > chance[t] for t in losses)), "hidden": float(mask.float().mean())}
    sheet = Sheet(
        f"One step, before any training: {number['above']:.0f} of {len(losses)} losses lie above chance",
        3.2,
        f"In blue, what each part gives; beside losses, in brackets, what a guesser pays, in nats. {percent(number['hidden'])} of the "
        "patches are hidden.",
    )
    left = MARGIN
    for width, *column in columns:
        _column(sheet, left, width - 0.14, *column)
        left += width
    return Drawn(sheet.figure, number)


def _column(sheet: Sheet, left: float, width: float, title: str, pictures, words: str, note: str, gives: dict[str, str]) -> None:
    """A part of the step: what it reads as pictures or words, how, and what it gives."""
    sheet.text(left, 0, title, weight="bold")
    tile = min(1.05, (width - 0.06) / 2) if len(pictures) > 1 else 1.05
    for i, pixels in enumerate(pictures):
        sheet.picture(left + i * (tile + 0.06), 0.25, tile, pixels)
    for i, line in enumerate(wrap(words, width)):
        sheet.text(left, 0.25 + i * line_height(), line)
    for i, line in enumerate(wrap(note, width, SMALL)):
        sheet.text(left, 1.4 + i * line_height(SMALL), line, SMALL, color=GREY)
    for i, (name, value) in enumerate(gives.items()):
        sheet.text(left, 2.02 + 0.22 * i, name, SMALL, color=BLUE, weight="bold")
        sheet.text(left + width, 2.02 + 0.22 * i, value, SMALL, "right")


def _short(term: str) -> str:
    return {"caption": "Caption", "consensus": "Consensus"}.get(term, term.upper())


# who teaches whom -----------------------------------------------------------------------------------------------------


@styled
def gradient_matrix(norms: dict[str, dict[str, float]]) -> Drawn:
    """Terms as rows, parts of the model as columns, the norm of the gradient in each cell.

    Args:
        norms: by term and part, as `course.pretraining.reach` gives them.

    Returns:
        The number of cells that receive a gradient, and that of the teacher among them.
    """
    terms, parts = list(norms), list(next(iter(norms.values())))
    values = np.array([[norms[term][part] for part in parts] for term in terms])
    number = {"reached": float((values > 0).sum()), "teacher": float((values[:, parts.index("teacher")] > 0).sum())}
    cell, left, heads = 0.36, 1.75, 0.55
    sheet = Sheet(
        f"A term teaches where its gradient arrives: {number['reached']:.0f} of {values.size} cells, none of them the teacher's",
        heads + cell * len(terms),
        "Norm of the gradient of each term alone, in an untrained model. Dark: large, on a logarithmic scale. Dot: exactly none.",
    )
    across = WIDTH - 2 * MARGIN - left
    axes = sheet.axes(MARGIN + left, heads, across, cell * len(terms))
    shade = np.where(values > 0, np.log10(np.maximum(values, 1e-3)), np.nan)
    axes.imshow(shade, cmap="Blues", vmin=-3.2, vmax=2.2, aspect="auto")
    axes.set(xticks=[], yticks=[])
    for j, part in enumerate(parts):
        lines = wrap(part, across / len(parts) - 0.05, SMALL)
        for i, line in enumerate(lines):
            place = MARGIN + left + (j + 0.5) * across / len(parts)
            sheet.text(place, heads - 0.02 - (len(lines) - i) * line_height(SMALL), line, SMALL, "center")
    for i, term in enumerate(terms):
        sheet.text(MARGIN, heads + (i + 0.5) * cell - line_height() / 2, NAMES[term], color=INK)
        for j in range(len(parts)):
            strong = values[i, j] > 3
            axes.text(j, i, _norm(values[i, j]), ha="center", va="center", fontsize=SMALL, color="white" if strong else INK)
    return Drawn(sheet.figure, number)


def _norm(value: float) -> str:
    """Two digits that count; a dot for nothing."""
    if value == 0:
        return "·"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


# schedules ------------------------------------------------------------------------------------------------------------


@styled
def schedules(configs: dict[str, Config]) -> Drawn:
    """Everything that changes over a run, for two configurations, by share of the run.

    Returns:
        For each configuration the share of the run from which on all of its terms are on.
    """
    panels = (("Rate, of its highest", "lr_factor"), ("Teacher's momentum", "momentum"), ("Teacher's temperature", "teacher_temperature"),
              ("Soft targets of ITC, α", "alpha"), ("Hardness of negatives", "hardness"))  # fmt: skip
    number = {f"all_on_{name}": max(term.start for term in _terms(config).values()) for name, config in configs.items()}
    (one, when), (two, then) = ((name, percent(share)) for name, share in number.items())
    sheet = Sheet(
        f"The plan of a run: all terms are on after {when} of {one.removeprefix('all_on_')}, {then} of {two.removeprefix('all_on_')}",
        4.8,
        "Across: share of the run. All of it is a function of (configuration, step) and of nothing else.",
    )
    for i, (title, name) in enumerate(panels):
        axes = sheet.axes(0.5 + 2.97 * (i % 3), 0.3 + 2.45 * (i // 3), 1.9, 1.75)
        axes.set_title(title, pad=6, x=-0.17)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1))
        ends = []
        for (label, config), colour in zip(configs.items(), COLOURS, strict=True):
            steps = np.linspace(0, config.run.steps - 1, POINTS).round().astype(int)
            course = [getattr(plan_at(config, int(step)), name) for step in steps]
            axes.plot(steps / config.run.steps, course, color=colour, linewidth=2)
            ends.append((course[-1], label, colour))
        low, high = axes.get_ylim()
        axes.set_ylim(min(low, 0) if high > 0.2 else low - 0.005, high + 0.03 * (high - low))
        label_ends(axes, ends)
    _bars(sheet.axes(7.15, 0.3 + 2.45, 1.65, 1.75), configs)
    return Drawn(sheet.figure, number)


def _terms(config: Config) -> dict:
    return {name: term for name in PRETRAINING_TERMS if (term := getattr(config.losses, name)).weight > 0}


def _bars(axes, configs: dict[str, Config]) -> None:
    """From when on each term is on; below, how long masks are random and prototypes stand still."""
    rows = [*PRETRAINING_TERMS, "random masks", "prototypes fixed"]
    axes.set_title("What is on", pad=6, x=-0.62)
    axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), ylim=(len(rows) - 0.5, -0.5), yticks=range(len(rows)))
    axes.set_yticklabels([{"itc": "ITC", "itm": "ITM", "mlm": "MLM", "mim": "MIM"}.get(row, row) for row in rows])
    axes.tick_params(axis="y", length=0)
    for place, (config, colour) in enumerate(zip(configs.values(), COLOURS, strict=True)):
        steps = np.linspace(0, config.run.steps - 1, POINTS).round().astype(int)
        plans = [plan_at(config, int(step)) for step in steps]
        for i, row in enumerate(rows):
            on = [plan.random_mask and plan.has("mim") if row == "random masks"
                  else plan.prototypes_frozen and plan.has("mim", "consensus") if row == "prototypes fixed" else plan.has(row)
                  for plan in plans]  # fmt: skip
            if any(on):
                begin, end = on.index(True), POINTS - on[::-1].index(True)
                box = Rectangle((begin / POINTS, i - 0.36 + 0.36 * place), (end - begin) / POINTS, 0.34, facecolor=colour, linewidth=0)
                axes.add_patch(box)


# runs -----------------------------------------------------------------------------------------------------------------


@styled
def resumed_runs(whole: list[dict], parts: list[dict], forgetful: list[dict], stopped: int) -> Drawn:
    """How far two resumed runs are from one that was never stopped; one of them came back without AdamW's memory.

    Args:
        whole, parts, forgetful: records of metrics.jsonl, of as many steps.
        stopped: steps before the interruption.

    Returns:
        The largest difference of the summed losses from the undisturbed run, for the two others.
    """
    lines = [np.array([sum(record["loss"].values()) for record in records]) for records in (whole, parts, forgetful)]
    apart = {"resumed": lines[1] - lines[0], "forgetful": lines[2] - lines[0]}
    number = {name: float(np.abs(line).max()) for name, line in apart.items()}
    sheet = Sheet(
        f"Stopped after {stopped} steps and resumed: the losses differ by {number['resumed']:g}; with AdamW's memory lost, by up to "
        f"{number['forgetful']:.2f}",
        2.35,
        "Sum of all losses, minus that of the run that was never stopped. Same steps, same batches, same masks.",
    )
    axes = sheet.axes(0.6, 0.1, 6.4, 1.85)
    steps = np.arange(1, len(lines[0]) + 1)
    axes.axvline(stopped + 0.5, color=GREY, linewidth=1)
    axes.text(stopped + 0.4, 0.97, "stopped ", transform=axes.get_xaxis_transform(), fontsize=SMALL, color=GREY, ha="right", va="top")
    for (name, line), colour in zip(apart.items(), COLOURS, strict=True):
        since = 0 if name == "resumed" else stopped
        axes.plot(steps[since:], line[since:], color=colour, linewidth=2, marker="o", markersize=4)
    height = 1.15 * max(number["forgetful"], 1e-3)
    axes.set_ylim(-height, height)
    axes.set_xlabel("step", labelpad=1)
    axes.locator_params(axis="x", integer=True)
    label_ends(axes, [(apart["resumed"][-1], "resumed exactly", BLUE), (apart["forgetful"][-1], "AdamW's memory lost", ORANGE)])
    return Drawn(sheet.figure, number)


@styled
def first_losses(fresh: dict[str, float], going_on: dict[str, float], chance: dict[str, float]) -> Drawn:
    """Losses at the first step of a fresh model and of one that goes on from a checkpoint, as shares of what a guesser pays.

    Returns:
        The mean share over the terms whose answers are given by the data, of both. Codes are a model's own, and no fair comparison.
    """
    terms = [term for term in PRETRAINING_TERMS if term in chance]
    shares = {name: [found[t] / chance[t] for t in terms] for name, found in (("fresh", fresh), ("going_on", going_on))}
    given = [i for i, term in enumerate(terms) if term not in ("consensus", "mim")]
    number = {name: float(np.mean([values[i] for i in given])) for name, values in shares.items()}
    sheet = Sheet(
        f"First step: a fresh model pays {percent(number['fresh'])} of chance, one that goes on {percent(number['going_on'])}",
        0.36 * len(terms) + 0.5,
        "Dashed: chance. Right of it stands who is confident and wrong. Numbers: losses in nats. Title: mean over terms whose answers the "
        "data give; codes are each model's own.",
    )
    axes = sheet.axes(2.1, 0.1, 5.6, 0.36 * len(terms))
    axes.set(xlim=(0, 1.15 * max(*shares["fresh"], *shares["going_on"], 1)), ylim=(len(terms) - 0.5, -0.5), yticks=range(len(terms)))
    axes.set_yticklabels([NAMES[term] for term in terms], color=INK)
    axes.axvline(1, color=ORANGE, linewidth=1.4, linestyle="--")
    axes.set_xlabel("loss, as a share of chance", labelpad=1)
    for i, term in enumerate(terms):
        ends = shares["going_on"][i], shares["fresh"][i]
        axes.plot(ends, (i, i), color=PALE, linewidth=5, solid_capstyle="round", zorder=1)
        for share, loss, colour in ((ends[0], going_on[term], BLUE), (ends[1], fresh[term], GREY)):
            align, pad = ("right", -0.02) if share == min(ends) else ("left", 0.02)
            axes.scatter([share], [i], color=colour, s=42, zorder=2)
            axes.text(share + pad, i, f"{loss:.2f}", va="center", ha=align, fontsize=SMALL, color=colour)
    sheet.text(7.8, 0.1, "going on", SMALL, color=BLUE, weight="bold")
    sheet.text(7.8, 0.3, "fresh", SMALL, color=GREY, weight="bold")
    return Drawn(sheet.figure, number)
