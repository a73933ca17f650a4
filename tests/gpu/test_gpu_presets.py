"""One training step of every preset: that it runs, how long it takes, how much memory. A report, if you ask for one:

SEMMIM_GPU_REPORT=gpu.json python -m pytest tests/gpu -m gpu -n 0
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from semmim_mini.bench.meters import median_seconds, peak_bytes
from semmim_mini.bench.parts import Workbench
from semmim_mini.config import Config, override
from semmim_mini.data.loader import Batch
from semmim_mini.presets import PRESETS, preset
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.compiling import compile_layers
from semmim_mini.training.precision import choose_precision

pytestmark = pytest.mark.gpu

WORDS = {"train": 2_000, "bert-base-uncased": 30_522}  # entries of the vocabulary; nothing is downloaded


@pytest.fixture(scope="module")
def report():
    """What the tests below put in is written at the end, where SEMMIM_GPU_REPORT says."""
    found: dict = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "presets": {}}
    yield found
    if path := os.environ.get("SEMMIM_GPU_REPORT"):
        write_text(Path(path), json.dumps(found, indent=2) + "\n")


def random_batch(config: Config, size: int, words: int) -> Batch:
    """Noise in the shapes of real data: every caption as long as one may be."""
    length, side = config.data.max_length, config.data.resolution
    ids = torch.randint(5, words, (size, length))
    hidden = torch.rand(size, length) < config.data.mlm_share
    return Batch(
        images=torch.randn(2, size, 3, side, side),
        input_ids=ids,
        attention_mask=torch.ones(size, length, dtype=torch.bool),
        mlm_ids=torch.where(hidden, 4, ids),
        mlm_labels=torch.where(hidden, ids, -100),
        image_ids=torch.arange(size),
        captions=[""] * size,
    ).to("cuda")


def measure(config: Config, size: int) -> dict:
    """Seconds and bytes of a full step at the end of the schedule, with all its terms."""
    config = replace(config, data=replace(config.data, batch_size=size))
    precision, _ = choose_precision("auto", "cuda")
    words = WORDS[config.data.tokenizer]
    bench = Workbench(config, words, random_batch(config, size, words), precision)
    if config.run.compile:
        compile_layers(bench.model)
    seconds = median_seconds({"step": bench.full_step}, bench.device, repeats=5, warm_up=2)["step"]
    return {
        "precision": precision,
        "images": size,
        "seconds": seconds,
        "images_per_second": size / seconds,
        "standing_bytes": bench.standing_bytes(),
        "peak_bytes": peak_bytes(bench.full_step, bench.device),
    }


def measure_what_fits(config: Config) -> dict:
    """At the batch of the preset, or the largest half, quarter, … that fits on this GPU."""
    size = config.data.batch_size
    while True:
        try:
            return measure(config, size)
        except torch.cuda.OutOfMemoryError:
            if size <= 2:
                raise
        torch.cuda.empty_cache()  # after the exception is gone, and with it what it held
        size //= 2


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", PRESETS)
def test_a_step_of_every_preset(report, name, compiled):
    config = override(preset(name), ["image.pretrained=''", "text.pretrained=''", f"run.compile={compiled}".lower()])
    found = measure_what_fits(config)
    report["presets"][f"{name}, compiled" if compiled else name] = found
    assert found["seconds"] > 0 and 0 < found["peak_bytes"] < torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
