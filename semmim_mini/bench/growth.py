r"""How a step grows with its sizes: n, k, b, depth and queue, halved and doubled, one at a time.

Ratios, because they carry over from machine to machine far better than seconds do. The ideal line is proportional growth. Below it
the size in question is only part of the cost (k touches the prototypes alone); above it something grows faster, as attention does
with n².
"""

import math
from dataclasses import replace

import torch

from semmim_mini.bench.meters import median_seconds, peak_bytes
from semmim_mini.bench.parts import Workbench, batch_like
from semmim_mini.config import Config
from semmim_mini.data.loader import Batch

AXES = ("b", "n", "k", "depth", "queue")
FACTORS = (0.5, 1.0, 2.0)


def scaled(config: Config, axis: str, factor: float) -> tuple[Config, int]:
    """The configuration with one size times about `factor`, and that size; whole patches and layers set the exact value."""
    data, image, losses = config.data, config.image, config.losses
    if axis == "n":
        side = max(1, round(data.resolution / image.patch * math.sqrt(factor)))
        return replace(config, data=replace(data, resolution=side * image.patch)), side**2
    if axis == "k":
        prototypes = max(2, round(config.space.prototypes * factor))
        return replace(config, space=replace(config.space, prototypes=prototypes)), prototypes
    if axis == "b":
        size = max(2, round(data.batch_size * factor))
        queue = max(losses.queue, size) if losses.queue else 0
        return replace(config, data=replace(data, batch_size=size), losses=replace(losses, queue=queue)), size
    if axis == "queue":
        size = max(data.batch_size, round(losses.queue * factor))
        return replace(config, losses=replace(losses, queue=size)), size
    depth = max(1, round(image.depth * factor))
    first = min(round(image.inject_from * factor), depth - 1)
    return replace(config, image=replace(image, depth=depth, inject_from=first)), depth


def grow(config: Config, vocab_size: int, batch: Batch, precision: str, repeats: int = 2) -> dict[str, list[dict]]:
    """Per axis three rows: size, ideal ratio, and the ratios of step time and peak memory to those of the configuration itself."""
    axes = [axis for axis in AXES if axis != "queue" or config.losses.queue]
    return {axis: _along(axis, config, vocab_size, batch, precision, repeats) for axis in axes}


def _along(axis: str, config: Config, vocab_size: int, batch: Batch, precision: str, repeats: int) -> list[dict]:
    device, benches, sizes, memory = batch.images.device, {}, {}, {}
    for factor in FACTORS:
        variant, sizes[factor] = scaled(config, axis, factor)
        try:
            bench = Workbench(variant, vocab_size, batch_like(batch, variant.data.batch_size, variant.data.resolution), precision)
            memory[factor] = peak_bytes(bench.full_step, device)  # warms up, too
            benches[factor] = bench.full_step
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # its row stays empty
    seconds = median_seconds(benches, device, repeats, warm_up=0)
    return [
        {
            "size": sizes[factor],
            "ideal": sizes[factor] / sizes[1.0],
            "time": seconds[factor] / seconds[1.0] if factor in seconds else None,
            "memory": memory[factor] / memory[1.0] if factor in memory else None,
        }
        for factor in FACTORS
    ]
