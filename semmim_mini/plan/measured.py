r"""The plan held against this machine: one step of the configuration is run here, on random pictures and words.

Memory and arithmetic do not depend on what is shown, so nothing is downloaded and no data are opened. The step is that of one process
without DDP; its batch is the micro-batch of one GPU.
"""

import os
import sys

import torch

from semmim_mini.bench.meters import flops, peak_bytes
from semmim_mini.bench.parts import Workbench
from semmim_mini.config import Config
from semmim_mini.data.loader import Batch
from semmim_mini.errors import UserError
from semmim_mini.plan.duration import flops_of_step
from semmim_mini.plan.layers import Format
from semmim_mini.plan.memory import rise, standing
from semmim_mini.plan.parameters import parameters
from semmim_mini.plan.sizes import sizes_of
from semmim_mini.training.precision import choose_precision


def bench_of(config: Config) -> Workbench:
    """A model of the configuration at the end of its schedule, with a random batch.

    Raises:
        UserError: this machine has less memory than that takes.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    precision, _ = choose_precision(config.run.precision, device)
    vocab = sizes_of(config).vocab
    _require_room(predict(config, precision, device), _room(device), config.data.batch_size)
    return Workbench(config, vocab, random_batch(config, vocab).to(device), precision)


def random_batch(config: Config, vocab: int) -> Batch:
    """Noise and captions of full length, with as many hidden words as MLM hides."""
    data, draw = config.data, torch.Generator().manual_seed(0)
    b, length = data.batch_size, data.max_length
    ids = torch.randint(5, vocab, (b, length), generator=draw)
    words = torch.ones(b, length, dtype=torch.bool)
    hidden = torch.zeros_like(words)
    hidden[:, 1 : 1 + max(1, round(data.mlm_share * (length - 2)))] = True
    return Batch(
        images=torch.randn(2, b, 3, data.resolution, data.resolution, generator=draw),
        input_ids=ids,
        attention_mask=words,
        mlm_ids=ids.masked_fill(hidden, 4),
        mlm_labels=ids.masked_fill(~hidden, -100),
        image_ids=torch.arange(b),
        captions=[""] * b,
    )


def _room(device: str) -> int:
    """Bytes of the GPU that are free, or of the machine."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else sys.maxsize


def _require_room(expected: dict[str, float], room: int, b: int) -> None:
    needed = expected["standing"] + expected["peak"]
    if needed > room:
        raise UserError(
            f"--measure with b={b} takes about {needed / 2**30:.1f} GiB, and there are {room / 2**30:.1f}; set data.batch_size lower"
        )


def measure(config: Config) -> dict[str, float]:
    """Parameters, FLOPs and bytes of one step as counted here, and on what."""
    bench = bench_of(config)
    peak = peak_bytes(bench.full_step, bench.device)  # a step of its own: the counter of FLOPs keeps tensors alive
    return {
        "device": torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "cpu",
        "precision": bench.precision,
        "b": config.data.batch_size,
        "parameters": sum(p.numel() for p in bench.model.parameters()),
        "flops": flops(bench.full_step),
        "standing": bench.standing_bytes(),
        "peak": peak,
    }


def predict(config: Config, precision: str, device: str) -> dict[str, float]:
    """The same figures from the formulas."""
    sizes = sizes_of(config)
    stands = standing(sizes)
    return {
        "parameters": sum(parameters(sizes).values()),
        "flops": flops_of_step(sizes),
        "standing": sum(stands.values()) - stands["batch"],  # which is no part of the model
        "peak": rise(sizes, Format.of(precision, cuda=device != "cpu"))[0],
    }
