"""Pairs kept in memory after their first use, for sources that are small and costly to make."""

from dataclasses import replace

from semmim_mini.data.pairs import Pair, Pairs


class CachedPairs:
    """Remembers every pair once it was made, without its ground truth, which training does not read.

    A composed 64 px scene costs about ten times what looking it up costs, and takes 12 kB. Each process that prepares batches
    fills a cache of its own; what it returns is what the source would have returned.
    """

    def __init__(self, pairs: Pairs):
        self.pairs, self.name, self.known = pairs, pairs.name, {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        if index not in self.known:
            self.known[index] = replace(self.pairs[index], truth=None)
        return self.known[index]

    def captions(self, index: int) -> tuple[str, ...]:
        return self.known[index].captions if index in self.known else self.pairs.captions(index)
