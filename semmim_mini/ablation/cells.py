r"""One cell of the comparison: a row with a seed, from pre-training to its figures.

    OUT/cells/A5-seed1/
      pretrain/  vqa/  captioning/      runs like any other: resumable, with logs and reports
      figures.json                      the cell's figures; where it is, the cell is done
    OUT/cells/first_phase-seed1/        what all rows of a seed go on from, where there is a first phase

The same code measures every row. What a row does not have (A0 has no codes) it has no figure of.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

from semmim_mini.ablation.rows import FIRST_PHASE, Row, first_phase, second_phase
from semmim_mini.bench.meters import flops
from semmim_mini.bench.parts import Workbench
from semmim_mini.config import Config, from_yaml
from semmim_mini.errors import UserError
from semmim_mini.evaluation import open_held_out
from semmim_mini.experiment import load_run, run_experiment
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.instruments.semantics import feature_semantics
from semmim_mini.plain_values import shown
from semmim_mini.plan.measured import random_batch
from semmim_mini.report import INSTRUMENT_IMAGES, rounded
from semmim_mini.tasks.grounding import evaluate_grounding
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.finetuning import fine_tuning_config
from semmim_mini.training.logbook import read_metrics

TASKS = ("vqa", "captioning")
FLOP_BATCH = 8  # arithmetic is counted on a small batch, and told per image


class Stopped(Exception):
    """A run of this cell was interrupted; it goes on where it stopped when the cell is asked for again."""


def folder_of(out: Path, row: Row, seed: int) -> Path:
    return out / "cells" / f"{re.sub(r'[^A-Za-z0-9.]+', '_', row.name)}-seed{seed}"


def finished(out: Path, row: Row, seed: int) -> dict | None:
    """The figures of a cell that is done, else None."""
    path = folder_of(out, row, seed) / "figures.json"
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({error}); remove it, and the cell is measured anew") from None
    if not isinstance(found, dict) or not all(type(value) in (int, float) and abs(value) < 1e300 for value in found.values()):
        raise UserError(f"{path} holds {shown(found)}, not figures by name; remove it, and the cell is measured anew")
    return found


def run_first_phase(out: Path, seed: int, base: Config, steps: int, say=print) -> None:
    """What the rows of a seed have in common, if it is not there yet.

    Raises:
        Stopped, UserError: as `run_cell`.
    """
    _run(_seeded(first_phase(base, steps), seed), folder_of(out, FIRST_PHASE, seed), say)


def _seeded(config: Config, seed: int) -> Config:
    return replace(config, run=replace(config.run, seed=seed))


def run_cell(out: Path, row: Row, seed: int, base: Config, task_steps: int, phases: int = 1, say=print) -> dict:
    """Train, fine-tune and measure one cell, going on where it was left; its figures.

    Args:
        base: the configuration that rows change; its seed is replaced.
        task_steps: of fine-tuning for each task; 0 leaves the tasks and their figures out.
        phases: 2 if the row goes on from `run_first_phase`.

    Raises:
        Stopped: interrupted; everything is saved.
        UserError: the cell's folder holds runs of other settings.
    """
    if (done := finished(out, row, seed)) is not None:
        return done
    home = folder_of(out, row, seed)
    config = _seeded(row.config(base), seed)
    if phases == 2:
        config = second_phase(config, folder_of(out, FIRST_PHASE, seed))
    _run(config, home / "pretrain", say)
    found = _pretraining_figures(home / "pretrain")
    for task in TASKS if task_steps else ():
        tuned = fine_tuning_config(task, home / "pretrain")
        tuned = replace(tuned, run=replace(tuned.run, steps=task_steps, eval_every=task_steps))
        _run(tuned, home / task, say)
        found |= _task_figures(task, json.loads((home / task / "report.json").read_text(encoding="utf-8")))
    found |= _measured_anew(home / "pretrain", config)
    write_text(home / "figures.json", json.dumps(rounded(found), indent=2) + "\n")
    return found


def _run(config: Config, folder: Path, say) -> None:
    """A run until it is done: a new one, the rest of one that was interrupted, or nothing."""
    stored = folder / "config.yaml"
    if stored.exists() and from_yaml(stored.read_text(encoding="utf-8")) != config:
        raise UserError(f"{folder} holds a run of other settings; choose another --out, or remove that folder")
    if (folder / "report.json").exists():
        return
    if run_experiment(config, folder, resume=stored.exists(), say=say, figures=False).report is None:
        raise Stopped(str(folder))


def _pretraining_figures(run: Path) -> dict[str, float]:
    """What report.json and the log of the pre-training say, by the names of the table."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    found = {f"r1_{way}": report["retrieval"][way]["r1"] for way in ("image_to_text", "text_to_image")}
    found |= {name: value for part in ("masking", "semantics", "mim", "collapse") for name, value in report.get(part, {}).items()}
    if "masking" in report:
        found |= {f"{kind}_over_random": found[f"named_{kind}"] / found["named_random"] for kind in ("text", "middle", "untrained")}
        found["selectivity"] = found["selectivity_text"] / found["selectivity_blind"]
    if "matching" in report:
        found["itm_balanced_accuracy"] = report["matching"]["balanced_accuracy"]
    records = read_metrics(run / "metrics.jsonl")
    return found | {"training_seconds": sum(record["seconds"] for record in records), "steps": float(len(records))}


def _task_figures(task: str, report: dict) -> dict[str, float]:
    if task == "vqa":
        return {f"vqa_{name}": report["overall"][name] for name in ("accuracy", "majority", "blind", "wrong_image")}
    return {"cider": report["scores"]["cider"], "cider_shuffled": report["shuffled"]["cider"]}


def _measured_anew(run: Path, config: Config) -> dict[str, float]:
    """What no report has: pointing game, k-means on the row's own features, arithmetic of a step."""
    model, tokenizer = load_run(run)
    model.eval()
    pairs, data = open_held_out(config), config.data
    device = next(model.parameters()).device
    count = min(INSTRUMENT_IMAGES, config.run.report_size)
    sizes = {"resolution": data.resolution, "max_length": data.max_length, "count": count, "device": device}
    batches = list(held_out_batches(pairs, tokenizer, **sizes))
    found = {}
    if batches[0].pairs[0].truth is not None:
        grounding = evaluate_grounding(model, tokenizer, pairs, count)
        found = {"pointing": grounding["best"]["pointing"], "pointing_chance": grounding["chance"]["pointing"]}
        found |= feature_semantics(model, batches)
    return found | {"gflop_per_image": _gflop(config, len(tokenizer))}


def _gflop(config: Config, vocab_size: int) -> float:
    """Arithmetic of one step at the end of the schedule, per image."""
    small = replace(config, data=replace(config.data, batch_size=FLOP_BATCH), losses=replace(config.losses, queue=0))
    return flops(Workbench(small, vocab_size, random_batch(small, vocab_size)).full_step) / FLOP_BATCH / 1e9
