r"""`semmim-mini bench`: where the time and the memory of a step go, and how they grow.

    meters.py    seconds, bytes and FLOPs of a piece of code
    parts.py     the parts of a step, cut out
    growth.py    the step at half and double size
    many.py      more shards, more processes
    page.py      both as one figure
    peers.py     parts beside timm and lightly
    reading.py   what reading pictures costs
    (here)       one run of it all, as a table and as JSON

The numbers are of this machine, now: other programs that run at the same time make all of them worse.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch

from semmim_mini.bench.growth import grow
from semmim_mini.bench.meters import MEMORY_IS, flops, matrix_product_rate, median_seconds, peak_bytes
from semmim_mini.bench.parts import Workbench, parts_of_a_step
from semmim_mini.bench.table import as_table
from semmim_mini.config import Config, to_dict
from semmim_mini.data.loader import Batch, PretrainLoader
from semmim_mini.data.sources import open_pairs
from semmim_mini.data.views import TwoViews
from semmim_mini.errors import UserError
from semmim_mini.training.checkpoint import write_text
from semmim_mini.training.precision import choose_precision
from semmim_mini.training.schedules import Plan
from semmim_mini.training.startup import make_tokenizer

DATA_BATCHES = 3
CAPTIONS_FROM = 1_000  # pairs whose captions make the vocabulary: enough for its size, which is what costs time
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def run_bench(config: Config, out: Path | None = None, growth: bool = True) -> int:
    """Measure, print a table, and write JSON to `out` if given. Returns the exit code.

    Args:
        growth: also measure how a step grows; it takes most of the time.

    Raises:
        UserError: the data cannot be opened, or `out` cannot be written.
    """
    _require_writable(out)
    result = measure(config, growth=growth)
    print(as_table(result))
    if out is not None:
        write_text(out, json.dumps(result, indent=2) + "\n")
        print(f"\nthe numbers are in {out}")
    return 0


def measure(config: Config, repeats: int = 3, growth: bool = True) -> dict:
    """Everything `bench` reports, in seconds, bytes and FLOPs."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision, reason = choose_precision(config.run.precision, device.type)
    # One micro-batch: accumulation runs it several times, and needs memory for one.
    config = replace(config, data=replace(config.data, batch_size=config.data.batch_size // config.run.accumulate))
    config = replace(config, run=replace(config.run, accumulate=1))
    batch, vocab_size, data = _data(config)
    batch = batch.to(device)
    bench = Workbench(config, vocab_size, batch, precision)
    result = {
        "machine": _machine(device, precision, reason),
        "config": to_dict(config),
        "sizes": {"b": config.data.batch_size, "n": config.n_patches, "k": config.space.prototypes, "depth": config.image.depth},
        **_step(bench, repeats),
        "arithmetic": _arithmetic(bench, precision, repeats),
    }
    step = result["full_step"]["seconds"]
    needed = config.data.batch_size / step
    result["full_over_itc_arithmetic"] = result["arithmetic"]["flops_per_step"] / result["arithmetic"]["flops_of_itc_step"]
    result["arithmetic"]["achieved_per_second"] = result["arithmetic"]["flops_per_step"] / step
    result["arithmetic"]["share"] = result["arithmetic"]["achieved_per_second"] / result["arithmetic"]["matrix_product_per_second"]
    result["data"] = data | {"step_images_per_second": needed, "two_workers_suffice": 2 * data["samples_per_second"] >= needed}
    del bench  # a large model would not fit several times
    return result | ({"growth": grow(config, vocab_size, batch, precision)} if growth else {})


def _data(config: Config) -> tuple[Batch, int, dict]:
    """A batch, the vocabulary's size, and how fast one worker prepares samples."""
    data = config.data
    pairs = open_pairs(
        data.source, "train", resolution=data.resolution, seed=config.run.seed, size=data.train_size, max_bad_share=data.max_bad_share
    )
    tokenizer = make_tokenizer(config, pairs, None, most=CAPTIONS_FROM)
    views = TwoViews(data.resolution, scale=data.crop_scale, randaugment=(2, 7) if data.randaugment else None)
    loader = PretrainLoader(
        pairs, tokenizer, views, batch_size=data.batch_size, seed=config.run.seed, start_step=0, stop_step=DATA_BATCHES + 1,
        max_length=data.max_length, mlm_share=data.mlm_share,
    )  # fmt: skip
    batches, threads = iter(loader), torch.get_num_threads()
    torch.set_num_threads(1)  # as workers have
    try:
        batch = next(batches)
        timed = median_seconds({"batch": lambda: next(batches)}, torch.device("cpu"), DATA_BATCHES, warm_up=0)
    finally:
        torch.set_num_threads(threads)
    rate = data.batch_size / timed["batch"]
    return batch, len(tokenizer), {"source": pairs.name, "samples_per_second": rate, "two_workers_per_second": 2 * rate}


def _step(bench: Workbench, repeats: int) -> dict:
    """The full step, a step of ITC alone, and the parts, all in turn."""
    candidates = {"full": bench.full_step, "itc": lambda: bench.full_step(itc_alone(bench))} | parts_of_a_step(bench)
    seconds = median_seconds(candidates, bench.device, repeats)
    figures = {}
    for name, candidate in candidates.items():
        memory = peak_bytes(candidate, bench.device)
        figures[name] = {"seconds": seconds[name], "peak_bytes": memory, "share": seconds[name] / seconds["full"]}
    full, itc = figures.pop("full"), figures.pop("itc")
    return {
        "parts": figures,
        "full_step": full,
        "itc_step": itc,
        "full_over_itc": full["seconds"] / itc["seconds"],
        "standing_bytes": bench.standing_bytes(),
    }


def itc_alone(bench: Workbench) -> Plan:
    """A step of contrastive learning, the cheapest that a run has."""
    return replace(bench.plan, weights={"itc": 1.0})


def _arithmetic(bench: Workbench, precision: str, repeats: int) -> dict:
    rate = matrix_product_rate(bench.device, DTYPES[precision], repeats)
    alone = flops(lambda: bench.full_step(itc_alone(bench)))
    found = {"flops_per_step": flops(bench.full_step), "flops_of_itc_step": alone}
    return found | {"matrix_product_per_second": rate, "matrix_product_in": precision}


def _machine(device: torch.device, precision: str, reason: str) -> dict:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "precision_because": reason,
        "torch": torch.__version__,
        "memory_is": MEMORY_IS[device.type],
    }


def _require_writable(out: Path | None) -> None:
    """Found out before a minute of measuring, not after."""
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise UserError(f"--out {out} cannot be written; give a file name in a folder that exists")
