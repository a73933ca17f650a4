"""Further pictures of notebook 06: codes that quote the caption, the text shortcut, a gate that opens, and what two readings cost."""

import math

import numpy as np

from semmim_mini.figures.style import BLUE, GREEN, INK, MARGIN, ORANGE, SKY, SMALL, WIDTH, Drawn, Sheet, percent, styled

TRUNK = "#BBBBBB"


def _legend(sheet: Sheet, left: float, entries: dict[str, str], step: float) -> None:
    """Names in their colours along the upper edge."""
    for i, (name, colour) in enumerate(entries.items()):
        sheet.text(left + i * step, 0, f"■ {name}", SMALL, color=colour, weight="bold")


@styled
def quoting_bars(before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]) -> Drawn:
    """Share of [CLS] codes that stay when one thing changes, for each isolation, before and after training.

    Args:
        before, after: for each isolation the shares that stay when only `crop`, `caption` or `picture` changes, and `chance`.
    """
    number = {f"{name}_{kind}": share for name, shares in after.items() for kind, share in shares.items()}
    told = ", ".join(f"{percent(1 - shares['caption'])} under {name}" for name, shares in after.items())
    sheet = Sheet(
        f"Give [CLS] another caption, and its code changes: {told}",
        2.5,
        "Share of held-out codes that stay when one thing changes and the rest is kept. Dashed: chance, two pictures that have nothing in "
        "common, after training. Circles: the same networks before training.",
    )
    colours = {"crop": SKY, "caption": ORANGE, "picture": GREEN}
    _legend(sheet, MARGIN + 0.5, {f"another {kind}": colour for kind, colour in colours.items()}, 1.6)
    axes = sheet.axes(MARGIN + 0.5, 0.3, WIDTH - 2 * MARGIN - 0.5, 1.9)
    for i, (name, shares) in enumerate(after.items()):
        for at, (kind, colour) in zip((i - 0.26, i, i + 0.26), colours.items(), strict=True):
            axes.bar(at, shares[kind], width=0.23, color=colour)
            axes.text(at - 0.03, shares[kind] + 0.02, percent(shares[kind]), ha="center", fontsize=SMALL)
            axes.plot(at + 0.085, before[name][kind], marker="o", color="white", markeredgecolor=INK, markersize=6)
        axes.hlines(shares["chance"], i - 0.4, i + 0.4, color=INK, linestyle="--", linewidth=1.2)
    axes.set(xlim=(-0.5, len(after) - 0.5), ylim=(0, 1.12))
    axes.set_xticks(range(len(after)), [f"trained with {name}" for name in after], color=INK)
    axes.set_yticks((0, 0.5, 1), [percent(share) for share in (0, 0.5, 1)])
    axes.tick_params(axis="x", length=0)
    return Drawn(sheet.figure, number)


@styled
def shortcut_bars(found: dict[str, float]) -> Drawn:
    """The losses of `instruments.shortcut` as distances from the guesser's line; numbers: nats below it, and the codes that survive."""
    keys = {
        "as trained": "loss_masked",
        "a wrong caption": "loss_shuffled_caption",
        "text alone": "loss_all_masked",
        "a wrong text alone": "loss_all_masked_shuffled_caption",
    }
    guesser, survives = found["loss_marginal"], found["code_survives_caption_swap"]
    number = {name: guesser - found[key] for name, key in keys.items()}
    told = ", ".join(f"{name} {abs(gain):.2f} {'better' if gain > 0 else 'worse'}" for name, gain in number.items())
    sheet = Sheet(
        f"Nats beside guessing: {told}",
        2.05,
        "Bars begin at the loss of a guesser who knows only how common codes are (dashed). To the left: better than guessing. "
        f"{percent(survives)} of the target codes survive a caption swap.",
    )
    axes = sheet.axes(MARGIN + 1.25, 0.05, WIDTH - 2 * MARGIN - 1.75, 1.6)
    for i, (name, gain) in enumerate(number.items()):
        axes.barh(i, -gain, left=guesser, height=0.6, color=BLUE if gain > 0 else ORANGE)
        at, side = guesser - gain - math.copysign(0.02, gain), "right" if gain > 0 else "left"
        axes.text(at, i, f"{found[keys[name]]:.2f}", ha=side, va="center")
    axes.axvline(guesser, color=INK, linestyle="--", linewidth=1.2)
    losses = [guesser, *(found[key] for key in keys.values())]
    room = 0.15 * (max(losses) - min(losses)) + 0.05
    axes.set(xlim=(min(losses) - room, max(losses) + room), ylim=(len(keys) - 0.4, -0.6), xlabel="loss on the hidden patches, nats")
    axes.set_yticks(range(len(keys)), list(keys), color=INK)
    axes.tick_params(axis="y", length=0)
    return Drawn(sheet.figure, number | {"survives": survives})


