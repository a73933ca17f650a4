"""Pictures of mixed precision, for notebook 07: what fits into 16 bits, what rounding does to codes, and what a loss scale is for."""

import math

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.figures.curves import label_ends
from semmim_mini.figures.style import BLUE, GREEN, GREY, INK, MARGIN, ORANGE, PALE, SMALL, WIDTH, Drawn, Sheet, styled

FORMATS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
COLOURS = {"fp32": GREEN, "fp16": ORANGE, "bf16": BLUE}
TEMPERATURES = (1.0, 0.3, 0.1, 0.07, 0.04)


def smallest(dtype: torch.dtype) -> float:
    """The smallest number above 0; half of it is rounded to 0."""
    found = torch.finfo(dtype)
    return found.smallest_normal * found.eps


@styled
def number_formats() -> Drawn:
    """Three formats, bit by bit, with their largest and smallest number and their step beside 1; number: exactly these."""
    number = {}
    sheet = Sheet(
        "16 bits: fp16 spends them on digits, bf16 on range",
        1.85,
        "Green: sign. Orange: exponent, which makes the range. Blue: fraction, which makes the digits. Step: from 1 to the next number.",
    )
    width, heads = 0.135, (("largest", 5.55), ("smallest above 0", 6.75), ("step at 1", 8.1))
    for head, left in heads:
        sheet.text(left, 0, head, SMALL, color=GREY)
    axes = sheet.axes(MARGIN + 0.6, 0.25, 32 * width, 1.5)
    axes.set(xlim=(0, 32), ylim=(3, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for i, (name, dtype) in enumerate(FORMATS.items()):
        found, top = torch.finfo(dtype), 0.25 + 0.5 * i + 0.14
        fraction = round(-math.log2(found.eps))
        kinds = [GREEN] + [ORANGE] * (found.bits - 1 - fraction) + [BLUE] * fraction
        for j, colour in enumerate(kinds):
            axes.add_patch(Rectangle((j + 0.06, i + 0.2), 0.88, 0.6, facecolor=colour, linewidth=0))
        sheet.text(MARGIN, top, name, weight="bold")
        values = found.max, smallest(dtype), found.eps
        for value, (_, left) in zip(values, heads, strict=True):
            sheet.text(left, top, f"{value:,.0f}" if 1 < value < 1e6 else f"{value:.1e}")
        number |= {f"{name}_{what}": value for what, value in zip(("largest", "smallest", "step"), values, strict=True)}
    return Drawn(sheet.figure, number)


def softmax_error(cosines: Tensor, temperature: float, dtype: torch.dtype) -> float:
    """Share of the probability that ends up on the wrong prototype when softmax(cosines / τ) is computed in `dtype`; mean over rows."""
    exact = (cosines.double() / temperature).softmax(dim=-1)
    rounded = (cosines.to(dtype) / temperature).softmax(dim=-1)
    return float((rounded.double() - exact).abs().sum(dim=-1).mean() / 2)


@styled
def softmax_errors(cosines: Tensor) -> Drawn:
    """What rounding does to codes, by temperature and format.

    Args:
        cosines: (rows, k), of tokens with prototypes, in fp32 or better.

    Returns:
        The error of each format at the lowest temperature, and how much larger that of bf16 is than at temperature 1.
    """
    errors = {name: [softmax_error(cosines, t, dtype) for t in TEMPERATURES] for name, dtype in FORMATS.items()}
    number = {name: course[-1] for name, course in errors.items()} | {"growth": errors["bf16"][-1] / errors["bf16"][0]}
    sheet = Sheet(
        f"At τ = {TEMPERATURES[-1]} bf16 misplaces {_percent(number['bf16'])} of the probability, {number['growth']:.0f} times as much as "
        "at τ = 1",
        2.75,
        "Half the sum of |p − exact p| over prototypes, mean over patches; exact: in 64 bits. Both axes are logarithmic.",
    )
    axes = sheet.axes(0.85, 0.1, 6.4, 2.2)
    for name, course in errors.items():
        axes.plot(TEMPERATURES, course, color=COLOURS[name], linewidth=2, marker="o", markersize=5)
    axes.set(xscale="log", yscale="log", xlim=(1.15, 0.036))
    axes.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("temperature τ: the codes are sharper to the right", labelpad=2)
    label_ends(axes, [(course[-1], f"{name}  {course[-1]:.1e}", COLOURS[name]) for name, course in errors.items()])
    return Drawn(sheet.figure, number)


@styled
def gradient_magnitudes(gradients: Tensor, scale: float = 2.0**16) -> Drawn:
    """How large the gradients of a step are, beside what fp16 can hold, as they are and times a loss scale.

    Args:
        gradients: all of them, flat, in fp32; exact zeros are left out.

    Returns:
        The shares that fp16 turns into zero and into infinity, without and with the scale.
    """
    found = gradients[gradients != 0].abs().double()
    low, high = smallest(torch.float16) / 2, torch.finfo(torch.float16).max
    number = {f"{what}_{name}": float(mark(found * factor).double().mean()) for name, factor in (("plain", 1.0), ("scaled", scale))
              for what, mark in (("lost", lambda x: x <= low), ("infinite", lambda x: x > high))}  # fmt: skip
    sheet = Sheet(
        f"fp16 turns {_percent(number['lost_plain'])} of these gradients into zero, and {_percent(number['lost_scaled'])} once they are "
        "scaled",
        2.65,
        "Share of the gradients by size. Grey ground: zero in fp16 on the left, infinite on the right. bf16 holds all of them as they are.",
    )
    axes = sheet.axes(0.5, 0.1, WIDTH - 1.0, 2.15)
    edges = np.arange(-14, 8.01, 0.25)
    for left, right in ((edges[0], math.log10(low)), (math.log10(high), edges[-1])):
        axes.axvspan(left, right, color=PALE, linewidth=0)
    for factor, colour, name in ((1.0, BLUE, "as they are"), (scale, ORANGE, f"times 2^{math.log2(scale):.0f}")):
        heights, _ = np.histogram(np.log10((found * factor).numpy()), edges)
        axes.stairs(heights / len(found), edges, color=colour, linewidth=2)
        peak = edges[heights.argmax()] + 0.1
        axes.text(peak, heights.max() / len(found) + 0.004, name, color=colour, fontsize=SMALL, weight="bold", va="bottom", ha="center")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.25 * heights.max() / len(found)))
    ticks = range(-14, 8, 2)
    axes.set_xticks(ticks, [f"$10^{{{t}}}$" for t in ticks])
    axes.set_xlabel("size of a gradient", labelpad=1)
    return Drawn(sheet.figure, number)


