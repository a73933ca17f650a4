"""Pictures of notebook 09: who ranks whom, how a gallery's size matters, what re-ranking and fine-tuning do."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from semmim_mini.figures.style import BLUE, GREEN, GREY, HEAT, INK, MARGIN, ORANGE, SMALL, WIDTH, Drawn, Sheet, percent, styled, text_width

INNER = WIDTH - 2 * MARGIN
WAYS = {"image_to_text": ("image→text", ORANGE), "text_to_image": ("text→image", BLUE)}


# Ranks ------------------------------------------------------------------------------------------------------------------


@styled
def ranks_in_a_matrix(
    similarity: Float[Tensor, "i t"], owners: Int[Tensor, "t"], ranks: tuple[Int[Tensor, "i"], Int[Tensor, "t"]]
) -> Drawn:
    """Similarities of a few images with all their captions, own ones framed; ranks of images beside, of captions below.

    Returns:
        `image_to_text` and `text_to_image`: shares of queries whose rank is 1.
    """
    images, texts = similarity.shape
    number = {way: float((rank == 1).float().mean()) for way, rank in zip(WAYS, ranks, strict=True)}
    shares = [percent(number[way]) for way in WAYS]
    sheet = Sheet(
        f"{images} images and {texts} captions: a right answer comes first for {shares[0]} of the images, {shares[1]} of the captions",
        0.25 + 0.3 * images + 0.35,
        "Bright: similar. Framed: an image's own captions. Numbers: the place of an image's best own caption among all captions, and of a "
        "caption's own image among all images.",
    )
    left, width, height = MARGIN + 0.85, INNER - 2.0, 0.3 * images
    axes = sheet.axes(left, 0.25, width, height)
    axes.imshow(similarity.numpy(), cmap=HEAT, aspect="auto", extent=(0, texts, images, 0), interpolation="nearest")
    for i in range(images):
        own = (owners == i).nonzero().flatten()
        frame = {"fill": False, "edgecolor": "white", "linewidth": 2, "clip_on": False}
        axes.add_patch(Rectangle((int(own[0]), i), len(own), 1, **frame))
        axes.text(-0.3, i + 0.5, f"image {i + 1}", ha="right", va="center", fontsize=SMALL)
        axes.text(texts + 0.4, i + 0.5, str(int(ranks[0][i])), ha="left", va="center", fontweight="bold", color=_told(ranks[0][i]))
    for j in range(texts):
        axes.text(j + 0.5, images + 0.15, str(int(ranks[1][j])), ha="center", va="top", fontsize=SMALL, color=_told(ranks[1][j]))
    axes.set(xticks=[], yticks=[])
    sheet.text(left, 0, "captions", SMALL, weight="bold")
    sheet.text(WIDTH - MARGIN, 0, "rank of best own", SMALL, "right", weight="bold")
    sheet.text(MARGIN, 0.3 + height, "rank of own", SMALL, weight="bold")
    return Drawn(sheet.figure, number)


def _told(rank: Tensor) -> str:
    return GREEN if int(rank) == 1 else INK


@styled
def gallery_curve(sizes: Sequence[int], recall: Mapping[str, Sequence[float]]) -> Drawn:
    """R@1 by the number of images that are ranked together, both ways, and chance, all on logarithmic axes.

    Args:
        recall: R@1 for each of `WAYS`, a value for each size.

    Returns:
        R@1 of the smallest and of the largest gallery, both ways, as `WAY_SIZE`.
    """
    number = {f"{way}_{sizes[i]}": recall[way][i] for way in WAYS for i in (0, -1)}
    told = ", ".join(f"{name} {percent(recall[way][0])} → {percent(recall[way][-1])}" for way, (name, _) in WAYS.items())
    sheet = Sheet(
        f"The same model, R@1 from {sizes[0]} to {sizes[-1]} images: {told}", 2.4, "Dashed: chance, 1/n. Both axes are logarithmic."
    )
    axes = sheet.axes(MARGIN + 0.6, 0.1, INNER - 2.0, 1.9)
    for way, (name, colour) in WAYS.items():
        axes.plot(sizes, recall[way], "o-", color=colour, linewidth=2)
        side = "bottom" if recall[way][-1] == max(row[-1] for row in recall.values()) else "top"
        axes.text(1.08 * sizes[-1], recall[way][-1], name, color=colour, va=side, fontweight="bold")
    axes.plot(sizes, [1 / n for n in sizes], "--", color=INK)
    axes.text(1.08 * sizes[-1], 1 / sizes[-1], "chance", color=INK, va="center")
    axes.set(xscale="log", yscale="log", xlabel="images in the gallery, each with its five captions")
    axes.set_xticks(list(sizes), [str(n) for n in sizes])
    ticks = [x for x in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if x > 0.8 / sizes[-1]]
    axes.set_yticks(ticks, [f"{x:.1%}".replace(".0%", "%").replace("%", "\u00a0%") for x in ticks])
    axes.minorticks_off()
    return Drawn(sheet.figure, number)


# Re-ranking -------------------------------------------------------------------------------------------------------------


@styled
def rerank_curve(cs: Sequence[int], recall: Mapping[str, Mapping[str, Sequence[float]]], pairs: Sequence[int], every: int) -> Drawn:
    """R@1 by the number of candidates, both ways, and what they cost.

    Args:
        recall: for each of `WAYS` by c: `match`, log-odds of "matched"; `both`, with the ITC logit added; `perfect`, the share of
            queries with a right answer among the c, which a matcher without a mistake would put first. The first c is 1: no change.
        pairs: that the fusion encoder reads, for each c; `every` pair there is.

    Returns:
        For each way `WAY_itc`, R@1 without re-ranking, and `WAY_match`, `WAY_both`, `WAY_perfect` with the most candidates.
    """
    number = {f"{way}_itc": recall[way]["both"][0] for way in WAYS}
    number |= {f"{way}_{kind}": values[-1] for way in WAYS for kind, values in recall[way].items()}
    told = ", ".join(f"{name} {percent(number[f'{way}_itc'])} → {percent(number[f'{way}_both'])}" for way, (name, _) in WAYS.items())
    sheet = Sheet(
        f"R@1 after re-ranking the {cs[-1]} nearest: {told}",
        2.5,
        "Solid: by log-odds of “matched” plus the ITC logit. Dotted: by log-odds alone. Dashed: what a perfect matcher would reach. Grey: "
        f"without re-ranking. Right: pairs read; all would be {every:,}.",
    )
    width = (INNER - 1.6) / 3
    for i, (way, (name, colour)) in enumerate(WAYS.items()):
        sheet.text(MARGIN + 0.4 + i * (width + 0.5), 0, name, SMALL, weight="bold", color=colour)
        axes = sheet.axes(MARGIN + 0.4 + i * (width + 0.5), 0.22, width, 1.75)
        for kind, how in (("both", "-"), ("match", ":"), ("perfect", "--")):
            axes.plot(cs, recall[way][kind], how, color=GREY if kind == "perfect" else colour, linewidth=2)
        axes.axhline(recall[way]["both"][0], color="#BBBBBB", zorder=0)
        axes.set_ylim(0, 1.1 * max(max(r["perfect"]) for r in recall.values()))
        _candidates(axes, cs)
        axes.yaxis.set_major_formatter(lambda x, _: percent(x))
    left = MARGIN + 0.55 + 2 * (width + 0.5)
    sheet.text(left, 0, "pairs that are read", SMALL, weight="bold")
    axes = sheet.axes(left, 0.22, width, 1.75)
    axes.plot(cs, pairs, "o-", color=INK)
    axes.set_ylim(0, 1.1 * pairs[-1])
    _candidates(axes, cs)
    axes.yaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    return Drawn(sheet.figure, number)


def _candidates(axes: Axes, cs: Sequence[int]) -> None:
    axes.set(xscale="log", xlabel="candidates c")
    axes.set_xticks(list(cs), [str(c) for c in cs])
    axes.minorticks_off()


# Fine-tuning ------------------------------------------------------------------------------------------------------------


@styled
def two_beginnings(logs: Mapping[str, Sequence[Mapping]], terms: Sequence[str] = ("itc", "itm")) -> Drawn:
    """Losses of runs that differ in their first weights alone, beside chance.

    Args:
        logs: for each run the lines of its metrics.jsonl.

    Returns:
        For each run and term the mean loss of the last quarter, `RUN TERM`, and chance, `chance TERM`.
    """
    last = {name: log[-max(1, len(log) // 4) :] for name, log in logs.items()}
    number = {f"{name} {term}": float(np.mean([record["loss"][term] for record in log])) for name, log in last.items() for term in terms}
    first = next(iter(logs.values()))[-1]
    number |= {f"chance {term}": first["chance"][term] for term in terms}
    told = ", ".join(f"{name} {number[f'{name} {terms[0]}']:.2f}" for name in logs)
    sheet = Sheet(
        f"The same steps from two beginnings: {terms[0].upper()} in the end {told} (chance {number[f'chance {terms[0]}']:.2f})",
        2.2,
        "Dashed: what a guesser pays. Losses in nats, of training batches.",
    )
    width = (INNER - 0.9) / len(terms)
    colours = dict(zip(logs, (BLUE, ORANGE), strict=True))
    for i, term in enumerate(terms):
        left = MARGIN + 0.45 + i * (width + 0.45)
        sheet.text(left, 0, term.upper(), SMALL, weight="bold")
        axes = sheet.axes(left, 0.22, width, 1.5)
        for name, log in logs.items():
            axes.plot([record["step"] for record in log], [record["loss"][term] for record in log], color=colours[name], linewidth=2)
        axes.axhline(number[f"chance {term}"], color=INK, linestyle="--", linewidth=1.2)
        axes.set(xlabel="step")
    left = MARGIN + 1.2
    for name, colour in colours.items():
        sheet.text(left, 0, f"■ {name}", SMALL, color=colour, weight="bold")
        left += text_width(f"■ {name}", SMALL, bold=True) + 0.3
    return Drawn(sheet.figure, number)
