r"""Several sources as one, mixed by weight.

    mix:2*shards:coco+1*shards:vg     of three pairs two come from coco and one from vg, however large the two are
    mix:shards:coco+shards:vg         without weights every pair is as likely as any other [F: ALBEF puts its lists end to end]
    mix:1*shards:cc3m+0*shards:coco   weight 0: only held-out pairs are taken from coco

Draws come in rounds. A round holds of each source exactly its share, and is shuffled:

    weights 2 and 1     A B A │ A A B │ B A A │ …
    source A            0   1   2 3       4 5          places in A's own shuffled epochs
    source B              0         1   2              places in B's

So shares are exact and not only so on average, every source goes through its own epochs, each pair once in each, and place p of the
mixture is still a function of the seed and p alone: the rounds before it have drawn a known number from every source.

Held-out pairs are never mixed, because a gallery of two collections is nobody's benchmark: they are those of the first source that
has the split.
"""

import itertools
import math
import re
from bisect import bisect
from collections.abc import Callable, Iterable
from fractions import Fraction

import torch
from torch import Tensor

from semmim_mini.data.order import Order, order_of, sample_seed
from semmim_mini.data.pairs import Pair, Pairs, read_pair
from semmim_mini.errors import UserError

# A source begins after a plus only where its kind is named, so that folders may have plusses in their names.
_NEXT = re.compile(r"\+(?=(?:[\d.]+\*)?(?:scenes\b|flickr8k:|karpathy:|shards:))")
_WEIGHT = re.compile(r"(\d+(?:\.\d+)?)\*(.+)")
LONGEST_ROUND = 100_000_000  # draws


def open_mixture(text: str, split: str, open_source: Callable[[str, str], Pairs], has_split: Callable[[str, str], bool]) -> Pairs:
    """The pairs of `2*SOURCE+1*SOURCE`.

    Args:
        open_source: opens one source's split.
        has_split: says whether a source has a split.

    Raises:
        UserError: not of that form, some sources with weights and some without, no source with that split.
    """
    parts = parse(text)
    if split != "train":
        source = next((source for _, source in parts if has_split(source, split)), None)
        if source is None:
            where = f"no source of data.source='mix:{text}' has a split {split!r}"
            raise UserError(f"{where}; choose another split, or add a source that has it, with weight 0")
        return open_source(source, split)
    parts = [(weight, open_source(source, split)) for weight, source in parts if weight != 0]
    return MixedPairs([pairs for _, pairs in parts], [weight if weight is not None else len(pairs) for weight, pairs in parts])


def parse(text: str) -> list[tuple[Fraction | None, str]]:
    """Weight and source of every part; no weights at all are None throughout."""
    parts = []
    for part in _NEXT.split(text):
        match = _WEIGHT.fullmatch(part)
        parts.append((Fraction(match[1]), match[2]) if match else (None, part))
    weights = [weight for weight, _ in parts if weight is not None]
    if weights and len(weights) < len(parts):
        raise UserError(f"data.source='mix:{text}' gives some sources a weight and some none; give all of them one, or none")
    if weights and not any(weights):
        raise UserError(f"data.source='mix:{text}' has weight 0 throughout; give a source to train on a weight above it")
    if any(not source or source.startswith("mix:") for _, source in parts):
        raise UserError(f"data.source='mix:{text}' is no mixture; write it as mix:2*shards:DIR+1*shards:OTHER")
    return parts


class MixedPairs:
    """The pairs of all sources, one source after the other; their order mixes them.

    Args:
        sources: at least one.
        weights: of each, above 0; only their ratios count.

    Raises:
        UserError: weights so fine that a round would have more than `LONGEST_ROUND` draws.
    """

    def __init__(self, sources: list[Pairs], weights: list[Fraction | int]):
        self.sources = sources
        self.name = f"mix({', '.join(pairs.name for pairs in sources)})"
        self._ends = list(itertools.accumulate(len(pairs) for pairs in sources))
        scale = math.lcm(*(Fraction(weight).denominator for weight in weights))
        counts = [int(weight * scale) for weight in weights]
        self.counts = [count // math.gcd(*counts) for count in counts]  # draws of each source in a round
        if sum(self.counts) > LONGEST_ROUND:
            raise UserError(f"the weights of {self.name} make rounds of {sum(self.counts):,} draws; use rounder weights")

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Pair:
        return self.read(index)[0]

    def captions(self, index: int) -> tuple[str, ...]:
        pairs, own = self._find(index)
        return pairs.captions(own)

    def read(self, index: int) -> tuple[Pair, list[str]]:
        """Pair `index`, or the one of the same source that stands in for it, and the names of those passed over."""
        return read_pair(*self._find(index))

    def order(self, seed: int) -> Order:
        return MixedOrder([order_of(pairs, sample_seed(seed, i)) for i, pairs in enumerate(self.sources)], self.starts, self.counts, seed)

    @property
    def starts(self) -> list[int]:
        """The index of each source's first pair."""
        return [0, *self._ends[:-1]]

    def _find(self, index: int) -> tuple[Pairs, int]:
        index = range(len(self))[index]
        source = bisect(self._ends, index)
        return self.sources[source], index - self.starts[source]


class MixedOrder:
    """Rounds of draws from several orders.

    Args:
        orders: of the sources.
        starts: the index in the mixture of each source's first pair.
        counts: draws of each source in a round.
    """

    def __init__(self, orders: list[Order], starts: list[int], counts: list[int], seed: int):
        self.orders, self.starts, self.counts, self.seed = orders, starts, counts, seed
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, places: Iterable[int]) -> list[tuple[int, int]]:
        """(epoch of its source, index in the mixture) of the pair at each place."""
        return [self._at(*divmod(place, sum(self.counts))) for place in places]

    def _at(self, turn: int, place: int) -> tuple[int, int]:
        sources, earlier = self._round(turn)
        source = int(sources[place])
        ((epoch, index),) = self.orders[source]([turn * self.counts[source] + int(earlier[place])])
        return epoch, self.starts[source] + index

    def _round(self, turn: int) -> tuple[Tensor, Tensor]:
        """Of each draw of a round, its source, and how many draws of that source came before it in the round."""
        if turn not in self._known:
            self._known = {t: known for t, known in self._known.items() if t == turn - 1}  # a batch may lie across two
            draw = torch.Generator().manual_seed(sample_seed(self.seed, len(self.counts), turn))  # the sources took 0, 1, …
            in_turn = torch.arange(len(self.counts), dtype=torch.int16).repeat_interleave(torch.tensor(self.counts))
            sources = in_turn[torch.randperm(len(in_turn), generator=draw)]
            by_source = sources.argsort(stable=True)  # all draws of source 0 as they come, then all of source 1, …
            earlier = torch.empty(len(sources), dtype=torch.int32)
            earlier[by_source] = torch.cat([torch.arange(count, dtype=torch.int32) for count in self.counts])
            self._known[turn] = sources, earlier
        return self._known[turn]
