r"""The files beside the shards, written so that each is complete or not there.

SHARDS/train.shards.json     what the split is made of; another collection or size is refused
SHARDS/index.json, train.npy when all shards are there: what data.source=shards:SHARDS opens (data/shard_index.py)
SHARDS/report.json           what was written, what was left out, and why
"""

import itertools
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np

from semmim_mini.data.shard_index import FORMAT, Shard, Split, read_index, sha256
from semmim_mini.errors import UserError
from semmim_mini.plain_values import named
from semmim_mini.training.checkpoint import write_text


def claim(out: Path, split: str, made_like: dict) -> None:
    """Notes what a split is made of, and removes what a killed run left half-written.

    Raises:
        UserError: the folder holds the split of something else, or somebody's files, or cannot be written.
    """
    path = out / f"{split}.shards.json"
    try:
        out.mkdir(parents=True, exist_ok=True)
        others = [file.name for file in out.iterdir() if not file.name.startswith(".")]
        if others and not any(name.endswith(".shards.json") for name in others):
            raise UserError(f"--out {out} holds other things, such as {min(others)}; choose an empty folder")
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else made_like
        if before != made_like:
            raise UserError(f"{out} holds the split {split} with {_words(before)}, not {_words(made_like)}; choose another --out")
        write_text(path, json.dumps(made_like) + "\n")
        for leftover in out.glob(f".{split}*.tmp"):
            leftover.unlink(missing_ok=True)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"--out {out} cannot be used: {error}; choose another folder") from None


def _words(values: dict) -> str:
    return ", ".join(f"{named(key)} {named(value)}" for key, value in itertools.islice(values.items(), 10))


def write_split(out: Path, name: str, collection: str, shards: list[Shard], places: np.ndarray) -> None:
    """Put a split into the index, in place of what it said of that split before."""
    temporary = out / f".{name}.npy.tmp"
    with open(temporary, "wb") as file:
        np.save(file, places, allow_pickle=False)
    splits = read_index(out) | {name: Split(collection, sha256(temporary), tuple(shards))}
    temporary.replace(out / f"{name}.npy")
    content = {"format": FORMAT, "splits": {key: asdict(split) for key, split in sorted(splits.items())}}
    write_text(out / "index.json", json.dumps(content, indent=1) + "\n")


def remove_beyond(out: Path, split: str, count: int) -> None:
    """Remove shards that an earlier, longer listing has left: whoever takes train-*.tar would train on them."""
    for receipt in out.glob(f"{split}-*.json"):
        number = re.fullmatch(rf"{split}-(\d+)", receipt.stem)
        if number and int(number[1]) >= count:
            receipt.with_suffix(".tar").unlink(missing_ok=True)
            receipt.unlink()


def write_report(out: Path, split: str, report: dict) -> None:
    """Put the report of a split beside those of the others."""
    path = out / "report.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none yet, or damaged: the shards are made, and no reason to lose this report
        before = {}
    write_text(path, json.dumps((before if isinstance(before, dict) else {}) | {split: report}, indent=2) + "\n")
