"""Masks: exact counts, the right end hidden, blocks that are blocks, and relevance scores against naive twins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.objectives.masking import (
    cross_relevance,
    hide_blocks,
    hide_highest,
    itc_relevance,
    mask_counts,
    query_relevance,
)

# How many ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "ratio", "count"), [(10, 0.3, 3), (100, 0.29, 29), (64, 0.3, 19), (196, 0.4, 78), (7, 1.0, 7)])
def test_exactly_floor_of_r_times_n(n, ratio, count):
    # 0.3 · 10 and 0.29 · 100 fall just short of 3 and 29 in binary.
    assert mask_counts(n, (ratio, ratio), 1.0, torch.rand(5, 2)).tolist() == [count] * 5


def test_at_least_one_patch():
    assert mask_counts(4, (0.1, 0.1), 1.0, torch.rand(3, 2)).tolist() == [1, 1, 1]


def test_the_first_draw_decides_whether_and_the_second_how_many():
    draws = torch.tensor([[0.49, 0.0], [0.5, 0.0], [0.1, 0.5], [0.99, 0.5]])
    assert mask_counts(100, (0.1, 0.5), 0.5, draws).tolist() == [10, 0, 30, 0]


def test_the_share_of_masked_samples():
    counts = mask_counts(16, (0.1, 0.5), 0.5, torch.rand(20_000, 2))
    assert (counts > 0).float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert (mask_counts(16, (0.1, 0.5), 1.0, torch.rand(1000, 2)) > 0).all()


@given(st.integers(1, 400), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 99))
def test_counts_lie_between_the_ends(n, one, other, seed):
    low, high = sorted((one, other))
    counts = mask_counts(n, (low, high), 1.0, torch.rand(20, 2, generator=torch.Generator().manual_seed(seed)))
    assert counts.min() >= max(1, int(low * n)) and counts.max() <= max(1, int(high * n + 1e-6))


# Which ---------------------------------------------------------------------------------------------------------------


def test_the_highest_are_hidden():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.3], [4.0, 3.0, 2.0, 1.0]])
    assert hide_highest(scores, torch.tensor([2, 1])).int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
    assert hide_highest(-scores, torch.tensor([2, 1])).int().tolist() == [[1, 0, 0, 1], [0, 0, 0, 1]]


def test_ties_go_to_the_earlier_patch():
    scores = torch.tensor([[1.0, 2.0, 1.0, 2.0, 1.0]])
    assert hide_highest(scores, torch.tensor([3])).int().tolist() == [[1, 1, 0, 1, 0]]
    assert hide_highest(torch.zeros(1, 5), torch.tensor([2])).int().tolist() == [[1, 1, 0, 0, 0]]


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_counts_are_exact_and_no_shown_patch_beats_a_hidden_one(n, b, seed, coarse):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(b, n, generator=draw)
    scores = (3 * scores).round() if coarse else scores  # many ties
    counts = torch.randint(0, n + 1, (b,), generator=draw)
    mask = hide_highest(scores, counts)
    assert (mask.sum(dim=1) == counts).all()
    for row, hidden in zip(scores, mask, strict=True):
        if hidden.any() and not hidden.all():
            assert row[hidden].min() >= row[~hidden].max()


# Blocks --------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 14), st.lists(st.floats(0, 1), min_size=1, max_size=5), st.integers(0, 99))
def test_blocks_hide_the_exact_count(side, shares, seed):
    counts = torch.tensor([int(share * side**2) for share in shares])
    mask = hide_blocks(side, counts, torch.Generator().manual_seed(seed))
    assert mask.shape == (len(shares), side**2)
    assert (mask.sum(dim=1) == counts).all()


def adjacent_pairs(mask: torch.Tensor, side: int) -> float:
    """How many pairs of hidden neighbours a mask has on average."""
    square = mask.reshape(-1, side, side)
    across, down = square[:, :, 1:] & square[:, :, :-1], square[:, 1:] & square[:, :-1]
    return ((across.sum() + down.sum()) / len(square)).item()


def test_blocks_hang_together():
    side, counts = 12, torch.full((200,), 43)
    blocks = hide_blocks(side, counts, torch.Generator().manual_seed(0))
    scattered = hide_highest(torch.rand(200, side**2), counts)
    # 43 of 144 patches at random share 264 · (43/144)² ≈ 23 borders; one compact block of 43 has about 73.
    assert adjacent_pairs(scattered, side) == pytest.approx(23, abs=2)
    assert adjacent_pairs(blocks, side) > 45


def test_the_same_generator_draws_the_same_blocks():
    one, two = (hide_blocks(8, torch.tensor([20, 3]), torch.Generator().manual_seed(5)) for _ in range(2))
    assert (one == two).all()
    assert (one != hide_blocks(8, torch.tensor([20, 3]), torch.Generator().manual_seed(6))).any()


# Relevance -----------------------------------------------------------------------------------------------------------


def test_cross_relevance_equals_a_loop():
    layers, b, h, tokens, n = 2, 3, 4, 5, 6
    weights = torch.rand(layers, b, h, tokens, n)
    content = torch.tensor([[0, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 1, 0, 0, 0]]).bool()
    naive = torch.zeros(b, n)
    for i in range(b):
        places = [j for j in range(tokens) if content[i, j]]
        for patch in range(n):
            seen = [weights[layer, i, head, j, patch] for layer in range(layers) for head in range(h) for j in places]
            naive[i, patch] = sum(seen) / len(seen)
    torch.testing.assert_close(cross_relevance(weights, content), naive)


def test_a_caption_without_words_is_relevant_to_nothing():
    assert (cross_relevance(torch.rand(1, 1, 2, 3, 4), torch.zeros(1, 3, dtype=torch.bool)) == 0).all()


def test_query_relevance_equals_a_loop():
    b, h, n, c = 2, 3, 5, 4
    query, keys = torch.randn(b, h, 1, c), torch.randn(b, h, n, c)
    naive = torch.zeros(b, n)
    for i in range(b):
        for head in range(h):
            naive[i] += torch.tensor([(query[i, head, 0] @ keys[i, head, j]) / 2 for j in range(n)]).softmax(0) / h
    relevance = query_relevance(query, keys)
    torch.testing.assert_close(relevance, naive)
    torch.testing.assert_close(relevance.sum(dim=1), torch.ones(b))  # a distribution over the patches


def test_itc_relevance_is_a_cosine():
    patches, text = torch.randn(2, 5, 8), torch.randn(2, 8)
    expected = torch.stack([torch.cosine_similarity(patches[i], text[i][None], dim=1) for i in range(2)])
    torch.testing.assert_close(itc_relevance(patches, text), expected)
    torch.testing.assert_close(itc_relevance(9 * patches, text / 7), expected)
