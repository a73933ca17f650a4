"""Precision: what `auto` chooses where, and that it says why."""

import pytest
import torch

from semmim_mini.errors import UserError
from semmim_mini.training.precision import choose_precision
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep


@pytest.mark.parametrize(
    ("device", "bf16", "choice"),
    [("cpu", False, "fp32"), ("mps", False, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp16")],
)
def test_auto_follows_the_device(monkeypatch, device, bf16, choice):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *args, **kwargs: bf16)
    precision, reason = choose_precision("auto", device)
    assert precision == choice and len(reason.split()) > 3


@pytest.mark.parametrize(("wanted", "device"), [("fp32", "cuda"), ("bf16", "cpu"), ("fp16", "cuda")])
def test_what_was_set_is_kept(wanted, device):
    assert choose_precision(wanted, device) == (wanted, "as set")


def test_fp16_without_a_gpu_is_refused_with_the_remedy():
    with pytest.raises(UserError, match=r"run.precision='fp16' needs a GPU; use fp32"):
        choose_precision("fp16", "cpu")


@pytest.mark.parametrize("settings", [(), ("teacher.balance=center", "image.isolation=mask", "losses.student_passes=two")])
def test_bf16_is_near_fp32(make_model, make_batch, settings):
    # Random masks and negatives: those that a score chooses may differ in one patch, and with it the loss.
    model = make_model("data.batch_size=8", "masking.strategy=random", "losses.hard_negatives=1.0", *settings)
    found = []
    for enabled in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = SemMIMStep(model)(make_batch(model.config), plan_at(model.config, 300), 5)
        sum(out.losses.values()).backward()
        gradient = torch.cat([p.grad.flatten() for _, p in model.trainable() if p.grad is not None])
        found.append(({name: loss.item() for name, loss in out.losses.items()}, gradient))
    (exact, exact_gradient), (losses, gradient) = found
    assert len(losses) == 6 and losses != exact
    assert losses == pytest.approx(exact, rel=1e-2)
    assert torch.nn.functional.cosine_similarity(gradient, exact_gradient, dim=0) > 0.99
    assert (gradient.norm() / exact_gradient.norm()).item() == pytest.approx(1, abs=0.05)
