r"""Is this loss normal? Every term beside what a guesser pays, and the signs of health beside their bounds.

| term | a blind guesser pays | the best there is |
| --- | --- | --- |
| ITC | ln(keys); keys grow while the queue fills | |
| ITM | 0.6365, the entropy of (1/3, 2/3) | 0 |
| MLM, captioning | entropy of the words' own frequencies | |
| consensus, MIM on codes | ln k | the teacher's entropy, not 0 |
| MIM on pixels, on tokens | 1, ln(codebook) | 0 |
"""

import math

import numpy as np
from matplotlib.axes import Axes

from semmim_mini.config import Config
from semmim_mini.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, SMALL, Drawn, Sheet, percent, styled
from semmim_mini.instruments.collapse import codes_over_the_run
from semmim_mini.objectives.matching import CHANCE
from semmim_mini.training.schedules import TERMS

NAMES = {
    "itc": "Contrast (ITC)",
    "itm": "Matching (ITM)",
    "mlm": "Words (MLM)",
    "consensus": "Consensus",
    "mim": "Masked patches (MIM)",
    "caption": "Captioning",
    "answer": "Answers",
}
COLUMNS, PANEL, GAP = 3, 1.75, 0.62  # panels a row; height of a panel and the space between rows, in inches
HEALTH_NOTE = (
    "Dashed: bounds. A code of entropy ln k says nothing; a mean code at distance ln k from uniform is one code for everything. "
    "Healthy: many codes in use, entropy between 0 and ln k, distance near 0."
)
BELOW = 0.95  # of chance: what is called below it


@styled
def loss_curves(records: list[dict], config: Config, word_entropy: float | None = None) -> Drawn:
    """One panel per loss term: every step, a running mean, and the chance line.

    Args:
        records: of metrics.jsonl.
        word_entropy: unigram entropy of the captions' words in nats; without it the weaker ln(vocabulary) stands in.

    Returns:
        The number of a term is its mean loss over the last tenth of its steps, `<term>_chance` that of the line.
    """
    terms = [term for term in TERMS if any(term in r["loss"] for r in records)]
    number, window = {}, _window(len(records))
    for term in terms:
        number[term] = _late(_course(records, lambda r, t=term: r["loss"].get(t))[1])
        number[f"{term}_chance"] = _late(_chance(term, records, config, word_entropy)[1])
    below = sum(number[term] < BELOW * number[f"{term}_chance"] for term in terms)
    sheet = Sheet(
        f"Training losses: after {records[-1]['step'] + 1} steps {below} of {len(terms)} terms are at least 5\u00a0% below chance",
        _rows(len(terms)),
        f"Thin: every step. Thick: mean of {window} steps. Dashed: what a blind guesser pays. Dotted: the teacher's entropy, the best "
        "there is. In the titles: mean of the last tenth, in nats."
        + (" Grey ground: the term is still off." if any(getattr(config.losses, t).start > 0 for t in terms) else ""),
    )
    for i, term in enumerate(terms):
        axes = _panel(sheet, i, len(terms), f"{NAMES[term]}: {_short(number[term])}", config.run.steps)
        _loss_panel(axes, term, records, config, word_entropy, window)
    return Drawn(sheet.figure, number)


