"""Precision: what `auto` chooses where, and that it says why."""

import pytest
import torch

from semmim_mini.errors import UserError
from semmim_mini.training.precision import choose_precision


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
