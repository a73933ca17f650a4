r"""Time, memory and arithmetic of a piece of code, each measured in the way that can be trusted.

    seconds   median of repeated runs; all candidates take turns, so that a slow minute of the machine hits them all
    memory    bytes of tensors alive at once, beyond those that were there before
    FLOPs     multiplications and additions of matrix products, convolutions and attention, counted as they are called

Memory on CUDA is the allocator's own peak. A CPU has no such counter, and the size of the process says little: it keeps what it
has freed. So there every tensor is followed from the operation that makes it until its storage is freed.
"""

import statistics
import time
import weakref
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

Candidate = Callable[[], object]
MEMORY_IS = {
    "cuda": "peak of torch.cuda.max_memory_allocated beyond what was allocated before",
    "cpu": "tensors alive at once beyond those before, followed operation by operation; workspace inside kernels is not seen",
}


def wait(device: torch.device) -> None:
    """A GPU works behind the program's back: a clock read before it is done measures nothing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def median_seconds(candidates: dict[str, Candidate], device: torch.device, repeats: int = 3, warm_up: int = 1) -> dict[str, float]:
    """Median wall-clock seconds of each candidate: `warm_up` rounds unmeasured, then `repeats` rounds in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for lap in range(warm_up + repeats):
        for name, candidate in candidates.items():
            wait(device)
            began = time.perf_counter()
            candidate()
            wait(device)
            if lap >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(laps) for name, laps in seconds.items()}


def peak_bytes(candidate: Candidate, device: torch.device) -> int:
    """Most bytes of tensors that are alive at once while `candidate` runs, without those alive before. See `MEMORY_IS`."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        candidate()
        return torch.cuda.max_memory_allocated(device) - before
    with _Following() as following:
        candidate()
    return following.peak


class _Following(TorchDispatchMode):
    """Adds up the storages that operations make, and takes each off when it is freed. Views share a storage and count once."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self._seen: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        arguments = tree_leaves((args, kwargs))
        known = {id(x.untyped_storage()) for x in arguments if _is_plain(x)}
        result = function(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            # What comes back in the storage of an argument was made elsewhere: a view, or an update in place.
            if _is_plain(x) and id(x.untyped_storage()) not in known:
                self._follow(x.untyped_storage())
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._seen:
            return
        self._seen[key] = weakref.ref(storage, lambda _: self._freed(key, size))
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def _freed(self, key: int, size: int) -> None:
        self._seen.pop(key, None)
        self.alive -= size


def _is_plain(x: object) -> bool:
    return isinstance(x, torch.Tensor) and x.layout == torch.strided and x.device.type == "cpu"


def flops(candidate: Candidate) -> int:
    """Floating-point operations of the matrix products, convolutions and attention in `candidate`, backward included.

    What torch's counter counts; of fused attention on a CPU, which it passes over, by its own formulas.
    """
    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v),
    }
    with FlopCounterMode(display=False, custom_mapping=attention) as counter:
        candidate()
    return counter.get_total_flops()


def matrix_product_rate(device: torch.device, dtype: torch.dtype, repeats: int = 5) -> float:
    """FLOP/s of one large square matrix product: what this machine does when nothing is in its way."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = median_seconds({"product": lambda: left @ right}, device, repeats)["product"]
    return 2 * side**3 / seconds
