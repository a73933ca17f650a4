r"""The parts of a training step, cut out so that each can run alone on the inputs it has in the step.

Every part is the step's own code (`training/step.py`) between tensors that are cut from the graph, so that its backward pass ends
where the part begins. The parts add up to about the full step: a little less, as cutting leaves out the glue between them, or a
little more, as each part fills the caches anew.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from semmim_mini.bench.meters import Candidate
from semmim_mini.config import Config
from semmim_mini.data.loader import Batch
from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.training.optimizer import build_optimizer
from semmim_mini.training.schedules import Plan, plan_at
from semmim_mini.training.step import SemMIMStep, StepOutput


@dataclass
class Workbench:
    """A model at the end of its schedule, with a batch, ready to run whole steps or parts of one.

    Args:
        config: of the model; its data source is not read here.
        vocab_size: of the tokenizer behind `batch`.
        batch: micro-batch at the configuration's resolution, on the device.
        precision: fp32, bf16 or fp16, as `training/precision.py` chose.
    """

    config: Config
    vocab_size: int
    batch: Batch
    precision: str = "fp32"

    def __post_init__(self):
        torch.manual_seed(0)
        self.device = self.batch.images.device
        self.model = SemMIM(self.config, self.vocab_size).to(self.device)
        self.step = SemMIMStep(self.model)
        self.wrapped: torch.nn.Module = self.step  # what a full step runs through; data-parallel training puts its wrapper here
        self.optimizer = build_optimizer(self.model, self.config.optim)
        self.plan = last_plan(self.config)
        fill_memory(self.model)
        self.update_with_all_gradients()  # AdamW makes its state at its first step; from here on a step needs what a step needs

    def full_step(self, plan: Plan | None = None) -> None:
        """What the loop does with one batch, without logging."""
        plan = plan or self.plan
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            out = self.wrapped(self.batch, plan, seed=0)
            total = sum(plan.weights[name] * loss for name, loss in out.losses.items())
        total.backward()
        self.update()
        self.model.update_teacher(plan.momentum)
        self.step.remember(out.remember)

    def update(self) -> None:
        torch.nn.utils.clip_grad_norm_([p for _, p in self.model.trainable()], self.config.optim.clip)
        self.optimizer.step()

    def update_with_all_gradients(self) -> None:
        """The optimiser alone. Zeros cost what gradients cost; parts that ran before have left only some of those."""
        if not hasattr(self, "zeros"):
            self.zeros = [(p, torch.zeros_like(p)) for _, p in self.model.trainable()]
        for parameter, zero in self.zeros:
            parameter.grad = zero
        self.update()
        self.optimizer.zero_grad(set_to_none=True)

    def autocast(self) -> torch.autocast:
        dtype = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")

    def standing_bytes(self) -> int:
        """Weights, teacher, queues and optimiser state: what is there before and after every step."""
        state = [x for values in self.optimizer.state.values() for x in values.values() if isinstance(x, Tensor)]
        return sum(x.numel() * x.element_size() for x in (*self.model.parameters(), *self.model.buffers(), *state))


def last_plan(config: Config) -> Plan:
    """The last step's plan: every term that the configuration uses is on."""
    return replace(plan_at(config, config.run.steps - 1), random_mask=False, prototypes_frozen=False)


@torch.no_grad()
def fill_memory(model: SemMIM) -> None:
    """Queues as full as after many steps; short ones would flatter the figures."""
    memory = model.memory
    image, text = (F.normalize(torch.randn_like(queue), dim=-1) for queue in (memory.image_queue, memory.text_queue))
    memory.add_pairs(image, text, torch.full_like(memory.id_queue, -1))
    memory.add_directions(F.normalize(torch.randn_like(memory.cls_queue), dim=-1))


def batch_like(batch: Batch, size: int, resolution: int) -> Batch:
    """A batch of other size and resolution with the same captions over and over; time and memory do not depend on what is shown."""
    rows = torch.arange(size, device=batch.images.device) % len(batch.image_ids)
    views = len(batch.images)
    pixels = rearrange(batch.images[:, rows], "v b c h w -> (v b) c h w")
    pixels = F.interpolate(pixels, size=(resolution, resolution), mode="bilinear", align_corners=False)
    return Batch(
        images=rearrange(pixels, "(v b) c h w -> v b c h w", v=views).contiguous(),
        image_ids=torch.arange(size, device=rows.device),
        captions=[batch.captions[i] for i in rows.tolist()],
        **{name: getattr(batch, name)[rows] for name in ("input_ids", "attention_mask", "mlm_ids", "mlm_labels")},
    )


