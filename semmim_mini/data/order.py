r"""Which pair stands at which place of training: a pure function of (seed, place).

    place      0 ───────────── size-1 │ size ───────── 2·size-1 │ …
    pairs      epoch 0, shuffled      │ epoch 1, shuffled anew  │ …

A place is a number, so a run resumes by counting, processes share a batch by slicing, and every pair is seen once in each epoch
whatever the batch size, the processes or the workers are.

Two ways to shuffle. In memory, or among files on a fast disk, any pair is as near as any other, and any order will do. Pairs in
shards (`data/shards.py`) lie one after another in large files, and jumping between thousands of those defeats disks and page
caches. Such a source names its `blocks`, and the shuffle [F: WebDataset's shards and buffer] goes in two stages:

    blocks     A B C D E F G H          in the order of the files
    shuffled   F B H C │ A G D E        and cut into windows, here of 4 blocks
    pairs      ~~~~~~~   ~~~~~~~        within a window every pair may come anywhere

While a window lasts, only its files are read. All processes are in the same window, so one machine reads each file once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from semmim_mini.data.pairs import Pairs

WINDOW = 16  # blocks among which pairs are shuffled [C]: 16,000 pairs, or 1 GB, in shards as `prepare` makes them


class Order(Protocol):
    """Where every pair stands."""

    def __call__(self, places: Iterable[int]) -> list[tuple[int, int]]:
        """(epoch, index) of the pair at each place; the two together never come twice."""
        ...


def sample_seed(*numbers: int) -> int:
    """One 64-bit seed from several numbers; neighbouring numbers give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest(), "big")


def order_of(pairs: Pairs, seed: int) -> Order:
    """The order in which `pairs` are trained on: the source's own where it has one (`order`), else shuffled epochs."""
    own = getattr(pairs, "order", None)
    return own(seed) if own else Shuffled(len(pairs), seed, getattr(pairs, "blocks", None))


class Shuffled:
    """One shuffled epoch after another.

    Args:
        size: pairs in an epoch.
        seed: of the shuffling; each epoch has its own order.
        blocks: sizes of consecutive runs of pairs that lie together; None shuffles all pairs freely.
        window: blocks that are shuffled together.
    """

    def __init__(self, size: int, seed: int, blocks: Sequence[int] | None = None, window: int = WINDOW):
        self.size, self.seed, self.blocks, self.window = size, seed, blocks, window
        self._known: dict[int, Tensor] = {}

    def __call__(self, places: Iterable[int]) -> list[tuple[int, int]]:
        at = (divmod(place, self.size) for place in places)
        return [(epoch, int(self._epoch(epoch)[place])) for epoch, place in at]

    def _epoch(self, epoch: int) -> Tensor:
        if epoch not in self._known:
            self._known = {e: order for e, order in self._known.items() if e == epoch - 1}  # a batch may lie across two
            self._known[epoch] = self._shuffle(epoch).int()  # half the memory, in every worker
        return self._known[epoch]

    def _shuffle(self, epoch: int) -> Tensor:
        draw = torch.Generator().manual_seed(sample_seed(self.seed, epoch))
        if self.blocks is None:
            return torch.randperm(self.size, generator=draw)
        sizes = torch.tensor(self.blocks)
        starts, order = sizes.cumsum(0) - sizes, torch.randperm(len(sizes), generator=draw)
        windows = (torch.cat([starts[b] + torch.arange(sizes[b]) for b in chosen]) for chosen in order.split(self.window))
        return torch.cat([members[torch.randperm(len(members), generator=draw)] for members in windows])
