"""One experiment from configuration to results: train, report, draw. What `pretrain`, `demo` and `finetune` have in common."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from semmim_mini import evaluation
from semmim_mini.config import Config
from semmim_mini.data.text import load_tokenizer
from semmim_mini.evaluation import open_held_out
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


def run_experiment(config: Config, folder: Path, *, resume: bool = False, say=print, figures: bool = True) -> Result:
    """Train in `folder`, then write report.json and, where wanted, figures/ from held-out data."""
    began, folder = time.perf_counter(), Path(folder)
    run = Training(config, folder, resume)
    if run.main:
        say(header(run))
    pretraining = config.task.name == "pretrain"
    # Before training: a missing split is found out now, not hours later.
    held_out = open_held_out(config) if pretraining else evaluation.open_data(config.task.name, config, evaluation.Options())
    finished = run.run()
    run.close()
    if not run.main or finished.interrupted:
        return Result(folder, finished, None)
    say("evaluating on held-out pairs")
    if pretraining:
        report = make_report(run.model, run.tokenizer, held_out, records=read_metrics(folder / "metrics.jsonl"))
    else:
        report = evaluation.evaluate(config.task.name, run.model, run.tokenizer, held_out, evaluation.Options(), run.job.answers)
        report["fresh"] = run.job.fresh
    report["run"] = run_facts(config, finished, time.perf_counter() - began)
    write_report(folder, report)
    if not figures:
        return Result(folder, finished, report)
    say("drawing figures")
    from semmim_mini.figures import draw_all, draw_losses

    if pretraining:
        draw_all(folder, run.model, run.tokenizer, held_out)
    else:
        draw_losses(folder, config)
    return Result(folder, finished, report)


def load_run(folder: Path, which: str = "last") -> tuple[SemMIM, PreTrainedTokenizerBase]:
    """Model and tokenizer of a run's last or best checkpoint, or of a checkpoint folder; on the GPU where there is one.

    Raises:
        UserError: there is none, or it is damaged.
    """
    found = checkpoint.find(folder, which)
    tokenizer = load_tokenizer(found / "tokenizer")
    model = SemMIM(checkpoint.read_fitting_config(found, len(tokenizer)), len(tokenizer))
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


def figures_on(folder: Path, which: str = "last", data: str | None = None, split: str | None = None, out: Path | None = None) -> list[Path]:
    """All figures of a checkpoint anew, as `report_on` makes its numbers; the files written."""
    from semmim_mini.figures import draw_all

    model, tokenizer = load_run(folder, which)
    return draw_all(folder, model, tokenizer, open_held_out(model.config, data, split), out)


def header(run: Training) -> str:
    """What will run, on what, how much of it, at what cost, and where to look."""
    config, task = run.config, run.config.task
    first = f"resuming at step {run.start} of" if run.start else "training"
    origin = [_origin(run)] if task.checkpoint else []
    cost = [f"what it costs: semmim-mini plan --config {run.folder / 'config.yaml'}"] if task.name == "pretrain" else []
    curves = [f"curves: tensorboard --logdir {run.folder / 'tensorboard'}"] if config.run.tensorboard else []
    return "\n".join(
        [
            f"{first} {config.run.steps} steps of {config.data.batch_size} from {run.pairs.name} ({len(run.pairs)}), "
            f"preset {config.preset}",
            *origin,
            _machine(run),
            _amount(run),
            *cost,
            f"every step goes to {run.folder / 'metrics.jsonl'}, checkpoints to {run.folder / 'checkpoints'} every "
            f"{config.run.save_every} steps; held-out data is looked at every {config.run.eval_every}",
            *curves,
        ]
    )


def _machine(run: Training) -> str:
    trained = sum(p.numel() for _, p in run.model.trainable())
    processes = run.accelerator.num_processes
    spread = f" ({run.config.run.parallel})" if processes > 1 else ""
    return (
        f"{trained / 1e6:.1f} M parameters on {run.accelerator.device}, {processes} process(es){spread}, "
        f"precision {run.precision} ({run.precision_reason})"
    )


def _amount(run: Training) -> str:
    """How much a step and the whole run read. Each image is seen in two views."""
    config, processes = run.config, run.accelerator.num_processes
    batch, parts = config.data.batch_size, processes * config.run.accumulate
    share = f"{batch} images a step" + (f", {batch // parts} at a time in each process" if parts > 1 else "")
    images = config.run.steps * batch
    return f"{share}; {images:,} images in all, {images / len(run.pairs):,.1f} times the data"


def _origin(run: Training) -> str:
    """Where a fine-tuning run's first weights come from."""
    task = run.config.task
    if task.from_scratch:
        return f"task {task.name}, from random weights (task.from_scratch), settings and vocabulary of {task.checkpoint}"
    fresh = f"; new, at random: {', '.join(run.job.fresh)}" if run.job.fresh else ""
    return f"task {task.name}, from the weights of {task.checkpoint}{fresh}"