def parts_of_a_step(bench: Workbench) -> dict[str, Candidate]:
    """The parts by name, in the order of a step; terms that are off have none."""
    step, plan, batch, student = bench.step, bench.plan, bench.batch, bench.model.student
    with torch.no_grad(), bench.autocast():
        teaching = step.teach(batch, plan)
        text, masked_text = step.read(batch, plan)
        clean = student.image(batch.images[0])
        similarity = step.contrast(clean, text, teaching, batch, plan, StepOutput({}))
    cut = _Cut(bench)
    parts = {
        "teacher, forward": cut.forward(lambda: step.teach(batch, plan)),
        "text encoder": cut.trained(lambda: step.read(batch, plan)),
        "clean student": cut.trained(lambda: student.image(_clean_images(step, batch, plan))),
    }
    if plan.has("itc"):
        parts["ITC"] = cut.losses(lambda out, image, words: step.contrast(image, words, teaching, batch, plan, out), clean, text)
    if plan.has("itm", "mlm"):
        parts["fusion: ITM, MLM"] = cut.losses(
            lambda out, image, *texts: step.fuse(image, texts[0], texts[-1], batch, plan, similarity, _draw(), out),
            *(clean, text, masked_text) if masked_text is not None else (clean, text),
        )
    if plan.has("mim", "consensus"):
        parts |= _seeing(bench, cut, teaching, text, clean)
    return parts | {"optimiser": bench.update_with_all_gradients, "teacher, EMA": lambda: bench.model.update_teacher(plan.momentum)}


def _seeing(bench: Workbench, cut: "_Cut", teaching, text: Tensor, clean: Tensor) -> dict[str, Candidate]:
    """Mask, masked pass, and what the encoding space makes of it."""
    step, plan, batch, image = bench.step, bench.plan, bench.batch, bench.model.student.image
    view = step.masked_view
    with bench.autocast():
        mask = step.masker(teaching, batch, plan, _draw())

    def masked_pass(words: Tensor | None = text) -> Tensor:
        return image.branch(image.trunk(batch.images[view], mask), step.injected_text(words, batch.attention_mask))

    with torch.no_grad(), bench.autocast():
        patches = masked_pass()[:, 1:]

    def losses(out: StepOutput, patches: Tensor, cls: Tensor) -> None:
        if plan.has("mim"):
            out.losses["mim"] = step.mim(patches, mask, teaching, batch, plan, out)
        if plan.has("consensus"):
            target = step.cls_targets(teaching.cls_directions, plan, out)
            out.losses["consensus"] = consensus_loss(bench.model.student.space.cls(cls), target, bench.config.teacher.student_temperature)

    cls = repeat(clean[:, 0], "b d -> v b d", v=2)
    return {
        "mask": cut.forward(lambda: step.masker(teaching, batch, plan, _draw())),
        "masked student": cut.trained(masked_pass),
        "prototypes: MIM, consensus": cut.losses(losses, patches, cls),
    }


class _Cut:
    """Makes candidates that run forward and, where training does, backward, with no gradient left over from before."""

    def __init__(self, bench: Workbench):
        self.bench = bench

    def forward(self, call) -> Candidate:
        def candidate() -> None:
            with torch.no_grad(), self.bench.autocast():
                call()

        return candidate

    def trained(self, call) -> Candidate:
        """Backward from a stand-in for the loss: every output has a gradient, as in the step."""

        def candidate() -> None:
            self.bench.optimizer.zero_grad(set_to_none=True)
            with self.bench.autocast():
                outputs = call()
            outputs = [x for x in (outputs if isinstance(outputs, tuple) else (outputs,)) if x is not None]
            sum(x.float().square().mean() for x in outputs).backward()

        return candidate

    def losses(self, call, *inputs: Tensor) -> Candidate:
        """Backward from the losses that `call` puts into a `StepOutput`, down to its inputs."""

        def candidate() -> None:
            self.bench.optimizer.zero_grad(set_to_none=True)
            leaves = [x.detach().requires_grad_() for x in inputs]
            out = StepOutput({})
            with self.bench.autocast():
                call(out, *leaves)
            sum(out.losses.values()).backward()

        return candidate


def _clean_images(step: SemMIMStep, batch: Batch, plan: Plan) -> Tensor:
    views = 2 if plan.has("consensus") and step.config.losses.student_passes == "three" else 1
    return rearrange(batch.images[:views], "v b c h w -> (v b) c h w")


def _draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)
