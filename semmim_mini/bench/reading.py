r"""What it costs to read pictures: shards beside loose files, or any sources beside each other.

    python -m semmim_mini.bench.reading flickr8k:DIR shards:DIR --resolution 256 --cold

Reads pairs in the order of training, in one thread, as a worker of the loader does: bytes from the disk, decoding, captions; no views.
Two numbers for each source, because they have two remedies:

    images per core-second   what the processor does, most of it decoding. Smaller pictures help, and more workers.
    waits for an image       how often the process had to sleep until the disk answered. Fewer and larger files help, read near each other.

Both hold on a machine that others use, too, where seconds on the clock do not. `--cold` first drops the files from the page cache
(Linux), as for a collection larger than memory; without it, what was read before need not be waited for.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from semmim_mini.data.order import order_of
from semmim_mini.data.pairs import Pairs, read_pair
from semmim_mini.data.picture_files import PhotoPairs
from semmim_mini.data.shards import ShardPairs
from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError

try:
    import resource
except ImportError:  # Windows counts no waits
    resource = None

LAPS = 10  # portions in which sources take turns, so that a slow minute of the machine hits them all


@dataclass
class Cost:
    """Of reading one source."""

    images: int = 0
    core_seconds: float = 0.0
    waits: float = 0.0

    @property
    def images_per_core_second(self) -> float:
        return self.images / self.core_seconds

    @property
    def waits_per_image(self) -> float:
        return self.waits / self.images


def reading_costs(sources: dict[str, Pairs], images: int, cold: bool = False, seed: int = 0) -> dict[str, Cost]:
    """Reads `images` pairs of each source, in turns.

    Raises:
        UserError: a source has fewer pairs, or with `cold` does not consist of files.
    """
    for name, pairs in sources.items():
        if len(pairs) < images:
            raise UserError(f"{name} has {len(pairs)} pairs, fewer than --images {images}; read fewer")
        for path in files_of(name, pairs) if cold else ():
            forget(path)
    orders, costs = {name: order_of(pairs, seed) for name, pairs in sources.items()}, {name: Cost() for name in sources}
    portion = -(-images // LAPS)
    for start in range(0, images, portion):
        for name, pairs in sources.items():
            places = range(start, min(start + portion, images))
            _read(pairs, [index for _, index in orders[name](places)], costs[name])
    return costs


def _read(pairs: Pairs, indices: list[int], cost: Cost) -> None:
    seconds, waits = time.process_time(), _waits()
    for index in indices:
        read_pair(pairs, index)
    cost.core_seconds += time.process_time() - seconds
    cost.waits += _waits() - waits
    cost.images += len(indices)


def _waits() -> float:
    """How often this process gave up the processor of its own accord."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw if resource else math.nan


def files_of(name: str, pairs: Pairs) -> Iterator[Path]:
    """The files that hold the pictures."""
    if isinstance(pairs, ShardPairs):
        return (pairs.folder / file for file in pairs.files)
    if isinstance(pairs, PhotoPairs):
        return (photo.path for photo in pairs.photos)
    raise UserError(f"{name} is not made of files; leave out --cold")


def forget(path: Path) -> None:
    """Drops a file from the page cache, so that it has to be read from the disk again."""
    if not hasattr(os, "posix_fadvise"):
        raise UserError("--cold needs Linux; leave it out")
    with open(path, "rb") as file:
        os.fsync(file.fileno())  # what is not yet on the disk cannot be dropped
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.bench.reading", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", help="as for --data")
    parser.add_argument("--split", default="train")
    parser.add_argument("--resolution", type=int, default=256, help="px of the views to come; decides at what size is decoded (256)")
    parser.add_argument("--images", type=int, default=1_000, help="of each source (1000)")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache first")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    try:
        sources = {spec: open_pairs(spec, given.split, resolution=given.resolution) for spec in given.sources}
        costs = reading_costs(sources, given.images, given.cold)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    first = next(iter(costs.values())).images_per_core_second
    for name, cost in costs.items():
        rate = cost.images_per_core_second
        print(f"{name}: {rate:.0f} images per core-second ({rate / first:.2f}×), {cost.waits_per_image:.2f} waits for an image")
    return 0


if __name__ == "__main__":
    sys.exit(main())
