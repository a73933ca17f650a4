r"""How the networks of a run are spread over its processes.

| `run.parallel` | a process holds | travels at each step | for models that |
| --- | --- | --- | --- |
| `ddp`  | 16 bytes a trained weight: itself, its gradient, AdamW's two averages; 4 for the teacher's copy | gradients | fit |
| `fsdp` | 1/N of all these, and one transformer layer in full while it computes | layers, twice, and gradients | do not |

    fsdp      rows of a weight          one layer in use              its gradient
    process 0 ▒▒▒▒                ─►    ▒▒▒▒▓▓▓▓   gathered,    ─►    ▒▒▒▒   summed over processes,
    process 1     ▓▓▓▓                  ▒▒▒▒▓▓▓▓   then dropped           ▓▓▓▓   each keeps its rows

Both compute what one process would [C], so a run may be resumed with another number of processes and with the other setting: files
always hold whole tensors. One process alone has nothing to spread; `fsdp` is `ddp` there.

The teacher is spread like the student, row by row the same, so that each process averages its own rows and nothing travels. What is
no transformer layer (embeddings, heads, encoding space) forms one last unit that stays gathered during the step.

The step is one forward pass for FSDP; whatever else reads weights (validation, k-means, the report) is given a whole copy instead.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedType
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from transformers.models.bert.modeling_bert import BertLayer

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.model.layers import Layer
from semmim_mini.model.semmim import SemMIM
from semmim_mini.training import checkpoint, processes
from semmim_mini.training.jobs import PairsJob
from semmim_mini.training.optimizer import build_optimizer
from semmim_mini.training.schedules import Plan
from semmim_mini.training.startup import falls_due
from semmim_mini.training.step import StepOutput


def join_processes(precision: str) -> Accelerator:
    """The group of processes that this one was started in, with its device; a group of one where it was started alone."""
    AcceleratorState._reset_state()  # else a second run in one process (a notebook) could not choose another precision
    return Accelerator(
        # Said outright, because several processes without a GPU would otherwise train side by side, each alone.
        cpu=not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        mixed_precision="no" if precision == "fp32" else precision,
        # Terms join during a run, so the set of parameters that receive gradients changes.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)],
    )


class Replicated:
    """Every process holds all weights; gradients are averaged. With one process, plain PyTorch."""

    def __init__(self, accelerator: Accelerator, job: PairsJob):
        self.accelerator, self.job, self.model = accelerator, job, job.model
        self.wrapped, self.optimizer = accelerator.prepare(job.step, build_optimizer(self.model, self.model.config.optim))

    @property
    def adamw(self) -> torch.optim.Optimizer:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def prepare(self, batch, step: int) -> None:
        """What falls due before a step."""
        self.job.prepare(batch, step)

    def losses(self, batch, plan: Plan, seed: int) -> StepOutput:
        return self.wrapped(batch, plan, seed)

    def apart(self) -> AbstractContextManager:
        """A backward pass whose gradients stay here: they travel with those of the last micro-batch."""
        return self.accelerator.no_sync(self.wrapped)

    def clip(self, limit: float) -> float:
        """Shrink the gradients to norm `limit` where it is greater; returns the norm before."""
        return float(self.accelerator.clip_grad_norm_([p for _, p in self.model.trainable()], limit))

    def update_teacher(self, momentum: float) -> None:
        self.model.update_teacher(momentum)

    def tensors(self) -> tuple[dict, dict]:
        """Weights and AdamW's state by name, for a checkpoint; empty but on the main process. All processes must ask."""
        if not self.accelerator.is_main_process:
            return {}, {}
        return checkpoint.weights(self.model), checkpoint.optimizer_tensors(self.model, self.adamw)

    def looking(self) -> AbstractContextManager:
        """While open, the job's model is whole, for whatever is no training step."""
        return nullcontext()

    def finished(self, folder: Path) -> SemMIM:
        """The model as the run in `folder` leaves it."""
        return self.model