def _loss_panel(axes: Axes, term: str, records: list[dict], config: Config, word_entropy: float | None, window: int) -> None:
    steps, values = _course(records, lambda r: r["loss"].get(term))
    smooth = running_mean(values, window)
    label, chance = _chance(term, records, config, word_entropy)
    lines, ends = [chance, smooth, np.quantile(values, [0.02, 0.98])], [(_late(chance), f"{label}\n{_short(_late(chance))}", ORANGE)]
    axes.plot(steps, values, color=BLUE, linewidth=0.7, alpha=0.4)
    axes.plot(steps, smooth, color=BLUE, linewidth=2)
    axes.plot(steps, chance, color=ORANGE, linewidth=1.4, linestyle="--")
    floor = _floor(term, records, config)
    if len(floor[0]):
        axes.plot(floor[0], running_mean(floor[1], window), color=GREEN, linewidth=1.4, linestyle=":")
        lines.append(floor[1][len(floor[1]) // 10 :])
        ends.append((_late(floor[1]), f"best\n{_short(_late(floor[1]))}", GREEN))
    low, high = min(map(np.min, lines)), max(map(np.max, lines))
    room = max(high - low, 1e-3)
    axes.set_ylim(low - 0.08 * room, high + 0.16 * room)
    if (start := getattr(config.losses, term).start) > 0:
        axes.axvspan(0, start * config.run.steps, color=PALE, linewidth=0)
    if term == "mim":
        _mark_masks(axes, records, config)
    label_ends(axes, ends)


def _floor(term: str, records: list[dict], config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Course of the teacher's entropy, which a perfect student would pay; empty for terms that know no such bound."""
    names = {"consensus": "cls_entropy"} | ({"mim": "patch_entropy"} if config.losses.mim_target == "codes" else {})
    return _course(records, lambda r: r.get(names.get(term, "")))


def _mark_masks(axes: Axes, records: list[dict], config: Config) -> None:
    """A line where random masks end and the configured ones begin."""
    random = [r["step"] for r in records if r.get("random_mask")]
    changed = [random[-1] + 1] if random and random[-1] < records[-1]["step"] else []
    if changed and config.masking.strategy != "random":
        axes.axvline(changed[0], color=GREY, linewidth=1)
        early = changed[0] < 0.5 * config.run.steps  # the label stands on the roomier side of its line
        guided = "guided" if config.masking.strategy.startswith("text") else config.masking.strategy
        axes.text(
            changed[0], 0.98, f" {guided} masks" if early else "random masks ", transform=axes.get_xaxis_transform(), fontsize=SMALL,
            color=GREY, va="top", ha="left" if early else "right",
        )  # fmt: skip


def _chance(term: str, records: list[dict], config: Config, word_entropy: float | None) -> tuple[str, np.ndarray]:
    """What the line is called, and its height at every step that has the term."""
    keys = np.array([r.get("itc_keys", config.data.batch_size) for r in records if term in r["loss"]], dtype=float)
    words = ("unigram", word_entropy) if word_entropy else ("ln vocab.", math.log(config.data.vocab_size))
    k, losses = math.log(config.space.prototypes), config.losses
    mim = {"codes": ("ln k", k), "pixels": ("chance", 1.0), "tokens": ("ln tokens", math.log(losses.patch_tokens))}
    if term == "itc":
        return "ln keys", np.log(keys)
    label, height = {"itm": ("chance", CHANCE), "consensus": ("ln k", k), "mim": mim[losses.mim_target]}.get(term, words)
    return label, np.full(len(keys), height)


@styled
def health_curves(records: list[dict], config: Config) -> Drawn:
    """Signs of health: codes in use, the teacher's entropy, gradient norm, speed. Collapse shows here long before results do.

    Returns:
        The numbers of `instruments.collapse.codes_over_the_run` where the run has codes; medians of gradient norm and images per
        second; the share of time spent waiting for data.
    """
    seconds, waiting = (sum(r.get(name, 0.0) for r in records) for name in ("seconds", "seconds_waiting_for_data"))
    norm = _course(records, lambda r: r.get("grad_norm"))[1]
    number = codes_over_the_run(records) | {
        "grad_norm_median": float(np.median(norm)) if len(norm) else 0.0,
        "images_per_second_median": float(np.median([r.get("images_per_second", 0.0) for r in records])),
        "waiting_share": waiting / seconds if seconds else 0.0,
    }
    panels = [panel for panel in _health_panels(config, number) if any(any(n in r for n in panel["lines"]) for r in records)]
    sheet = Sheet(_health_title(number, config), _rows(len(panels)), HEALTH_NOTE)
    for i, panel in enumerate(panels):
        axes = _panel(sheet, i, len(panels), panel["title"], config.run.steps)
        _health_panel(axes, records, panel)
    return Drawn(sheet.figure, number)


def _health_title(number: dict, config: Config) -> str:
    codes = [
        f"{name} {number[f'{key}_codes_per_batch_early']:.0f}\u00a0→\u00a0{number[f'{key}_codes_per_batch_late']:.0f}"
        for key, name in (("patch", "patches"), ("cls", "[CLS]"))
        if f"{key}_codes_per_batch_late" in number
    ]
    if not codes:
        return f"Health of the run: {number['images_per_second_median']:.0f} images per second"
    return f"Codes in use per batch, early → late: {', '.join(codes)} of {config.space.prototypes}"


def _health_panels(config: Config, number: dict) -> list[dict]:
    k, both = config.space.prototypes, ("patches", "[CLS]")
    return [
        {"title": "Codes in use per batch", "lines": dict(zip(("patch_prototypes_used", "cls_prototypes_used"), both, strict=True)),
         "bound": (k, f"k\n{k}"), "floor": 0},
        {"title": "Entropy of one code (nats)", "lines": dict(zip(("patch_entropy", "cls_entropy"), both, strict=True)),
         "bound": (math.log(k), f"ln k\n{math.log(k):.2f}"), "floor": 0},
        {"title": "Mean code, KL to uniform", "lines": dict(zip(("patch_kl_to_uniform", "cls_kl_to_uniform"), both, strict=True)),
         "bound": (math.log(k), f"ln k\n{math.log(k):.2f}"), "floor": 0},
        {"title": f"Gradient norm: median {number['grad_norm_median']:.1f}", "lines": {"grad_norm": ""}, "log": True,
         "bound": (config.optim.clip, f"clipped\nabove {config.optim.clip:g}")},
        {"title": f"Images per second: {number['images_per_second_median']:.0f}", "lines": {"images_per_second": ""}, "floor": 0},
        {"title": f"Waiting for data: {percent(number['waiting_share'])}", "lines": {"seconds_waiting_for_data": ""}, "floor": 0,
         "per": "seconds", "bound": (1.0, "all of\nthe time")},
    ]  # fmt: skip


def _health_panel(axes: Axes, records: list[dict], panel: dict) -> None:
    ends = []
    for (name, label), colour in zip(panel["lines"].items(), (BLUE, GREEN), strict=False):
        per = panel.get("per")
        steps, values = _course(records, lambda r, n=name, p=per: None if n not in r else r[n] / (r.get(p) or 1.0) if p else r[n])
        if len(steps) == 0:
            continue
        smooth = running_mean(values, _window(len(records)))
        axes.plot(steps, values, color=colour, linewidth=0.7, alpha=0.4)
        axes.plot(steps, smooth, color=colour, linewidth=2)
        ends.append((smooth[-1], label, colour))
    if panel.get("log"):
        axes.set_yscale("log")
    if "bound" in panel:
        height, label = panel["bound"]
        axes.axhline(height, color=ORANGE, linewidth=1.4, linestyle="--")
        ends.append((height, label, ORANGE))
    low, high = axes.get_ylim()
    axes.set_ylim(panel.get("floor", low / 1.5), high * 1.5 if panel.get("log") else high + 0.14 * (high - low))
    label_ends(axes, [end for end in ends if end[1]])


def label_ends(axes: Axes, ends: list[tuple[float, str, str]], apart: float = 0.1) -> None:
    """Names of lines at their right ends, pushed apart where they would collide (`apart` is a share of the axes' height)."""
    if not ends:
        return
    ends = sorted(ends)
    places = [axes.transAxes.inverted().transform(axes.transData.transform((1, height)))[1] for height, _, _ in ends]
    spread = places[:1]
    for (_, before, _), (_, text, _), place in zip(ends, ends[1:], places[1:], strict=False):
        lines = (before.count("\n") + text.count("\n") + 2) / 2
        spread.append(max(place, spread[-1] + apart * lines))
    places = np.array(spread) - np.mean(np.array(spread) - places)  # as many moved down as up
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.text(1.02, place, text, transform=axes.transAxes, color=colour, fontsize=SMALL, va="center", linespacing=1.05)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over `window` steps around each; at the ends, over those there are."""
    ones = np.ones(min(window, len(values)))
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


def _window(steps: int) -> int:
    return max(1, steps // 25) | 1  # odd, so that the mean is centred


def _course(records: list[dict], read) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values where there are any."""
    found = [(r["step"], value) for r in records if (value := read(r)) is not None]
    return tuple(np.array(x, dtype=float) for x in zip(*found, strict=True)) if found else (np.zeros(0), np.zeros(0))


def _late(values: np.ndarray) -> float:
    """Mean of the last tenth."""
    return float(np.mean(values[-max(1, len(values) // 10) :]))


def _short(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _rows(panels: int) -> float:
    return math.ceil(panels / COLUMNS) * (PANEL + GAP) + 0.06


def _panel(sheet: Sheet, i: int, panels: int, title: str, steps: int, width: float = 1.9) -> Axes:
    row, column = divmod(i, COLUMNS)
    axes = sheet.axes(0.5 + 2.97 * column, 0.28 + row * (PANEL + GAP), width, PANEL)
    axes.set_title(title, pad=6, color=INK, x=-0.32 / width)
    axes.set_xlim(0, max(steps, 1))
    axes.locator_params(axis="x", nbins=5, integer=True)
    if i + COLUMNS >= panels:
        axes.set_xlabel("step", labelpad=1)
    return axes
