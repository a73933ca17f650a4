"""Mixtures: exact shares, every source through its own epochs, and order a function of the place alone."""

import pickle
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from shard_folder import make_shards

from semmim_mini.data.mixture import MixedPairs, parse
from semmim_mini.data.order import Shuffled, order_of, sample_seed
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.sources import open_pairs
from semmim_mini.errors import UserError


class Numbered:
    """A source of `size` pairs that are known by its name and their number."""

    def __init__(self, name: str, size: int, blocks: list[int] | None = None):
        self.name, self.size = name, size
        if blocks:
            self.blocks = blocks

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.name, index

    def captions(self, index: int) -> tuple[str, ...]:
        return (f"{self.name} {index}",)


def mixed(*parts: tuple[int, int | Fraction]) -> MixedPairs:
    """Sources a, b, … of (size, weight)."""
    return MixedPairs([Numbered("abcd"[i], size) for i, (size, _) in enumerate(parts)], [weight for _, weight in parts])


PARTS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**63)


# The pairs --------------------------------------------------------------------------------------------------------------


def test_the_sources_lie_one_after_another():
    pairs = mixed((3, 1), (2, 1))
    assert isinstance(pairs, Pairs) and len(pairs) == 5 and pairs.name == "mix(a, b)"
    assert [pairs[i] for i in range(5)] == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    assert pairs.captions(4) == ("b 1",) and pairs.read(-1) == (("b", 1), [])
    with pytest.raises(IndexError):
        pairs[5]


def test_a_round_has_the_smallest_whole_numbers_of_draws():
    assert mixed((9, 2), (9, 1)).counts == [2, 1]
    assert mixed((9, Fraction("0.5")), (9, Fraction("1.25"))).counts == [2, 5]
    assert mixed((9, 40), (9, 20), (9, 60)).counts == [2, 1, 3]


# The order --------------------------------------------------------------------------------------------------------------


@given(parts=PARTS, seed=SEEDS, rounds=st.integers(1, 6))
def test_shares_are_exact_in_every_round(parts, seed, rounds):
    pairs = mixed(*parts)
    length, order = sum(pairs.counts), pairs.order(seed)
    for turn in range(rounds):
        names = Counter(pairs[index][0] for _, index in order(range(turn * length, (turn + 1) * length)))
        assert [names["abcd"[i]] for i in range(len(parts))] == pairs.counts


@given(parts=PARTS, seed=SEEDS)
def test_every_source_goes_through_its_own_epochs_in_its_own_order(parts, seed):
    pairs = mixed(*parts)
    places = 3 * max(size for size, _ in parts) * sum(pairs.counts)
    drawn = [(epoch, *pairs[index]) for epoch, index in pairs.order(seed)(range(places))]
    for i, source in enumerate(pairs.sources):
        own = [(epoch, number) for epoch, name, number in drawn if name == source.name]
        assert len(own) >= 3 * len(source) and own == Shuffled(len(source), sample_seed(seed, i))(range(len(own)))


@given(parts=PARTS, seed=SEEDS, batch=st.integers(1, 7), start=st.integers(0, 30), world=st.integers(1, 3))
def test_any_portions_from_any_start_give_the_same_sequence(parts, seed, batch, start, world):
    whole = mixed(*parts).order(seed)(range(start, start + 3 * batch * world))
    ranks = [mixed(*parts).order(seed) for _ in range(world)]  # each process has an order of its own
    seen = [
        sample
        for step in range(3)
        for rank, order in enumerate(ranks)
        for sample in order(range(start + (step * world + rank) * batch, start + (step * world + rank + 1) * batch))
    ]
    assert seen == whole


@given(parts=PARTS, seed=SEEDS)
def test_no_sample_comes_twice(parts, seed):
    # (epoch, index) seeds views and captions, so twice would mean the same picture cut in the same way.
    drawn = mixed(*parts).order(seed)(range(60))
    assert len(set(drawn)) == 60


@given(seed=SEEDS)
def test_rounds_are_shuffled(seed):
    pairs = mixed((50, 5), (50, 5))
    patterns = {tuple(pairs[index][0] for _, index in pairs.order(seed)(range(10 * turn, 10 * turn + 10))) for turn in range(6)}
    assert len(patterns) > 1


def test_sources_of_one_size_are_shuffled_apart():
    pairs = mixed((30, 1), (30, 1))
    drawn = [pairs[index] for _, index in pairs.order(0)(range(60))]
    assert [n for name, n in drawn if name == "a"] != [n for name, n in drawn if name == "b"]