class Sharded(Replicated):
    """Every process holds its rows of all weights, gradients and averages, by PyTorch's FSDP (`fully_shard`).

    Scalars (ITC's temperature, gates) cannot be split: every process holds them, and their gradients are averaged here.

    Raises:
        UserError: fp16, whose loss scaling would have to look at split and whole gradients at once.
    """

    def __init__(self, accelerator: Accelerator, job: PairsJob):
        if accelerator.mixed_precision == "fp16":
            raise UserError("run.parallel=fsdp computes in bf16 or fp32, not in fp16; set run.precision=bf16, or run.parallel=ddp")
        self.accelerator, self.job, self.model, self.step = accelerator, job, job.model, job.step
        shard(self.step, self.model)
        self.optimizer = build_optimizer(self.model, self.model.config.optim)
        _split_groups(self.optimizer)

    def prepare(self, batch, step: int) -> None:
        if falls_due(self.model.config, step):
            with self.looking() as copy:
                self.job.prepare(batch, step)
                _fill(self.model, copy)

    def losses(self, batch, plan: Plan, seed: int) -> StepOutput:
        with self.accelerator.autocast():
            return self.step(batch, plan, seed)

    def apart(self) -> AbstractContextManager:
        return nullcontext()  # keeping gradients here until the last micro-batch would take the memory that was to be saved

    def clip(self, limit: float) -> float:
        trained = [p for _, p in self.model.trainable() if p.grad is not None]
        for parameter in trained:
            if not processes.is_spread(parameter):
                parameter.grad = processes.average(parameter.grad)
        norm = _norm([p.grad for p in trained])
        if norm > limit:
            torch._foreach_mul_([processes.own_rows(p.grad) for p in trained], float(limit / (norm + 1e-6)))
        return float(norm)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        teacher, student = ([processes.own_rows(p) for p in part.parameters()] for part in (self.model.teacher, self.model.student))
        torch._foreach_lerp_(teacher, student, 1 - momentum)

    def tensors(self) -> tuple[dict, dict]:
        found = checkpoint.weights(self.model), checkpoint.optimizer_tensors(self.model, self.adamw)  # all processes take part
        return found if self.accelerator.is_main_process else ({}, {})

    @contextmanager
    def looking(self) -> Iterator[SemMIM]:
        copy = self._empty_copy()
        copy.load_state_dict({name: processes.whole(x) for name, x in self.model.state_dict().items()})
        self.job.model = copy.train(self.model.training)
        try:
            yield copy
        finally:
            self.job.model = self.model

    def finished(self, folder: Path) -> SemMIM:
        if not self.accelerator.is_main_process:
            return self.model
        copy = self._empty_copy()
        checkpoint.load_weights(copy, checkpoint.find(folder))  # the last step is always saved
        return copy

    def _empty_copy(self) -> SemMIM:
        return SemMIM(self.model.config, len(self.job.tokenizer)).to(self.accelerator.device)


def spread(config: Config, accelerator: Accelerator, job: PairsJob) -> Replicated:
    """The networks of `job`, on their device and with their weights, as `run.parallel` wants them spread.

    Raises:
        UserError: started with a configuration of accelerate that splits or offloads by itself.
    """
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise UserError(
            f"accelerate's configuration asks for {kind.value}; set distributed_type: MULTI_GPU there, and run.parallel=fsdp here"
        )
    return (Sharded if config.run.parallel == "fsdp" and processes.world() > 1 else Replicated)(accelerator, job)


def shard(step: nn.Module, model: SemMIM) -> None:
    """Split the weights of `model` over all processes, transformer layers first, then the rest as one unit whose forward is `step`'s."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(model.parameters()).device.type, (processes.world(),))
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    for part in (*units(model), step):
        fully_shard(part, mesh=mesh, ignored_params=scalars)


def units(model: SemMIM) -> list[nn.Module]:
    """The transformer layers that are split each on its own: all that are only ever used as a whole.

    Two scores of masks look inside layers of the teacher (`masking.strategy=attention`, `masking.relevance=query`); those layers
    stay with the rest, gathered during the step.
    """
    masking, image = model.config.masking, model.teacher.image
    inspected = []
    if masking.strategy == "attention":
        inspected.append(image.layers[-1])
    if masking.relevance == "query":
        inspected.append(image.layers[model.config.image.inject_from])
    return [part for part in model.modules() if isinstance(part, Layer | BertLayer) and all(part is not layer for layer in inspected)]


def _split_groups(optimizer: torch.optim.Optimizer) -> None:
    """Scalars into groups of their own: one fused call takes tensors that are all spread, or none."""
    for group in list(optimizer.param_groups):
        scalars = [p for p in group["params"] if not processes.is_spread(p)]
        if scalars:
            group["params"] = [p for p in group["params"] if processes.is_spread(p)]
            optimizer.add_param_group({**group, "params": scalars})


def _norm(gradients: list[torch.Tensor]) -> torch.Tensor:
    """Of all gradients as one vector: the rows that are spread are summed over processes, the others counted once."""
    squares = [torch.zeros(2, device=gradients[0].device)]
    for gradient in gradients:
        square = processes.own_rows(gradient).float().square().sum()
        squares.append(torch.stack([square, square.new_zeros(())] if processes.is_spread(gradient) else [square.new_zeros(()), square]))
    spread_rows, scalars = torch.stack(squares).sum(dim=0)
    return (processes.total(spread_rows) + scalars).sqrt()


def _fill(model: SemMIM, copy: SemMIM) -> None:
    """Write what a whole copy holds back into the rows of `model`."""
    values = copy.state_dict()
    with torch.no_grad():
        for name, x in model.state_dict().items():
            processes.own_rows(x).copy_(processes.own_rows(processes.spread_like(values[name], x)))
