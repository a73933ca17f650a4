r"""`semmim-mini prepare`: a collection on disk into shards, in parallel, resumable, with a report.

    entries of a split ─► portions of `shard_size` ─► write_shard, in several processes ─► receipts ─► index and report

Shard i is made from entries i·n to (i+1)·n of the listing, whatever is left out of them. So any shard can be made, kept or checked by
itself, in any process, and shards are of unequal sizes.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from semmim_mini.data.shard_index import PLACE
from semmim_mini.errors import UserError
from semmim_mini.prepare.entries import Entry
from semmim_mini.prepare.progress import Progress
from semmim_mini.prepare.shard_writer import EXAMPLES, REASONS, Receipt, Task, write_shard
from semmim_mini.prepare.shards_folder import claim, remove_beyond, write_report, write_split
from semmim_mini.prepare.workers import Workers

LOOKED_AT = 1_000  # pictures at the beginning of a listing; if all are missing, so are the others


@dataclass(frozen=True)
class Settings:
    """What shards are made like."""

    # px, the most that the shorter side has [C]: the field's resolution of fine-tuning [F: ALBEF], and half as much again as that of
    # pre-training, so that a crop of half the picture or more is never enlarged.
    size: int = 384
    shard_size: int = 1_000  # entries of a shard: about 60 MB [C]
    workers: int = 0  # processes; 0 works in this one

    def __post_init__(self):
        for name, least in (("size", 64), ("shard_size", 1)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)} is too small; it needs at least {least}")


def prepare(collection: str, splits: dict[str, Iterable[Entry]], out: Path, settings: Settings, held_out: set[str] = frozenset()) -> dict:
    """Write the shards of all splits; returns the report of each.

    Args:
        splits: from `layouts.list_entries`.
        held_out: identities that must not be trained on.

    Raises:
        UserError: webdataset is not installed, pictures cannot be found, `out` holds something else or cannot be written.
    """
    _require_webdataset()
    reports = {}
    with Workers(settings.workers) as workers:
        for split, entries in splits.items():
            name = f"{collection}/{split}"
            checked = _checked(iter(entries), held_out if split == "train" else frozenset())
            first = _require_pictures(checked, name)
            claim(out, split, {"collection": collection, "size": settings.size, "shard_size": settings.shard_size})
            tasks = _tasks(itertools.chain(first, checked), split, out, settings)
            with Progress(name, len(entries) if hasattr(entries, "__len__") else None) as progress:
                receipts, places = _receipts(workers.map(write_shard, tasks), progress)
            reports[split] = _finish(collection, split, receipts, places, out, settings)
    return reports


def _checked(entries: Iterator[Entry], held_out: set[str]) -> Iterator[Entry]:
    """The entries, with those marked that are held out or came before."""
    known: set[int] = set()
    for entry in entries:
        if not entry.left_out and not held_out.isdisjoint(entry.identities):
            entry = replace(entry, left_out="held out")
        if not entry.left_out and entry.image_id in known:
            entry = replace(entry, left_out="duplicate")
        if not entry.left_out and entry.picture:
            known.add(entry.image_id)
        yield entry


def _require_pictures(entries: Iterator[Entry], name: str) -> list[Entry]:
    """The first entries, if any of them has a picture: found out before hours of leaving out the rest."""
    first = list(itertools.islice(entries, LOOKED_AT))
    if not any(entry.picture for entry in first):
        example = f", such as {first[0].name}" if first else ""
        raise UserError(f"{name}: not one of the first {len(first)} pictures is on disk{example}; say where they are with --images")
    return first


def _receipts(made: Iterable[Receipt], progress: Progress) -> tuple[list[Receipt], np.ndarray]:
    """All receipts as they come, and the places of all samples, which take a tenth of the memory so."""
    receipts, places = [], [np.empty(0, PLACE)]
    for receipt in made:
        places.append(np.array([tuple(place) for place in receipt.places], PLACE))
        receipts.append(replace(receipt, places=[]))
        progress.add(receipt)
    return receipts, np.concatenate(places)


def _finish(collection: str, split: str, receipts: list[Receipt], places: np.ndarray, out: Path, settings: Settings) -> dict:
    shards = [receipt.shard(_shard_name(split, number)) for number, receipt in enumerate(receipts) if receipt.samples]
    report = {"collection": collection, "size": settings.size, "shards": len(shards)} | _report(receipts)
    if not shards:
        raise UserError(f"{collection}/{split}: not one of {report['listed']:,} pictures can be used: {report['left_out']}")
    write_split(out, split, collection, shards, places)
    remove_beyond(out, split, len(receipts))
    write_report(out, split, report)
    return report


def _tasks(entries: Iterator[Entry], split: str, out: Path, settings: Settings) -> Iterator[Task]:
    for number in itertools.count():
        members = tuple(itertools.islice(entries, settings.shard_size))
        if not members:
            return
        yield Task(str(out), _shard_name(split, number), number * settings.shard_size, members, settings.size)


def _shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}"


def _report(receipts: list[Receipt]) -> dict:
    written = sum(receipt.samples for receipt in receipts)
    left_out = {}
    for reason, meaning in REASONS.items():
        names = [name for receipt in receipts for name in receipt.examples.get(reason, ())]
        if count := sum(receipt.left_out.get(reason, 0) for receipt in receipts):
            left_out[reason] = {"pictures": count, "meaning": meaning, "examples": names[:EXAMPLES]}
    return {
        "listed": written + sum(reason["pictures"] for reason in left_out.values()),
        "written": written,
        "captions": sum(receipt.captions for receipt in receipts),
        "bytes": sum(receipt.bytes for receipt in receipts),
        "left_out": left_out,
    }


def as_lines(reports: dict) -> list[str]:
    """The reports for people: what was written, and what was left out and why."""
    lines = []
    for split, report in reports.items():
        of_all = f"{report['written']:,} of {report['listed']:,} pictures, {report['captions']:,} captions"
        size = f"{report['bytes'] / 2**20:,.1f} MiB in {report['shards']:,} shard{'s' * (report['shards'] != 1)}"
        lines.append(f"{report['collection']}/{split}: {of_all}, {size}")
        for reason, found in report["left_out"].items():
            examples = ", ".join(map(repr, found["examples"]))
            lines.append(f"  {found['pictures']:,} left out, {reason} ({found['meaning']}): {examples}")
    return lines


def _require_webdataset() -> None:
    try:
        import webdataset  # noqa: F401
    except ImportError:
        raise UserError('writing shards needs webdataset: pip install "semmim-mini[full]"') from None
