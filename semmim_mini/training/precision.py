r"""Device and precision of a run, with the reason, because "auto" should never be a mystery.

bf16 keeps fp32's range and needs no loss scaling; fp16 has more digits and overflows at 65,504, so gradients are scaled. On
processors without fast 16-bit arithmetic autocast is many times slower than fp32; on those with it (AVX512-BF16, AMX) bf16 nearly
halves a step of `mini`, and is worth setting. Under autocast, what must stay in fp32 does: softmax, log-softmax, norms, temperatures,
centres and losses (see `objectives/`, `model/encoding_space.py`).
"""

import torch

from semmim_mini.errors import UserError


def choose_precision(wanted: str, device: str) -> tuple[str, str]:
    """(precision, reason) for `auto`, or a check of what was asked for."""
    if wanted != "auto":
        if wanted == "fp16" and device == "cpu":
            raise UserError("run.precision='fp16' needs a GPU; use fp32 or auto on a CPU")
        return wanted, "as set"
    if device != "cuda":
        return "fp32", f"{device}: 16-bit autocast is slower than fp32 on most processors"
    if torch.cuda.is_bf16_supported():
        return "bf16", "this GPU computes in bf16, which needs no loss scaling"
    return "fp16", "this GPU has no bf16; gradients are scaled against fp16's narrow range"
