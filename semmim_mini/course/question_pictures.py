"""Pictures of notebook 11: what is asked of a scene, what guessers reach, the accuracy rule, and where questions look."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from semmim_mini.data.questions import VisualQuestion
from semmim_mini.figures.style import (
    BLUE,
    GREEN,
    GREY,
    HEAT,
    INK,
    MARGIN,
    OBJECT_COLOURS,
    ORANGE,
    SMALL,
    WIDTH,
    Drawn,
    Sheet,
    as_picture,
    heat,
    line_height,
    outline,
    percent,
    styled,
    wrap,
)

SHADES = ("#0072B2", "#4C9CC9", "#8FC1DE", "#C3DDEC")  # from the commonest answer down
REST = "#E4E4E4"


@styled
def asked_scene(image: Tensor, questions: Sequence[VisualQuestion]) -> Drawn:
    """A scene and all its questions with their answers; numbers: how many of each kind."""
    number = {kind: float(count) for kind, count in sorted(Counter(question.kind for question in questions).items())}
    sheet = Sheet(f"{len(questions)} questions about one scene, of {len(number)} kinds", max(2.75, 0.2 * len(questions) + 0.1))
    sheet.picture(MARGIN, 0, 2.6, as_picture(image))
    left = MARGIN + 2.85
    for row, question in enumerate(sorted(questions, key=lambda question: question.kind)):
        sheet.text(left, 0.2 * row, question.kind, SMALL, color=GREY)
        sheet.text(left + 1.2, 0.2 * row, question.text, SMALL)
        sheet.text(WIDTH - MARGIN, 0.2 * row, question.answers[0][0], SMALL, "right", color=BLUE, weight="bold")
    return Drawn(sheet.figure, number)


@styled
def answer_shares(questions: Sequence[VisualQuestion]) -> Drawn:
    """How often each answer is right, a bar for each kind of question; numbers: the share of the commonest answer."""
    kinds = sorted({question.kind for question in questions})
    sheet = Sheet(
        "What somebody reaches who always gives the commonest answer of the kind",
        0.42 * len(kinds) + 0.05,
        "Blue: the four commonest answers to training questions of the kind, commonest first. Grey: all others together.",
    )
    number, left, full = {}, MARGIN + 1.95, WIDTH - 2 * MARGIN - 1.95
    for row, kind in enumerate(kinds):
        counts = Counter(question.answers[0][0] for question in questions if question.kind == kind)
        total, at = counts.total(), 0.0
        number[kind] = counts.most_common(1)[0][1] / total
        sheet.text(left - 0.1, 0.42 * row + 0.08, f"{kind}: {percent(number[kind])}", align="right")
        top, others = counts.most_common(len(SHADES)), max(len(counts) - len(SHADES), 0)
        top.append((f"{others} other{'s' * (others > 1)}", total - sum(count for _, count in top)))
        for (answer, count), shade in zip(top, (*SHADES[: len(top) - 1], REST), strict=True):
            wide = full * count / total
            if count:
                _block(sheet, left + at, 0.42 * row, wide, shade, answer)
            at += wide
    return Drawn(sheet.figure, number)


def _block(sheet: Sheet, left: float, top: float, wide: float, colour: str, words: str) -> None:
    axes = sheet.axes(left, top, max(wide - 0.02, 0.01), 0.32)
    axes.set(xticks=[], yticks=[], facecolor=colour)
    axes.spines[:].set_visible(False)
    if wide > 0.085 * len(words) + 0.1:
        sheet.text(left + wide / 2 - 0.01, top + 0.09, words, SMALL, "center", color="white" if colour in SHADES[:2] else INK)


@styled
def by_kind(table: Mapping[str, Mapping[str, float]], title: str, note: str = "") -> Drawn:
    """Accuracies as groups of bars, a group for each kind of question and one for all; numbers: each as `kind, who`.

    Args:
        table: by who answers, then by kind.
    """
    kinds = list(next(iter(table.values())))
    sheet = Sheet(title, 2.75, note)
    axes = sheet.axes(MARGIN + 0.5, 0.3, WIDTH - 2 * MARGIN - 0.5, 2.1)
    width = 0.84 / len(table)
    colours = [*OBJECT_COLOURS[:2], GREEN, "#999999", "#555555"]
    for i, ((who, shares), colour) in enumerate(zip(table.items(), colours, strict=False)):
        at = np.arange(len(kinds)) + (i - (len(table) - 1) / 2) * width
        axes.bar(at, list(shares.values()), width=0.92 * width, color=colour, label=who)
        for x, share in zip(at, shares.values(), strict=True):
            axes.text(x, share + 0.012, f"{100 * share:.0f}", ha="center", fontsize=SMALL - 1)
    most = max(share for shares in table.values() for share in shares.values())
    axes.set(xlim=(-0.5, len(kinds) - 0.5), ylim=(0, 1.1 * most), yticks=[])
    axes.set_xticks(range(len(kinds)), kinds, color=INK)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=len(table), frameon=False, fontsize=SMALL, columnspacing=1.2)
    return Drawn(sheet.figure, {f"{kind}, {who}": share for who, shares in table.items() for kind, share in shares.items()})


@styled
def accuracy_rule(scores: Sequence[float]) -> Drawn:
    """Accuracy of an answer that 0, 1, 2, … of ten people gave, beside the rule without leaving out; numbers: where it becomes 1."""
    simple = [min(agree / 3, 1.0) for agree in range(len(scores))]
    number = {"leaving out": float(next(m for m, s in enumerate(scores) if s > 0.999)), "simple": 3.0}
    sheet = Sheet(
        f"An answer is fully right from {number['leaving out']:.0f} of ten people on",
        2.2,
        "Blue: mean over the ten ways of leaving one person out. Circles: min(m/3, 1) with all ten at once.",
    )
    axes = sheet.axes(MARGIN + 0.6, 0.1, WIDTH - 2 * MARGIN - 0.8, 1.6)
    axes.bar(range(len(scores)), scores, color=BLUE, width=0.6)
    axes.plot(range(len(simple)), simple, "o", color="white", markeredgecolor=INK, markersize=6)
    for m, score in enumerate(scores[:5]):
        axes.text(m - 0.04, max(score, simple[m]) + 0.07, f"{score:.1f}", ha="center", fontsize=SMALL)
    axes.set(xlim=(-0.6, len(scores) - 0.4), ylim=(0, 1.25), yticks=(0, 0.5, 1), xlabel="people who gave this answer, of ten")
    axes.set_xticks(range(len(scores)))
    return Drawn(sheet.figure, number)


@styled
def question_maps(
    images: Tensor, questions: Sequence[str], maps: Float[Tensor, "q n"], targets: Bool[Tensor, "q n"], number: Mapping[str, float]
) -> Drawn:
    """Where the word that a question asks about looks; each question's object outlined.

    Args:
        number: shares of attention over all questions, `own`, `other` and `chance`: on the object that is asked about, on it from the
            word of another question, and of a map that is even.
    """
    side = round(maps.shape[1] ** 0.5)
    patch = images.shape[-1] // side
    tile = (WIDTH - 2 * MARGIN - 0.12 * (len(questions) - 1)) / len(questions)
    lines = [wrap(question, tile, SMALL) for question in questions]
    sheet = Sheet(
        f"Attention on the object that is asked about: {percent(number['own'])}; from another question's word {percent(number['other'])}; "
        f"even: {percent(number['chance'])}",
        2 * (tile + 0.06) + max(map(len, lines)) * line_height(SMALL) + 0.08,
        "Above the scene, below the map of the object's word, bright is much. Orange: the object. Numbers are over all such questions.",
    )
    for i, (image, scores, target) in enumerate(zip(images, maps, targets, strict=True)):
        left = MARGIN + i * (tile + 0.12)
        for top, shown, how in ((0, as_picture(image), {}), (tile + 0.06, heat(scores, patch), {"cmap": HEAT})):
            outline(sheet.picture(left, top, tile, shown, **how), target.reshape(side, side).numpy(), patch, ORANGE)
        for row, line in enumerate(lines[i]):
            sheet.text(left, 2 * (tile + 0.06) + 0.02 + row * line_height(SMALL), line, SMALL)
    return Drawn(sheet.figure, dict(number))
