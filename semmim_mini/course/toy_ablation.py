r"""Comparisons on the small network of notebook 00: one that is run in a lesson, and one that is read there.

    toy_cell                                            some seconds a cell, one figure of each
    python -m semmim_mini.course.toy_ablation OUT       all rows, three seeds, all figures of `semmim-mini ablate`, in half an hour;
                                                        OUT/ablation.csv is data_samples/ablation/ablation.csv

Neither is large enough to say anything about the method.
"""

import argparse
import json
import math
import sys
from pathlib import Path

from semmim_mini.ablation.driver import Plan, run_ablation
from semmim_mini.ablation.rows import ROWS, Row
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


def shipped(out: Path, jobs: int = 1) -> bool:
    """The comparison that notebook 12 reads; as `run_ablation`, it goes on where it was stopped."""
    sizes = ["data.train_size=1000", "run.steps=60", "run.eval_every=60", "run.report_size=200"]
    plan = Plan(rows=tuple(ROWS), sweeps=(), seeds=3, task_steps=60, jobs=jobs, first_phase=300)
    return run_ablation(out, override(minute_config(), sizes), plan)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.course.toy_ablation", description="The comparison that notebook 12 reads.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time")
    parsed = parser.parse_args(arguments)
    return 0 if shipped(parsed.out, parsed.jobs) else 130


if __name__ == "__main__":
    sys.exit(main())