@styled
def scale_course(scales: list[float], skipped: list[bool]) -> Drawn:
    """The loss scale over steps: up after good ones in a row, down at an overflow; number: steps skipped, first and last scale."""
    number = {"skipped": float(sum(skipped)), "first": scales[0], "last": scales[-1]}
    sheet = Sheet(
        f"The scale feels for its ceiling: {number['skipped']:.0f} of {len(scales)} steps are skipped",
        1.95,
        "Loss scale at each step, as a power of 2. Crosses: the gradient was infinite, so the weights stayed and the scale is halved.",
    )
    axes = sheet.axes(0.5, 0.1, WIDTH - 1.0, 1.45)
    steps, heights = np.arange(1, len(scales) + 1), np.log2(scales)
    axes.step(steps, heights, where="mid", color=BLUE, linewidth=2)
    lost = np.array(skipped, dtype=bool)
    axes.scatter(steps[lost], heights[lost], marker="x", color=ORANGE, s=60, linewidths=2.2, zorder=3)
    axes.set(xlim=(0.5, len(scales) + 0.5), ylim=(heights.min() - 0.6, heights.max() + 0.6))
    axes.set_xlabel("step", labelpad=1)
    axes.set_yticks(np.unique(heights), [f"$2^{{{int(h)}}}$" for h in np.unique(heights)], color=INK)
    return Drawn(sheet.figure, number)


def _percent(share: float) -> str:
    """Two digits that count, of shares too small for whole percents."""
    return f"{100 * share:.2g}\u00a0%"
