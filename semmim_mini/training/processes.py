r"""One process or many: the few collective operations a step needs, each the identity when there is one process.

Equality with one process at the same global batch rests on three rules:
- every process computes the rows of the loss for its own slice of the batch, against keys gathered from all;
- a mean over a varying number of rows (masked patches, masked words) divides by the count of *all* processes;
- random numbers are drawn for the global batch and sliced, never drawn per process.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if world() > 1 else 0


def total(x: Tensor) -> Tensor:
    """Sum over processes; no gradient."""
    if world() == 1:
        return x
    x = x.detach().clone()
    dist.all_reduce(x)
    return x


class _Gather(torch.autograd.Function):
    """all_gather that lets gradients back: each process receives the sum of all processes' gradients for its own rows."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(world())[rank()]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes, in rank order, with gradients. Every process must bring the same shape."""
    return _Gather.apply(x) if world() > 1 else x


def gather_padded(x: Tensor, dim: int = 1) -> Tensor:
    """As `gather`, for tensors whose `dim` differs between processes: padded with zeros to the longest."""
    if world() == 1:
        return x
    longest = torch.tensor(x.shape[dim], device=x.device)
    dist.all_reduce(longest, op=dist.ReduceOp.MAX)
    shape = list(x.shape)
    shape[dim] = int(longest) - x.shape[dim]
    return gather(torch.cat([x, x.new_zeros(shape)], dim=dim))


def common_mean(values: Tensor) -> Tensor:
    """Mean of the rows of all processes, as this process's share of it.

    Data-parallel training averages gradients over processes. A mean over local rows would weigh a row more where rows are few;
    dividing by the common count, times the number of processes, makes that average equal the mean over all rows.
    """
    count = total(torch.tensor(float(len(values)), device=values.device)).clamp_min(1)
    return values.sum() * world() / count


def average(x: Tensor) -> Tensor:
    """Mean over processes; no gradient. For logging."""
    return total(x) / world()


def own_slice(x: Tensor) -> Tensor:
    """This process's rows of a tensor that covers the global batch."""
    return x.chunk(world())[rank()]


# Tensors whose rows are spread over the processes (`run.parallel=fsdp`) ------------------------------------------------


def is_spread(x: Tensor) -> bool:
    """Whether each process holds some rows only: PyTorch's DTensor, which no run of one process has to import."""
    return hasattr(x, "full_tensor")


def own_rows(x: Tensor) -> Tensor:
    """What this process holds of a tensor, sharing its memory: its share if the tensor is spread, else all; no gradient."""
    return x.detach().to_local() if is_spread(x) else x.detach()


def whole(x: Tensor) -> Tensor:
    """All rows of a tensor, on every process, all of which must ask; no gradient."""
    return x.detach().full_tensor() if is_spread(x) else x.detach()


def spread_like(value: Tensor, model: Tensor) -> Tensor:
    """A tensor that all processes hold, on the device of `model` and spread as `model` is."""
    value = value.to(model.device)
    if not is_spread(model):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, model.device_mesh, model.placements)
