"""One experiment from configuration to results: train, report, draw. What `pretrain` and `demo` have in common."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from semmim_mini.config import Config
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.sources import open_pairs
from semmim_mini.data.text import load_tokenizer
from semmim_mini.model.semmim import SemMIM
from semmim_mini.report import make_report, run_facts, write_report
from semmim_mini.training import checkpoint
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Finished, Training


@dataclass
class Result:
    """Where things are and what came out; `report` is None when the run was interrupted or this is not the main process."""

    folder: Path
    finished: Finished
    report: dict | None


def run_experiment(config: Config, folder: Path, *, resume: bool = False, say=print) -> Result:
    """Pre-train in `folder`, then write report.json and figures/ from held-out pairs."""
    began, folder = time.perf_counter(), Path(folder)
    run = Training(config, folder, resume)
    if run.main:
        say(header(run))
    held_out = open_held_out(config)  # before training: a missing split is found out now, not hours later
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


def open_held_out(config: Config, source: str | None = None, split: str | None = None) -> Pairs:
    """The pairs of report.json: the run's own, or of another source or split; of scenes, 1,000."""
    data = config.data
    return open_pairs(
        source or data.source,
        split or data.report_split,
        resolution=data.resolution,
        seed=config.run.seed,
        size=1_000,
        max_bad_share=data.max_bad_share,
    )


def load_run(folder: Path, which: str = "last") -> tuple[SemMIM, PreTrainedTokenizerBase]:
    """Model and tokenizer of a run's last or best checkpoint, or of a checkpoint folder; on the GPU where there is one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    found = checkpoint.find(folder, which)
    tokenizer = load_tokenizer(found / "tokenizer")
    model = SemMIM(checkpoint.read_config(found), len(tokenizer))
    checkpoint.load_weights(model, found)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def report_on(folder: Path, which: str = "last", data: str | None = None, split: str | None = None) -> dict:
    """report.json anew, from a checkpoint: for an interrupted run, its best checkpoint, or other pairs than it was trained on."""
    model, tokenizer = load_run(folder, which)
    config, records = model.config, Path(folder) / "metrics.jsonl"
    held_out = open_held_out(config, data, split)
    report = make_report(model, tokenizer, held_out, records=read_metrics(records) if records.exists() else [])
    report["checkpoint"] = checkpoint.read_state(checkpoint.find(folder, which))["step"]
    return report


def header(run: Training) -> str:
    """What will run, where, and where to look."""
    config, count = run.config, sum(p.numel() for _, p in run.model.trainable())
    first = f"resuming at step {run.start} of" if run.start else "training"
    return "\n".join(
        [
            f"{first} {config.run.steps} steps of {config.data.batch_size} pairs from {run.pairs.name} ({len(run.pairs)} pairs), "
            f"preset {config.preset}",
            f"{count / 1e6:.1f} M parameters on {run.accelerator.device}, {run.accelerator.num_processes} process(es), "
            f"precision {run.precision} ({run.precision_reason})",
            f"every step goes to {run.folder / 'metrics.jsonl'}, checkpoints to {run.folder / 'checkpoints'}",
        ]
    )