@styled
def gate_curves(appended: list[float], gated: list[float], gates: list[float], chance: float) -> Drawn:
    """Two losses beside chance, and how far the gate is open; numbers: steps until a loss is below half of chance, the last opening."""
    first = [next((i for i, loss in enumerate(losses) if loss < chance / 2), len(losses)) for losses in (appended, gated)]
    opening = np.abs(np.tanh(gates))
    number = {"steps_append": float(first[0]), "steps_gated": float(first[1]), "open": float(opening[-1])}
    sheet = Sheet(
        f"Below half of the chance level after {first[0]} steps with appended words, after {first[1]} behind a gate that is then "
        f"{percent(opening[min(first[1], len(opening) - 1)])} open",
        2.25,
    )
    left, right = (sheet.axes(MARGIN + 0.55 + at, 0.1, 3.75, 1.7) for at in (0, 4.4))
    left.axhline(chance, color=INK, linestyle="--", linewidth=1.2)
    left.text(len(gates), chance + 0.05, f"chance: {chance:.2f}", ha="right", fontsize=SMALL)
    left.plot(appended, color=BLUE, label="appended words")
    left.plot(gated, color=ORANGE, label="behind a gate")
    left.legend(frameon=False, fontsize=SMALL, loc="lower left")
    left.set(xlim=(0, len(gates)), ylim=(0, 1.3 * chance), xlabel="step", ylabel="loss, nats")
    right.plot(opening, color=ORANGE)
    right.set(xlim=(0, len(gates)), ylim=(0, 1), xlabel="step", ylabel="|tanh g|: 1 is open")
    return Drawn(sheet.figure, number)


@styled
def cost_bars(costs: dict[int, tuple[int, int, int]]) -> Drawn:
    """Both readings of a picture for every m, beside one pass without text; numbers: their sum over that pass.

    Args:
        costs: for each m the FLOPs of trunk, text-free branch and injected branch.
    """
    number = {f"m = {m}": sum(parts) / (parts[0] + parts[1]) for m, parts in costs.items()}
    told = ", ".join(f"{ratio:.2f} with {name}" for name, ratio in number.items())
    sheet = Sheet(
        f"Both readings, in passes without text: {told}",
        2.4,
        "FLOPs of one picture, counted, as multiples of one pass of the whole encoder without text (dashed).",
    )
    colours = {"trunk, once": TRUNK, "branch without text": BLUE, "branch with text": ORANGE}
    _legend(sheet, MARGIN + 0.6, colours, 1.8)
    axes = sheet.axes(MARGIN + 0.6, 0.3, WIDTH - 2 * MARGIN - 0.6, 1.8)
    for i, parts in enumerate(costs.values()):
        heights = np.array(parts) / (parts[0] + parts[1])
        axes.bar([i] * 3, heights, bottom=np.cumsum(heights) - heights, width=0.55, color=list(colours.values()))
        axes.text(i, heights.sum() + 0.05, f"{heights.sum():.2f}", ha="center")
    axes.axhline(1, color=INK, linestyle="--", linewidth=1.2)
    axes.set_xticks(range(len(costs)), list(number), color=INK)
    axes.set(ylim=(0, 2.5), xlim=(-0.5, len(costs) - 0.5), ylabel="passes without text")
    axes.tick_params(axis="x", length=0)
    return Drawn(sheet.figure, number)
