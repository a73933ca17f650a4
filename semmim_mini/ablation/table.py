r"""The comparison as three files: one line a figure (CSV), mean ± deviation (Markdown), every seed a point (PNG)."""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from semmim_mini.ablation.rows import Row
from semmim_mini.figures.ablation import ablation_figure
from semmim_mini.figures.style import save
from semmim_mini.training.checkpoint import write_text

Found = Mapping[tuple[str, int], Mapping[str, float]]  # (row, seed) → figures


class Metric(NamedTuple):
    """A column of the table."""

    name: str
    title: str
    unit: str  # "%" shows shares as percent
    beside: str = ""  # the figure that says what knowing nothing gives, of the same cell


METRICS = (
    Metric("r1_image_to_text", "R@1 image→text", "%"),
    Metric("r1_text_to_image", "R@1 text→image", "%"),
    Metric("vqa_accuracy", "VQA accuracy", "%", "vqa_blind"),
    Metric("cider", "CIDEr", "", "cider_shuffled"),
    Metric("ami", "codes against objects, AMI", "", "ami_picture_number"),
    Metric("ami_within", "codes within a picture, AMI", "", "ami_within_pixel_kmeans"),
    Metric("ami_within_features", "clusters of features within a picture, AMI", "", "ami_within_pixel_kmeans"),
    Metric("alike_across", "same code across pictures, same thing", "%", "alike_across_pixel_kmeans"),
    Metric("text_over_random", "named patches masked, over random", "×", "middle_over_random"),
    Metric("follows", "masks of two captions, own − other", ""),
    Metric("selectivity", "named/object masked, over blind", "×"),
    Metric("pointing", "pointing game", "%", "pointing_chance"),
    Metric("loss_masked", "MIM loss", "", "loss_marginal"),
    Metric("loss_shuffled_caption", "MIM loss, wrong caption", ""),
    Metric("loss_all_masked", "MIM loss, text alone", "", "loss_marginal"),
    Metric("code_survives_caption_swap", "codes that survive a swap", "%"),
    Metric("prototypes_used", "patch codes in use", ""),
    Metric("itm_balanced_accuracy", "matching accuracy", "%"),
    Metric("gflop_per_image", "GFLOP per image of a step", ""),
    Metric("training_seconds", "seconds of training", ""),
)
BY_NAME = {metric.name: metric for metric in METRICS}
# What the figure shows; the table has all.
DRAWN = (
    *("r1_image_to_text", "r1_text_to_image", "itm_balanced_accuracy", "vqa_accuracy", "cider", "pointing"),
    *("ami_within", "ami_within_features", "alike_across", "follows", "loss_masked", "code_survives_caption_swap"),
)


def write(out: Path, rows: Sequence[Row], found: Found) -> None:
    """ablation.csv, ablation.md and ablation.png of the cells that are done."""
    write_text(out / "ablation.csv", as_csv(rows, found))
    write_text(out / "ablation.md", as_markdown(rows, found))
    shown = [row for row in rows if any(name == row.name for name, _ in found)]
    drawn = [BY_NAME[name] for name in DRAWN]
    points = {metric.title + " (%)" * (metric.unit == "%"): points_of(metric, shown, found) for metric in drawn}
    save(ablation_figure([(row.name, row.title) for row in shown], points).figure, out / "ablation.png")


def points_of(metric: Metric, rows: Sequence[Row], found: Found) -> list[list[float]]:
    """Per row the values of its seeds; shares in percent."""
    scale = 100 if metric.unit == "%" else 1
    return [
        [scale * cell[metric.name] for (name, _), cell in sorted(found.items()) if name == row.name and metric.name in cell] for row in rows
    ]


def as_csv(rows: Sequence[Row], found: Found) -> str:
    """Every figure of every cell on a line of its own."""
    text, settings = io.StringIO(), {row.name: " ".join(row.settings) for row in rows}
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("row", "seed", "metric", "value", "settings"))
    order = {row.name: i for i, row in enumerate(rows)}
    for (name, seed), figures in sorted(found.items(), key=lambda cell: (order[cell[0][0]], cell[0][1])):
        lines.writerows((name, seed, metric, value, settings[name]) for metric, value in figures.items())
    return text.getvalue()


def as_markdown(rows: Sequence[Row], found: Found) -> str:
    """A line a figure, a column a row: mean ± standard deviation over the seeds, with what knowing nothing gives."""
    shown = [row for row in rows if any(name == row.name for name, _ in found)]
    seeds = {row.name: sum(name == row.name for name, _ in found) for row in shown}
    lines = [
        "| figure | " + " | ".join(row.name for row in shown) + " |",
        "|---|" + "---|" * len(shown),
        "| seeds | " + " | ".join(str(seeds[row.name]) for row in shown) + " |",
    ]
    for metric in METRICS:
        columns = [_mean(values, metric.unit) for values in points_of(metric, shown, found)]
        if any(column != "–" for column in columns):
            lines.append(f"| {metric.title}{_reference(metric, found)} | " + " | ".join(columns) + " |")
    titles = [f"- {row.name}: {row.title}" for row in shown]
    return "\n".join(
        [*lines, "", "Mean ± standard deviation over seeds. In brackets: what knowing nothing gives, mean of all cells.", "", *titles, ""]
    )


def _mean(values: Sequence[float], unit: str) -> str:
    if not values:
        return "–"
    digits = 1 if unit == "%" else 0 if statistics.mean(values) >= 100 else 2
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}{unit and f' {unit}'}"


def _reference(metric: Metric, found: Found) -> str:
    values = [cell[metric.beside] for cell in found.values() if metric.beside in cell] if metric.beside else []
    scale = 100 if metric.unit == "%" else 1
    return f" ({_mean([scale * statistics.mean(values)], metric.unit)})" if values else ""
