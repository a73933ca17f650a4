r"""What a GPU can hold and compute, from its vendor's data sheet.

Peaks are dense (data sheets often print twice as much, for sparse matrices) and of the SXM form where there are several. `half` is
bf16 with sums in fp32, fp16 where a GPU has no bf16. `fp32` is without TF32, which PyTorch does not use unless told to.
"""

from dataclasses import dataclass

from semmim_mini.errors import UserError

TERA = 1e12


@dataclass(frozen=True)
class Gpu:
    """One kind of GPU."""

    memory: float  # GiB
    half: float  # FLOP/s of matrix products in 16 bit
    fp32: float  # FLOP/s
    source: str
    precision: str = "bf16"  # what `run.precision=auto` takes on it

    def peak(self, precision: str) -> float:
        return self.fp32 if precision == "fp32" else self.half


GPUS = {
    "t4": Gpu(16, 65 * TERA, 8.1 * TERA, "NVIDIA T4 data sheet", "fp16"),
    "v100-32g": Gpu(32, 125 * TERA, 15.7 * TERA, "NVIDIA V100 data sheet, SXM2", "fp16"),
    "a100-40g": Gpu(40, 312 * TERA, 19.5 * TERA, "NVIDIA A100 data sheet"),
    "a100-80g": Gpu(80, 312 * TERA, 19.5 * TERA, "NVIDIA A100 data sheet"),
    "l4": Gpu(24, 121 * TERA, 30.3 * TERA, "NVIDIA L4 data sheet"),
    "rtx4090": Gpu(24, 165.2 * TERA, 82.6 * TERA, "NVIDIA Ada GPU architecture whitepaper"),
    "l40s": Gpu(48, 362 * TERA, 91.6 * TERA, "NVIDIA L40S data sheet"),
    "h100-80g": Gpu(80, 989 * TERA, 67 * TERA, "NVIDIA H100 data sheet, SXM"),
    "h200": Gpu(141, 989 * TERA, 67 * TERA, "NVIDIA H200 data sheet, SXM"),
}


def gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        UserError: it is not in the table.
    """
    if name not in GPUS:
        raise UserError(f"--gpu {name!r} is not known; choose one of {', '.join(GPUS)}")
    return GPUS[name]
