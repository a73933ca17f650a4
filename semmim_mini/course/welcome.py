"""The training run of notebook 00: small enough for a minute on two cores, with every loss term and a curve to watch."""

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


def train_and_watch(config: Config, folder: Path, alt: str) -> Finished:
    """Train in a thread while this one draws the losses below the cell, again and again, beside what a guesser pays.

    Errors of the run are raised here. What stays below the cell is the curve of the whole run.
    """
    from IPython.display import display

    run = Training(config, folder)
    ended: list[Finished | BaseException] = []
    thread = threading.Thread(target=_train, args=(run, ended), daemon=True)
    thread.start()
    shown = None
    while thread.is_alive():
        thread.join(REDRAW)
        curve = _curve(config, folder, alt)
        if curve is not None and shown is None:
            shown = display(curve, display_id=True)
        elif curve is not None:
            shown.update(curve)
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


def _train(run: Training, ended: list) -> None:
    try:
        ended.append(run.run())
    except BaseException as error:  # of whatever kind: the thread that draws must not wait for ever, and raises it
        ended.append(error)


def _curve(config: Config, folder: Path, alt: str):
    """The losses so far; None while there is nothing to draw."""
    metrics = Path(folder) / "metrics.jsonl"
    records = read_metrics(metrics) if metrics.exists() else []
    return picture(loss_curves(records, config), alt) if len(records) > 1 else None