def test_blocks_of_a_source_are_kept():
    blocked = Numbered("a", 40, [10] * 4)
    pairs = MixedPairs([blocked, Numbered("b", 5)], [1, 1])
    own = [(epoch, pairs[index][1]) for epoch, index in order_of(pairs, 7)(range(80)) if index < 40]
    assert own == Shuffled(40, sample_seed(7, 0), [10] * 4)(range(40))


def test_a_mixture_and_its_order_travel_to_workers():
    pairs = mixed((5, 2), (7, 1))
    order = pairs.order(3)
    expected = order(range(40))
    assert pickle.loads(pickle.dumps(order))(range(40)) == pickle.loads(pickle.dumps(pairs)).order(3)(range(40)) == expected


def test_impossible_rounds_are_refused():
    with pytest.raises(UserError, match=r"rounds of 1,000,000,007 draws; use rounder weights"):
        mixed((5, 1_000_000_006), (5, 1))


# As it is typed ---------------------------------------------------------------------------------------------------------


def test_weights_and_sources_by_hand():
    assert parse("2*shards:a+1*shards:b") == [(2, "shards:a"), (1, "shards:b")]
    assert parse("0.5*scenes+1.25*karpathy:x.json:y") == [(Fraction(1, 2), "scenes"), (Fraction(5, 4), "karpathy:x.json:y")]
    assert parse("shards:a+flickr8k:b") == [(None, "shards:a"), (None, "flickr8k:b")]


def test_folders_may_have_plusses_and_stars():
    assert parse("1*shards:c++/2*x+3*shards:a+b") == [(1, "shards:c++/2*x"), (3, "shards:a+b")]


NAMES = st.text("ab+*: /.1", min_size=1, max_size=8)


@given(folders=st.lists(NAMES, min_size=1, max_size=3), weights=st.lists(st.decimals(0, 99, places=2), min_size=3, max_size=3))
def test_what_was_written_is_read(folders, weights):
    assume(any(weights[: len(folders)]) and not any("+" in name for name in folders))
    text = "+".join(f"{weight}*shards:{name}" for weight, name in zip(weights, folders, strict=False))
    assert parse(text) == [(Fraction(weight), f"shards:{name}") for weight, name in zip(weights, folders, strict=False)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2*shards:a+shards:b", "gives some sources a weight and some none"),
        ("0*shards:a+0.0*shards:b", "weight 0 throughout"),
        ("mix:shards:a", "is no mixture"),
        ("2*mix:shards:a", "is no mixture"),
        ("2*shards:a+1*coco:b", r"shards \(no index.json\)|holds no shards"),
        ("pictures", "is no source of pairs"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(UserError, match=message):
        open_pairs(f"mix:{text}", "train", resolution=32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    one, other = (tmp_path_factory.mktemp(name) for name in ("one", "other"))
    return make_shards(one, "one", train=6), make_shards(other, "other", train=3, val=2)


def test_training_mixes_and_held_out_pairs_are_of_the_first_source_that_has_them(folders):
    spec = f"mix:2*shards:{folders[0]}+1*shards:{folders[1]}"
    train, val = (open_pairs(spec, split, resolution=32) for split in ("train", "val"))
    assert train.name == "mix(one/train, other/train)" and len(train) == 9 and train.counts == [2, 1]
    assert val.name == "other/val" and len(val) == 2
    with pytest.raises(UserError, match=r"has a split 'test'; choose another split, or add a source that has it, with weight 0"):
        open_pairs(spec, "test", resolution=32)


def test_weight_zero_lends_its_held_out_pairs_only(folders):
    spec = f"mix:1*shards:{folders[0]}+0*shards:{folders[1]}"
    train = open_pairs(spec, "train", resolution=32)
    assert train.name == "mix(one/train)" and {train[i].captions[1][-3:] for i in range(len(train))} == {"one"}
    assert open_pairs(spec, "val", resolution=32).name == "other/val"


def test_without_weights_every_pair_is_as_likely(folders):
    train = open_pairs(f"mix:shards:{folders[0]}+shards:{folders[1]}", "train", resolution=32)
    assert train.counts == [2, 1]  # as 6 to 3
    assert sorted(index for _, index in train.order(0)(range(9))) == list(range(9))


def test_a_mixture_may_hold_scenes(folders):
    train = open_pairs(f"mix:1*shards:{folders[0]}+1*scenes", "train", resolution=32, size=4)
    assert train.name == "mix(one/train, scenes/train)" and len(train) == 10 and train[6].truth is not None
