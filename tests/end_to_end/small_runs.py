"""A few photos with captions, a network of a few thousand weights, and runs of a few steps."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from semmim_mini.config import Config, override
from semmim_mini.training import checkpoint
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Finished, Training

REPOSITORY = Path(__file__).resolve().parents[2]
COLORS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "yellow": (230, 210, 40)}
PLACES = {"top": (0, 0), "bottom": (24, 0), "middle": (12, 12)}
TIMING = {"seconds", "seconds_waiting_for_data", "images_per_second"}

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")

TERMS = ("itc", "itm", "mlm", "consensus", "mim", "caption")

# Every term is on from the first step, prototypes are placed by k-means, and masks turn from random to guided within the run. What
# tests read is written out: defaults of the presets are tuned now and then.
SMALL = {
    "data": {"resolution": 32, "batch_size": 8, "train_size": 32, "vocab_size": 300, "max_length": 12},
    "image": {"patch": 8, "width": 32, "depth": 2, "heads": 2, "inject_from": 1},
    "text": {"width": 32, "depth": 1, "fusion_depth": 1, "decoder_depth": 1, "heads": 2},
    "space": {"prototypes": 16, "hidden": 32, "bottleneck": 16, "projection": 16},
    "teacher": {"cls_queue": 32},
    "losses": {
        **{term: {"weight": 1.0, "start": 0.0} for term in TERMS},
        **{"queue": 16, "itc_keys": "teacher", "alpha": 0.4, "alpha_ramp": [0.0, 0.1], "hard_negatives": [0.0, 0.0]},
    },
    "masking": {"strategy": "text_high", "relevance": "caption", "ratio": [0.3, 0.3], "random_until": 0.3},
    "optim": {"lr": 1e-3, "lr_end": 1e-6},
    "run": {"steps": 6, "save_every": 2, "eval_every": 3, "eval_size": 8, "report_size": 64, "log_every": 1, "precision": "fp32"},
}


def settings(changes: dict[str, object] | None = None, values: dict = SMALL, path: str = "") -> list[str]:
    """`SMALL` with changes, as a user types it after --set."""
    typed = []
    for name, value in values.items():
        typed += settings(None, value, f"{path}{name}.") if isinstance(value, dict) else [f"{path}{name}={value}"]
    return typed + [f"{name}={value}" for name, value in (changes or {}).items()]


def make_photos(folder: Path) -> Path:
    """32 + 8 + 8 pictures of a coloured patch in the layout of Flickr8k; captions say its colour and place."""
    (folder / "Images").mkdir()
    rng, lines, number = np.random.default_rng(0), ["image,caption"], 0
    for split, count in (("train", 32), ("dev", 8), ("test", 8)):
        names = []
        for _ in range(count):
            number += 1
            color, place = list(COLORS)[number % 4], list(PLACES)[number % 3]
            pixels = rng.integers(90, 166, (48, 48, 3), dtype=np.uint8)
            top, side = PLACES[place]
            pixels[top : top + 24, side : side + 24] = COLORS[color]
            names.append(f"{number:03d}.png")
            Image.fromarray(pixels).save(folder / "Images" / names[-1])
            lines += [f"{names[-1]},a {color} square at the {place}", f"{names[-1]},there is something {color}"]
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def changed(config: Config, *typed: str) -> Config:
    return override(config, list(typed))


def train(config: Config, folder: Path, until: int | None = None, resume: bool = False) -> Finished:
    return Training(config, folder, resume).run(until)


def environment() -> dict[str, str]:
    """Of a process started by a test: the same number of threads, because sums in another order have other last bits."""
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads()), "OMP_WAIT_POLICY": "PASSIVE"}


def start(*command: str, **options) -> subprocess.Popen:
    """A Python process as a user starts it, with its output as text."""
    return subprocess.Popen(
        [sys.executable, *command], env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def tensors(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    """Everything of a checkpoint: networks, queues, centres and the optimiser's state."""
    step = checkpoint.find(folder, which)
    return {f"{file} {name}": value for file in ("model", "optimizer") for name, value in load_file(step / f"{file}.safetensors").items()}


def differences(one: Path, other: Path) -> list[str]:
    """What two finished runs differ in; nothing, if they are the same run."""
    left, right = tensors(one), tensors(other)
    names = [
        name for name in sorted(left.keys() | right.keys()) if name not in left or name not in right or not left[name].equal(right[name])
    ]
    return names + [f"step {a['step']} of the log" for a, b in zip(metrics(one), metrics(other), strict=True) if a != b]


def require_equal(one: Path, other: Path) -> None:
    """Two runs that ended in the same bits, and told the same on the way."""
    assert len(tensors(one)) > 100
    assert not differences(one, other)


def pretrain(run: Path | str, changes: dict[str, object], *launcher: str, **options) -> subprocess.Popen:
    """`semmim-mini pretrain` of `SMALL` with changes, as a user types it, in a process of its own or several."""
    typed = (word for setting in settings(changes) for word in ("--set", setting))
    return start(*launcher, "-m", "semmim_mini.cli", "pretrain", "--out", str(run), *typed, **options)


def wait_for_steps(process: subprocess.Popen, run: Path, steps: int, seconds: float = 120) -> None:
    """Until the log of `run` has so many; fails when `process` ends before, or takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while not (run / "metrics.jsonl").exists() or len((run / "metrics.jsonl").read_text().splitlines()) < steps:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def metrics(folder: Path) -> list[dict]:
    """What metrics.jsonl says, without what a clock decides."""
    return [{key: value for key, value in record.items() if key not in TIMING} for record in read_metrics(folder / "metrics.jsonl")]
