r"""What moves besides the arithmetic: gradients and tokens between GPUs, pictures from the disk.

A ring all-reduce of x bytes over g GPUs sends 2(g − 1)/g · x from each; collecting x bytes from every GPU brings (g − 1) · x to each.

| what | bytes at each GPU | grows with |
| --- | --- | --- |
| gradients | ring of 4 · trainable | nothing |
| image and text tokens for ITM | (g − 1) · b · (s·d + l·d) · 4, and a ring of all of them for their gradients | the global batch |
| ITC features | 2 (g − 1) · b · p · 4 | the global batch |

Random numbers for ITM's negatives are drawn for all pairs of the global batch B in every process, 2·B² of them, so that any number of
processes draws the same: on the host, and then copied to the GPU.
"""

import math

from semmim_mini.plan.memory import FP32, gathered
from semmim_mini.plan.parameters import trainable
from semmim_mini.plan.sizes import Sizes

SHARD_SIZE = 1_000  # pictures of a shard, as `semmim-mini prepare` makes them
SAMPLE_BYTES = 60_000  # of a picture with its captions: JPEG of quality 90, shorter side at most 384 px [C]
PLACE_BYTES = 20  # of a sample in the index of its shards
ORDER_BYTES = 4  # of a sample in the order of an epoch, which every data worker holds


def between_gpus(sizes: Sizes) -> dict[str, float]:
    """Bytes at one GPU in one optimiser step, and what is drawn on its host."""
    g, micro = sizes.gpus, sizes.config.run.accumulate
    everyone = sizes.b * g
    matching = sizes.plan.has("itm")
    return {
        "gradients": _ring(FP32 * trainable(sizes), g),
        "itm_tokens": micro * (gathered(sizes) * (g - 1) / g + _ring(gathered(sizes), g)),
        "itc_features": micro * FP32 * 2 * (g - 1) * sizes.b * sizes.config.space.projection * sizes.plan.has("itc", "itm"),
        "random_numbers_on_host": micro * FP32 * 2 * everyone**2 * matching,
    }


def _ring(size: float, gpus: int) -> float:
    return 2 * (gpus - 1) / gpus * size


def from_disk(sizes: Sizes, images: float | None, images_per_second: float, per_node: int) -> dict[str, float]:
    """How fast a node must read, and the shards of a collection where its size is known.

    Args:
        images: in the collection.
        images_per_second: over all GPUs.
        per_node: GPUs of a node.
    """
    together = min(per_node, sizes.gpus)
    node = images_per_second * together / sizes.gpus
    found = {"images_per_second_and_node": node, "bytes_per_second_and_node": node * SAMPLE_BYTES}
    if images is None:
        return found
    return found | {
        "images": images,
        "shards": math.ceil(images / SHARD_SIZE),
        "bytes": images * SAMPLE_BYTES,
        "index_bytes": images * PLACE_BYTES,
        "order_bytes_per_node": images * ORDER_BYTES * max(sizes.config.data.workers, 1) * together,
    }
