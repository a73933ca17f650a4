"""Targets: centring by hand, Sinkhorn–Knopp against a naive twin and in the corners where it could divide by zero."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.objectives.targets import centred_targets, sinkhorn_targets, update_center


def test_centring_by_hand():
    # (t − c)/τ = (ln 3, 0) → (3/4, 1/4).
    target = centred_targets(torch.tensor([[1 + 0.5 * math.log(3), 2.0]]), torch.tensor([1.0, 2.0]), 0.5)
    torch.testing.assert_close(target, torch.tensor([[0.75, 0.25]]))


def test_a_teacher_equal_to_its_centre_says_nothing():
    logits = torch.randn(4)
    torch.testing.assert_close(centred_targets(logits.expand(3, 4), logits, 0.04), torch.full((3, 4), 0.25))


def test_the_centre_moves_a_tenth_of_the_way():
    torch.testing.assert_close(update_center(torch.zeros(4), torch.ones(4), momentum=0.9), torch.full((4,), 0.1))


def test_targets_carry_no_gradient():
    logits = torch.randn(3, 4, requires_grad=True)
    assert not centred_targets(logits, torch.zeros(4), 0.1).requires_grad
    assert not sinkhorn_targets(logits, 0.1).requires_grad


def naive_sinkhorn(logits: torch.Tensor, temperature: float, iterations: int) -> torch.Tensor:
    """Columns to one, rows to one, in turn, in double precision."""
    q = (logits.double() / temperature).softmax(dim=1)
    for _ in range(iterations):
        for j in range(q.shape[1]):
            q[:, j] = q[:, j] / q[:, j].sum()
        for i in range(q.shape[0]):
            q[i] = q[i] / q[i].sum()
    return q


def cosines(rows: int, k: int, seed: int) -> torch.Tensor:
    """Logits as the encoding space gives them, in [−1, 1]."""
    return 2 * torch.rand(rows, k, generator=torch.Generator().manual_seed(seed)) - 1


@given(st.integers(1, 12), st.integers(2, 9), st.integers(1, 5), st.sampled_from([0.1, 0.3, 1.0]), st.integers(0, 99))
def test_equals_the_naive_twin(rows, k, iterations, temperature, seed):
    logits = cosines(rows, k, seed)
    ours = sinkhorn_targets(logits, temperature, iterations)
    torch.testing.assert_close(ours.double(), naive_sinkhorn(logits, temperature, iterations), atol=1e-5, rtol=1e-4)


@given(st.integers(1, 40), st.integers(2, 20), st.sampled_from([0.04, 0.07, 0.5]), st.integers(0, 99))
def test_every_row_is_a_distribution(rows, k, temperature, seed):
    target = sinkhorn_targets(cosines(rows, k, seed), temperature)
    torch.testing.assert_close(target.sum(dim=1), torch.ones(rows))
    assert (target >= 0).all()


def test_every_column_gets_its_share():
    # 400 rows all lean towards prototype 0; balanced, each of the 8 still gets about 50.
    logits = cosines(400, 8, seed=3) * 0.3
    logits[:, 0] += 0.5
    before = (logits / 0.1).softmax(dim=1).sum(dim=0)
    after = sinkhorn_targets(logits, 0.1, iterations=20).sum(dim=0)
    assert before[0] > 250
    torch.testing.assert_close(after, torch.full((8,), 50.0), atol=0.5, rtol=0)


def test_the_fixed_point_is_the_one_of_plain_exponentials():
    # SwAV starts from exp(logits/τ) and not from softmax rows: a row scaling, which the iterations forget.
    logits = cosines(12, 5, seed=1)
    plain = (logits.double() / 0.3).exp()
    for _ in range(200):
        plain = plain / plain.sum(dim=0)
        plain = plain / plain.sum(dim=1, keepdim=True)
    torch.testing.assert_close(sinkhorn_targets(logits, 0.3, iterations=200).double(), plain, atol=1e-5, rtol=1e-4)


def test_equal_logits_give_uniform_codes():
    torch.testing.assert_close(sinkhorn_targets(torch.full((6, 4), 0.7), 0.04), torch.full((6, 4), 0.25))


def test_one_prototype_at_cosine_one_for_everybody_is_shared_out():
    # e^(−2/0.04) is 1e−22, near nothing, and still enough to balance from.
    logits = torch.full((8, 4), -1.0)
    logits[:, 0] = 1.0
    torch.testing.assert_close(sinkhorn_targets(logits, 0.04), torch.full((8, 4), 0.25))


@pytest.mark.parametrize("high", [1e3, 1e5])
def test_a_column_beyond_fp32_gives_no_nan(high):
    logits = torch.zeros(8, 4)
    logits[:, 2] = high
    target = sinkhorn_targets(logits, 0.04)
    assert target.isfinite().all()
    torch.testing.assert_close(target.sum(dim=1), torch.ones(8))


def test_a_single_row_is_spread_evenly():
    # One row that must use all prototypes equally can say nothing: why [CLS] borrows older rows from its queue.
    torch.testing.assert_close(sinkhorn_targets(cosines(1, 5, seed=0), 0.3), torch.full((1, 5), 0.2))


def test_processes_balance_their_common_batch():
    # Two parts, each told the column sums of both, must get the rows of the whole. The sums are those of the whole.
    logits, sums = cosines(6, 4, seed=2), []
    whole = sinkhorn_targets(logits, 0.1, total=lambda column: sums.append(column) or column)
    for half, rows in ((0, slice(0, 2)), (1, slice(2, 6))):
        replay = iter(sums)
        part = sinkhorn_targets(logits[rows], 0.1, total=lambda column, replay=replay: next(replay))
        torch.testing.assert_close(part, whole[rows], msg=f"half {half}")


def test_no_rows_are_no_error():
    assert sinkhorn_targets(torch.zeros(0, 4), 0.04).shape == (0, 4)
