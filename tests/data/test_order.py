"""The order of training: every pair once in each epoch, and the same whatever was asked before, by whom, or in which portions."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.data.order import Shuffled, order_of, sample_seed

SEEDS = st.integers(0, 2**63)
SIZES = {"size": st.integers(1, 40), "batch": st.integers(1, 12), "seed": SEEDS, "epochs": st.integers(1, 4)}
BLOCKS = st.lists(st.integers(1, 6), min_size=1, max_size=12)


def indices(order, places) -> list[int]:
    return [index for _, index in order(places)]


@given(**SIZES)
def test_every_epoch_is_a_permutation(size, batch, seed, epochs):
    order, steps = Shuffled(size, seed), -(-epochs * size // batch)
    seen = [place for step in range(steps) for place in order(range(step * batch, (step + 1) * batch))][: epochs * size]
    for epoch in range(epochs):
        part = seen[epoch * size : (epoch + 1) * size]
        assert {e for e, _ in part} == {epoch} and sorted(i for _, i in part) == list(range(size))


@given(**SIZES)
def test_the_order_does_not_depend_on_portions_or_on_what_was_asked_before(size, batch, seed, epochs):
    one_by_one = [Shuffled(size, seed)([place])[0] for place in range(epochs * batch)]
    order = Shuffled(size, seed)
    last = order(range((epochs - 1) * batch, epochs * batch))
    assert last == one_by_one[-batch:]
    assert order(range(epochs * batch)) == one_by_one and order(range((epochs - 1) * batch, epochs * batch)) == last  # and back again


def test_the_order_of_sources_without_blocks_is_written_down():
    # Runs are resumed by it, with older checkpoints, too.
    assert indices(Shuffled(6, seed=1), range(12)) == [
        *torch.randperm(6, generator=torch.Generator().manual_seed(sample_seed(1, 0))).tolist(),
        *torch.randperm(6, generator=torch.Generator().manual_seed(sample_seed(1, 1))).tolist(),
    ]
    assert sample_seed(1, 0) == 5772478763057941183


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = {tuple(indices(Shuffled(50, seed), range(50 * epoch, 50 * epoch + 50))) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


# In blocks --------------------------------------------------------------------------------------------------------------


@given(blocks=BLOCKS, window=st.integers(1, 5), seed=SEEDS)
def test_blocks_too_give_every_pair_once_in_each_epoch(blocks, window, seed):
    size = sum(blocks)
    order = Shuffled(size, seed, blocks, window)
    assert [sorted(indices(order, range(epoch * size, (epoch + 1) * size))) for epoch in (0, 1)] == [list(range(size))] * 2


@given(blocks=BLOCKS, window=st.integers(1, 5), seed=SEEDS)
def test_a_window_reads_whole_blocks_and_no_others(blocks, window, seed):
    block_of = [number for number, size in enumerate(blocks) for _ in range(size)]
    seen = [block_of[index] for index in indices(Shuffled(len(block_of), seed, blocks, window), range(len(block_of)))]
    while seen:
        chosen = list(dict.fromkeys(seen))[:window]  # the first blocks to turn up are those of the window
        length = sum(blocks[number] for number in chosen)
        assert sorted(seen[:length]) == sorted(number for number in chosen for _ in range(blocks[number]))
        seen = seen[length:]


def test_windows_and_pairs_within_them_are_shuffled_anew_in_each_epoch():
    size, blocks = 120, [10] * 12
    epochs = [indices(Shuffled(size, 0, blocks, window=3), range(e * size, (e + 1) * size)) for e in range(2)]
    first_windows = [{index // 10 for index in epoch[:30]} for epoch in epochs]
    assert first_windows[0] != first_windows[1] and all(len(window) == 3 for window in first_windows)
    assert epochs[0][:30] != sorted(epochs[0][:30], key=lambda index: index // 10)  # blocks of a window are mixed, not one after another


def test_one_window_over_everything_is_a_full_shuffle():
    firsts = [indices(Shuffled(40, seed, [10] * 4, window=4), [0])[0] // 10 for seed in range(200)]
    assert all(35 <= firsts.count(block) <= 65 for block in range(4))  # 50 each on average; 6.1 is the standard deviation


# Sources ----------------------------------------------------------------------------------------------------------------


class Source(list):
    """Pairs, as far as an order is concerned."""


def test_a_source_may_name_its_blocks_or_bring_an_order():
    plain, blocked, own = Source(range(30)), Source(range(30)), Source(range(30))
    blocked.blocks, own.order = [1] * 30, lambda seed: lambda places: [(seed, place) for place in places]
    assert order_of(plain, 3)(range(30)) == Shuffled(30, 3)(range(30))
    assert order_of(blocked, 3)(range(30)) == Shuffled(30, 3, blocked.blocks)(range(30)) != Shuffled(30, 3)(range(30))
    assert order_of(own, 3)([5]) == [(3, 5)]


@pytest.mark.parametrize("blocks", [None, [5, 5, 10]])
def test_orders_travel_to_worker_processes(blocks):
    order = Shuffled(20, 1, blocks)
    assert pickle.loads(pickle.dumps(order))(range(40)) == order(range(40))


def test_only_two_epochs_are_remembered():
    order = Shuffled(5, 0)
    order(range(50))
    assert sorted(order._known) == [8, 9]
