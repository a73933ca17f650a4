"""Runs to look at: the small one of notebook 00, and how a notebook trains, watches, stops and resumes one."""

import threading
from pathlib import Path

from semmim_mini.config import Config, override
from semmim_mini.course.pictures import picture
from semmim_mini.figures.curves import loss_curves
from semmim_mini.presets import preset
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Finished, Training

# A quarter of `tiny` in every direction, terms that join early enough to be seen, and few scenes: most time goes into steps.
SMALL = (
    *("data.resolution=32", "data.batch_size=32", "data.train_size=192", "data.vocab_size=800", "data.max_length=20"),
    *("image.width=64", "image.depth=2", "image.inject_from=1", "text.width=64", "text.depth=1", "text.fusion_depth=1"),
    *("space.prototypes=64", "space.hidden=64", "space.bottleneck=32", "teacher.cls_queue=128", "optim.lr=0.003"),
    *("losses.itm.start=0.33", "losses.mlm.start=0.33", "losses.consensus.start=0.5", "losses.mim.start=0.5"),
    *("losses.alpha_ramp=[0.5, 1.0]", "run.steps=90", "run.eval_every=1000", "run.save_every=1000", "run.log_every=1000"),
)
REDRAW = 8.0  # seconds; drawing takes one of them


def minute_config() -> Config:
    """All six terms, k = 64, 16 patches: a run to look at, whose network knows next to nothing afterwards."""
    return override(preset("tiny"), list(SMALL))


def train_and_watch(config: Config, folder: Path, alt: str, *, resume: bool = False, stop_after: int | None = None) -> Finished:
    """Train in a thread while this one draws the losses below the cell, again and again, beside what a guesser pays.

    Errors of the run are raised here. What stays below the cell is the curve of the whole run. The notebook's stop button does what
    Ctrl-C does to the command line: the step under way is finished and everything is saved; a second time, it acts at once.

    Args:
        alt: what is to be seen, for screen readers.
        resume: go on from the folder's last checkpoint.
        stop_after: press that button after so many steps, for lessons on what happens then.
    """
    run = Training(config, folder, resume)
    if stop_after is not None:
        stop_during(run, stop_after)
    ended: list[Finished | BaseException] = []
    _watch(run, threading.Thread(target=_train, args=(run, ended), daemon=True), alt)
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _watch(run: Training, thread: threading.Thread, alt: str) -> None:
    """Start the thread and draw until it ends."""
    from IPython.display import Markdown, display

    # Shown first: so what the run says comes below the curve, however soon it says it.
    shown = display(Markdown("*The first curve takes a few seconds.*"), display_id=True)
    thread.start()
    watching = True
    while watching:
        try:
            thread.join(REDRAW)
            watching = thread.is_alive()  # asked before drawing: what is computed meanwhile is drawn once more
            if curve := _curve(run.config, run.folder, alt):
                shown.update(curve)
        except KeyboardInterrupt:
            if run.stop_requested:
                raise
            run.stop_requested = watching = True


def stop_during(run: Training, step: int) -> None:
    """Raise the flag that Ctrl-C raises while step number `step`, counted from 1, is under way."""
    prepare = run.job.prepare

    def raise_flag_and_prepare(batch, at: int) -> None:
        run.stop_requested = run.stop_requested or at + 1 == step
        prepare(batch, at)

    run.job.prepare = raise_flag_and_prepare


def _train(run: Training, ended: list) -> None:
    try:
        ended.append(run.run())
    except BaseException as error:  # of whatever kind: the thread that draws must not wait for ever, and raises it
        ended.append(error)


def _curve(config: Config, folder: Path, alt: str):
    """The losses so far; None while there is nothing to draw."""
    metrics = folder / "metrics.jsonl"
    records = read_metrics(metrics) if metrics.exists() else []
    return picture(loss_curves(records, config), alt) if len(records) > 1 else None
