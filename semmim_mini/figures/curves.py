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
from semmim_mini.figures.style import BLUE, GREEN, GREY, INK, ORANGE, PALE, SMALL, Drawn, Sheet, styled
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
}
COLUMNS, PANEL, GAP = 3, 1.75, 0.62  # panels a row; height of a panel and the space between rows, in inches
WHITE_GROUND = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}


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
    below = sum(number[term] < number[f"{term}_chance"] for term in terms)
    sheet = Sheet(
        f"Training losses: after {records[-1]['step'] + 1} steps {below} of {len(terms)} terms are below chance",
        _rows(len(terms)),
        f"Thin: every step. Thick: mean of {window} steps. Dashed: what a blind guesser pays. In the panel titles: mean of the last tenth, in nats."
        + (" Grey ground: the term is still off." if any(getattr(config.losses, t).start > 0 for t in terms) else ""),
    )
    for i, term in enumerate(terms):
        axes = _panel(sheet, i, len(terms), f"{NAMES[term]}: {number[term]:.2f}", config.run.steps)
        _loss_panel(axes, term, records, config, word_entropy, window)
    return Drawn(sheet.figure, number)


def _loss_panel(axes: Axes, term: str, records: list[dict], config: Config, word_entropy: float | None, window: int) -> None:
    steps, values = _course(records, lambda r: r["loss"].get(term))
    smooth = running_mean(values, window)
    label, chance = _chance(term, records, config, word_entropy)
    lines = [chance, smooth, np.quantile(values, [0.02, 0.98])]
    axes.plot(steps, values, color=BLUE, linewidth=0.7, alpha=0.4)
    axes.plot(steps, smooth, color=BLUE, linewidth=2)
    axes.plot(steps, chance, color=ORANGE, linewidth=1.4, linestyle="--")
    floor = _course(records, lambda r: r.get({"consensus": "cls_entropy", "mim": "patch_entropy"}.get(term, "")))
    if len(floor[0]) and (term == "consensus" or config.losses.mim_target == "codes"):
        axes.plot(floor[0], running_mean(floor[1], window), color=GREEN, linewidth=1.4, linestyle=":")
        lines.append(floor[1][len(floor[1]) // 10 :])
        _beside(axes, _late(floor[1]), "best: teacher's entropy", GREEN, "top")
    low, high = min(map(np.min, lines)), max(map(np.max, lines))
    axes.set_ylim(low - 0.18 * (high - low), high + 0.18 * (high - low))
    above = _late(smooth) <= _late(chance)
    _beside(axes, _late(chance), f"{label} {_late(chance):.2f}", ORANGE, "bottom" if above else "top")
    if (start := getattr(config.losses, term).start) > 0:
        axes.axvspan(0, start * config.run.steps, color=PALE, linewidth=0)
    if term == "mim":
        _mark_masks(axes, records, config)


def _mark_masks(axes: Axes, records: list[dict], config: Config) -> None:
    """Where random masks end."""
    changed = [r["step"] for r, before in zip(records[1:], records[:-1], strict=True) if before.get("random_mask") and not r.get("random_mask")]
    if changed and config.masking.strategy != "random":
        axes.axvline(changed[0], color=GREY, linewidth=1)
        # The label stands on the roomier side of its line.
        late = changed[0] > 0.5 * config.run.steps
        axes.text(
            changed[0], 0.98, " random masks end " if late else " random masks end", transform=axes.get_xaxis_transform(), fontsize=SMALL,
            color=GREY, va="top", ha="right" if late else "left", bbox=WHITE_GROUND,
        )  # fmt: skip


def _chance(term: str, records: list[dict], config: Config, word_entropy: float | None) -> tuple[str, np.ndarray]:
    """What the line is called, and its height at every step that has the term."""
    keys = np.array([r.get("itc_keys", config.data.batch_size) for r in records if term in r["loss"]], dtype=float)
    words = ("word frequencies:", word_entropy) if word_entropy else ("ln vocabulary =", math.log(config.data.vocab_size))
    k, losses = math.log(config.space.prototypes), config.losses
    mim = {"codes": ("ln k =", k), "pixels": ("chance:", 1.0), "tokens": ("ln tokens =", math.log(losses.patch_tokens))}
    if term == "itc":
        return "ln keys =", np.log(keys)
    label, height = {"itm": ("chance:", CHANCE), "consensus": ("ln k =", k), "mim": mim[losses.mim_target]}.get(term, words)
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
    sheet = Sheet(_health_title(number, config), _rows(len(panels)), f"Thin: every step. Thick: mean of {_window(len(records))} steps.")
    for i, panel in enumerate(panels):
        axes = _panel(sheet, i, len(panels), panel["title"], config.run.steps)
        _health_panel(axes, records, panel)
    return Drawn(sheet.figure, number)


def _health_title(number: dict, config: Config) -> str:
    codes = [
        f"{name} {number[f'{key}_codes_per_batch_early']:.0f} → {number[f'{key}_codes_per_batch_late']:.0f}"
        for key, name in (("patch", "patches"), ("cls", "[CLS]"))
        if f"{key}_codes_per_batch_late" in number
    ]
    if not codes:
        return f"Health of the run: {number['images_per_second_median']:.0f} images per second"
    return f"Health of the run: of {config.space.prototypes} codes in use per batch, early → late: {', '.join(codes)}"


def _health_panels(config: Config, number: dict) -> list[dict]:
    k, both = config.space.prototypes, ("patches", "[CLS]")
    return [
        {"title": "Codes in use per batch", "lines": dict(zip(("patch_prototypes_used", "cls_prototypes_used"), both, strict=True)),
         "bound": (k, f"k = {k}"), "floor": 0},
        {"title": "Entropy of one code (nats)", "lines": dict(zip(("patch_entropy", "cls_entropy"), both, strict=True)),
         "bound": (math.log(k), f"ln k = {math.log(k):.2f}: says nothing"), "floor": 0},
        {"title": "Mean code, KL to uniform", "lines": dict(zip(("patch_kl_to_uniform", "cls_kl_to_uniform"), both, strict=True)),
         "bound": (math.log(k), f"ln k = {math.log(k):.2f}: one for all"), "floor": 0},
        {"title": f"Gradient norm: median {number['grad_norm_median']:.1f}", "lines": {"grad_norm": ""}, "log": True,
         "bound": (config.optim.clip, f"clipped above {config.optim.clip:g}")},
        {"title": f"Images per second: {number['images_per_second_median']:.0f}", "lines": {"images_per_second": ""}, "floor": 0},
        {"title": f"Waiting for data: {number['waiting_share']:.1%}", "lines": {"seconds_waiting_for_data": ""}, "floor": 0,
         "per": "seconds", "bound": (1.0, "all of the time")},
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
        _beside(axes, height, label, ORANGE, "bottom")
    low, high = axes.get_ylim()
    axes.set_ylim(panel.get("floor", low), high * 1.5 if panel.get("log") else high + 0.14 * (high - low))
    label_ends(axes, [end for end in ends if end[1]])


def label_ends(axes: Axes, ends: list[tuple[float, str, str]], apart: float = 0.12) -> None:
    """Names of lines at their right ends, pushed apart where they would collide (`apart` is a share of the axes' height)."""
    to_share = axes.transData + axes.transAxes.inverted()
    last = -math.inf
    for height, text, colour in sorted(ends):
        last = max(last + apart, to_share.transform((axes.get_xlim()[0] or 1, height))[1])
        axes.text(1.01, last, text, transform=axes.transAxes, color=colour, fontsize=SMALL, va="center")


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


def _beside(axes: Axes, height: float, text: str, colour: str, side: str) -> None:
    """A label on its line, at the right end, on one side of it."""
    shift = {"bottom": 2, "top": -2}[side]
    axes.annotate(
        text, (1, height), (-1, shift), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
        color=colour, fontsize=SMALL, ha="right", va=side, bbox=WHITE_GROUND,
    )  # fmt: skip


def _rows(panels: int) -> float:
    return math.ceil(panels / COLUMNS) * (PANEL + GAP)


def _panel(sheet: Sheet, i: int, panels: int, title: str, steps: int) -> Axes:
    row, column = divmod(i, COLUMNS)
    axes = sheet.axes(0.55 + 2.97 * column, 0.28 + row * (PANEL + GAP), 2.0 + 0.0, PANEL)
    axes.set_title(title, pad=5, color=INK, x=-0.16)
    axes.set_xlim(0, max(steps, 1))
    axes.locator_params(axis="x", nbins=5, integer=True)
    if i + COLUMNS >= panels:
        axes.set_xlabel("step", labelpad=1)
    return axes
