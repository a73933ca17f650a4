"""A folder of small shards, made as `semmim-mini prepare` makes them."""

from pathlib import Path

import numpy as np
from PIL import Image

from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.job import Settings, prepare


def picture(path: Path, number: int, size: tuple[int, int] = (80, 72)) -> Path:
    """A JPEG whose mean grey tells its number."""
    Image.fromarray(np.full((size[1], size[0], 3), 10 * number % 250, np.uint8)).save(path, quality=95)
    return path


def entries(folder: Path, count: int, collection: str = "things") -> list[Entry]:
    """Pictures 0, 1, … with two captions each."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        Entry(
            (f"{collection}/{i}",),
            f"{i}.jpg",
            Bytes(str(picture(folder / f"{i}.jpg", i))),
            (f"picture {i}", f"number {i} of {collection}"),
        )
        for i in range(count)
    ]


def make_shards(folder: Path, collection: str = "things", shard_size: int = 4, **splits: int) -> Path:
    """Shards of `shard_size` pictures; `train=10, val=3` says how many of each split."""
    splits = {split: entries(folder / "pictures" / split, count, collection) for split, count in splits.items()}
    prepare(collection, splits, folder / "shards", Settings(size=64, shard_size=shard_size))
    return folder / "shards"
