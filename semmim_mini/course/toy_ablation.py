r"""A comparison that is run in a lesson, on the small network of notebook 00: some seconds a cell, and one figure of each.

It is not large enough to say anything about the method. What notebook 12 reads is `data_samples/ablation/ablation.csv`, of preset `tiny`.
"""

import json
import math
from pathlib import Path

from semmim_mini.ablation.rows import Row
from semmim_mini.config import Config, override
from semmim_mini.course.welcome import minute_config
from semmim_mini.evaluation import open_held_out
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.jobs import held_out_caption_loss
from semmim_mini.training.loop import Training

IMAGES = 64  # held out


def toy_base(steps: int = 24) -> Config:
    """Some seconds a cell."""
    return override(minute_config(), [f"run.steps={steps}"])


def toy_cell(out: Path, row: Row, seed: int, base: Config) -> dict[str, float]:
    """Train a row with a seed and measure it, or read what was measured before.

    Returns:
        `loss`, of a word of a held-out caption in nats, the one figure that moves within seconds; and `chance`, what guessing costs.
    """
    told = cell_file(out, row, seed)
    if told.exists():
        return json.loads(told.read_text(encoding="utf-8"))
    run = Training(override(row.config(base), [f"run.seed={seed}"]), out / f"{row.name}-seed{seed}")
    run.run()
    found = _measure(run)
    write_text(told, json.dumps(found) + "\n")
    return found


def cell_file(out: Path, row: Row, seed: int) -> Path:
    """Where it is, the cell is done."""
    return out / f"{row.name}-seed{seed}.json"


def _measure(run: Training) -> dict[str, float]:
    loss = held_out_caption_loss(run.model, run.tokenizer, open_held_out(run.config), IMAGES)
    return {"loss": round(loss, 5), "chance": round(math.log(len(run.tokenizer)), 5)}
