"""One experiment from configuration to results: train, report, draw. What `pretrain` and `demo` have in common."""

import time
from dataclasses import dataclass
from pathlib import Path

from semmim_mini.config import Config
from semmim_mini.data.sources import open_pairs
from semmim_mini.report import make_report, run_facts, write_report
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Finished, Pretraining


@dataclass
class Result:
    """Where things are and what came out; `report` is None when the run was interrupted or this is not the main process."""

    folder: Path
    finished: Finished
    report: dict | None


def run_experiment(config: Config, folder: Path, *, resume: bool = False, say=print) -> Result:
    """Pre-train in `folder`, then write report.json and figures/ from held-out pairs."""
    began, folder = time.perf_counter(), Path(folder)
    run = Pretraining(config, folder, resume)
    if run.main:
        say(header(run))
    held_out = open_pairs(
        config.data.source, config.data.report_split, resolution=config.data.resolution, seed=config.run.seed, size=1_000,
        max_bad_share=config.data.max_bad_share,
    )  # fmt: skip  # opened before training: a missing split is found out now, not hours later
    finished = run.run()
    run.close()
    if not run.main or finished.interrupted:
        return Result(folder, finished, None)
    say("evaluating on held-out pairs")
    report = make_report(run.model, run.tokenizer, held_out, records=read_metrics(folder / "metrics.jsonl"))
    report["run"] = run_facts(config, finished, time.perf_counter() - began)
    write_report(folder, report)
    say("drawing figures")
    from semmim_mini.figures import draw_all

    draw_all(folder, run.model, run.tokenizer, held_out)
    return Result(folder, finished, report)


def header(run: Pretraining) -> str:
    """What will run, where, and where to look."""
    config, count = run.config, sum(p.numel() for _, p in run.model.trainable())
    first = f"resuming at step {run.start} of" if run.start else "training"
    return "\n".join(
        [
            f"{first} {config.run.steps} steps of {config.data.batch_size} pairs from {run.pairs.name} ({len(run.pairs)} pairs), preset {config.preset}",
            f"{count / 1e6:.1f} M parameters on {run.accelerator.device}, {run.accelerator.num_processes} process(es), "
            f"precision {run.precision} ({run.precision_reason})",
            f"every step goes to {run.folder / 'metrics.jsonl'}, checkpoints to {run.folder / 'checkpoints'}",
        ]
    )
