"""The loss in chunks against the loss with all logits at once: values, gradients, and what is kept between forward and backward."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.bench.meters import peak_bytes
from semmim_mini.objectives.code_loss_in_chunks import code_loss_in_chunks
from semmim_mini.objectives.masked_image import code_loss


def inputs(m: int, k: int, z: int, seed: int = 0, dtype=torch.float32):
    draw = torch.Generator().manual_seed(seed)
    directions, prototypes = (F.normalize(torch.randn(n, z, generator=draw, dtype=dtype), dim=-1) for n in (m, k))
    target = (torch.randn(m, k, generator=draw, dtype=dtype) / 0.3).softmax(dim=-1)
    return directions.requires_grad_(), prototypes.requires_grad_(), target


def gradients(loss, *of):
    return torch.autograd.grad(loss, of)


def test_by_hand():
    # Cosines 1 and 0, so softmax(x/τ) with τ = 1/ln 3 is (3/4, 1/4); the target is sure of the second.
    east, target = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([[0.0, 1.0]])
    prototypes, temperature = torch.eye(2), 1 / math.log(3)
    loss = code_loss_in_chunks(east, prototypes, target, temperature)
    assert loss.item() == pytest.approx(math.log(4), rel=1e-6)
    (gradient,) = gradients(loss, east)
    torch.testing.assert_close(gradient, torch.tensor([[3 / 4, -3 / 4]]) * math.log(3))


@given(m=st.integers(1, 9), k=st.integers(1, 7), rows=st.integers(1, 10), temperature=st.floats(0.05, 1), seed=st.integers(0, 99))
def test_equals_all_logits_at_once(m, k, rows, temperature, seed):
    directions, prototypes, target = inputs(m, k, 5, seed, torch.float64)
    whole = code_loss(directions @ prototypes.T, target.float(), temperature)
    chunks = code_loss_in_chunks(directions.float(), prototypes.float(), target.float(), temperature, chunk=rows * k)
    torch.testing.assert_close(chunks, whole.float(), atol=2e-5, rtol=1e-5)
    for ours, theirs in zip(gradients(3 * chunks, directions, prototypes), gradients(3 * whole, directions, prototypes), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_chunk_smaller_than_a_row_takes_one_row():
    directions, prototypes, target = inputs(3, 6, 4)
    torch.testing.assert_close(
        code_loss_in_chunks(directions, prototypes, target, chunk=1), code_loss_in_chunks(directions, prototypes, target)
    )


def test_no_masked_patch_costs_nothing_and_still_goes_back():
    directions, prototypes, target = inputs(0, 6, 4)
    loss = code_loss_in_chunks(directions, prototypes, target)
    assert loss.item() == 0
    assert [g.shape for g in gradients(loss, directions, prototypes)] == [(0, 4), (6, 4)]
    assert gradients(code_loss_in_chunks(directions, prototypes, target), prototypes)[0].abs().sum() == 0


def test_the_mean_of_several_processes_is_asked_once():
    directions, prototypes, target = inputs(4, 6, 4)
    asked = []

    def halved(rows):
        asked.append(len(rows))
        return rows.sum() / 8

    half = code_loss_in_chunks(directions, prototypes, target, mean=halved, chunk=6)
    torch.testing.assert_close(2 * half, code_loss_in_chunks(directions, prototypes, target))
    assert asked == [4]


def test_autocast_leaves_it_in_fp32():
    directions, prototypes, target = inputs(5, 6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        low = code_loss_in_chunks(directions, prototypes, target)
    assert low.dtype == torch.float32 and low.equal(code_loss_in_chunks(directions, prototypes, target))


def test_without_gradients_none_are_made():
    directions, prototypes, target = inputs(4, 64, 512)

    def peak() -> int:
        return peak_bytes(lambda: code_loss_in_chunks(directions, prototypes, target), torch.device("cpu"))

    with torch.no_grad():
        looking = peak()
    assert peak() - looking > 4 * prototypes.numel()


def kept_bytes(call) -> int:
    """What autograd keeps for backward, each storage once."""
    kept = {}

    def note(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        call()
    return sum(kept.values())


def test_logits_are_not_kept_for_backward():
    m, k, z = 60, 512, 8
    directions, prototypes, target = inputs(m, k, z)
    chunked = kept_bytes(lambda: code_loss_in_chunks(directions, prototypes, target))
    assert chunked <= 4 * (m * z + k * z) + 64
    assert kept_bytes(lambda: code_loss(directions @ prototypes.T, target)) > 2 * 4 * m * k


def test_the_peak_does_not_grow_with_the_patches_but_for_their_directions():
    k, z, chunk = 512, 8, 512 * 8

    def peak(m: int) -> int:
        directions, prototypes, target = inputs(m, k, z)
        return peak_bytes(lambda: code_loss_in_chunks(directions, prototypes, target, chunk=chunk).backward(), torch.device("cpu"))

    assert peak(256) - peak(64) <= 3 * 4 * z * (256 - 64)
