"""16 bits on a GPU: losses and gradients near those of fp32, what must be fp32 is, and fp16's scaler does its work."""

import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from semmim_mini.training.optimizer import build_optimizer
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep

pytestmark = pytest.mark.gpu

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
NEAR = {"bf16": 3e-2, "fp16": 1e-2}  # of a loss; on a CPU bf16 was 3e-3 off


def losses_and_gradient(model, batch, dtype: torch.dtype | None):
    """Losses of all terms, and the gradient of their sum as one vector."""
    model.zero_grad()
    with torch.autocast("cuda", dtype, enabled=dtype is not None):
        out = SemMIMStep(model)(batch, plan_at(model.config, 300), 5)
    sum(out.losses.values()).backward()
    return out.losses, torch.cat([p.grad.flatten() for _, p in model.trainable() if p.grad is not None])


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("settings", [(), ("teacher.balance=center", "image.isolation=mask", "losses.student_passes=two")])
def test_losses_and_gradients_are_those_of_fp32(on_gpu, precision, settings):
    # Random masks and negatives: those that a score chooses may differ in one patch, and with it the loss.
    model, batch = on_gpu("masking.strategy=random", "losses.hard_negatives=1.0", *settings)
    exact, exact_gradient = losses_and_gradient(model, batch, None)
    losses, gradient = losses_and_gradient(model, batch, DTYPES[precision])
    assert losses.keys() == exact.keys() and len(losses) == 6
    for name, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact[name].item(), rel=NEAR[precision]), name
    cosine = torch.nn.functional.cosine_similarity(gradient, exact_gradient, dim=0).item()
    assert cosine > 0.98
    assert (gradient.norm() / exact_gradient.norm()).item() == pytest.approx(1, abs=0.1)


def test_a_gpu_agrees_with_the_cpu(on_gpu):
    model, batch = on_gpu("masking.strategy=random", "losses.hard_negatives=1.0")
    losses, _ = losses_and_gradient(model, batch, None)
    there = SemMIMStep(model.to("cpu"))(batch.to("cpu"), plan_at(model.config, 300), 5).losses
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(there[name].item(), rel=1e-3), name


@pytest.fixture
def scaled():
    """An accelerator that computes in fp16, and so scales gradients."""
    AcceleratorState._reset_state(True)
    yield Accelerator(mixed_precision="fp16")
    AcceleratorState._reset_state(True)


def test_the_scaler_leaves_out_a_step_whose_gradient_is_no_number(scaled, on_gpu):
    model, batch = on_gpu()
    step, optimizer = scaled.prepare(SemMIMStep(model), build_optimizer(model, model.config.optim))
    before, scale = {name: p.detach().clone() for name, p in model.trainable()}, scaled.scaler.get_scale()
    scaled.backward(sum(step(batch, plan_at(model.config, 300), 5).losses.values()))
    model.itm_head.weight.grad[0, 0] = math.inf
    optimizer.step()
    assert scaled.scaler.get_scale() < scale  # and the next step is scaled by less
    assert all(torch.equal(p, before[name]) for name, p in model.trainable())
    optimizer.zero_grad()
    for _ in range(12):  # the scale starts high, and falls until gradients fit into fp16
        scale = scaled.scaler.get_scale()
        scaled.backward(sum(step(batch, plan_at(model.config, 300), 5).losses.values()))
        norm = scaled.clip_grad_norm_([p for _, p in model.trainable()], 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if scaled.scaler.get_scale() == scale:
            break
    assert math.isfinite(norm) and not all(torch.equal(p, before[name]) for name, p in model.trainable())
    assert all(torch.isfinite(p).all() for p in model.parameters())
