r"""The code loss of many patches, without ever keeping their logits.

The logits of masked patches are as wide as the encoding space has prototypes: with k = 8,192 and half of 128 images masked to 30 % (preset
`base`), 160 MB in fp32, and `masked_image.code_loss` leaves them to autograd twice, as log-probabilities and as targets, until backward.

Here backward has nothing left to do. The loss is a sum over rows whose gradient is known as soon as a row's logits are:

$$ \frac{\partial}{\partial x} H\big(t, \mathrm{softmax}(x/\tau)\big) = \frac{1}{\tau}\big(\mathrm{softmax}(x/\tau) - t\big). $$

So some rows at a time are scored, their share of the loss and of both gradients (of the directions, m × z, and of the prototypes, k × z) is
added up, and their logits are dropped. Backward multiplies what is there by one number.

    rows    ▒▒▒▒░░░░░░░░   scored ─► loss, gradients ─► dropped          kept: m·z + k·z numbers
            ····▒▒▒▒░░░░             …                                   instead of 2·m·k
            ········▒▒▒▒

The same arithmetic in another order [C; known for language models with large vocabularies as fused or cut cross-entropy]: two matrix
products in place of one in forward, none in place of two in backward. Nothing is computed twice, which checkpointing would have done.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from semmim_mini.objectives.masked_image import Mean, plain_mean

CHUNK = 2**22  # logits at a time, 16 MiB: enough rows to fill a GPU, few enough for no memory to notice


def code_loss_in_chunks(
    directions: Float[Tensor, "m z"],
    prototypes: Float[Tensor, "k z"],
    target: Float[Tensor, "m k"],
    student_temperature: float = 0.1,
    mean: Mean = plain_mean,
    chunk: int = CHUNK,
) -> Float[Tensor, ""]:
    """`masked_image.code_loss` of the logits `directions @ prototypes.T`, equal up to the order of additions [S, F: iBOT].

    Args:
        directions: of masked patches in the encoding space, unit length.
        prototypes: unit length; gradients flow to both.
        target: the teacher's codes, no gradient; rows sum to one, or the gradient would be another.
        mean: must weigh all rows alike, as `plain_mean` and `processes.common_mean` do; asked once.
        chunk: logits that may exist at once.
    """
    rows = max(1, chunk // len(prototypes))
    weight = mean(directions.new_ones(len(directions))) / max(len(directions), 1)
    taught = torch.is_grad_enabled()
    return weight * _SumOfCodeLosses.apply(directions, prototypes, target.detach(), student_temperature, rows, taught)


class _SumOfCodeLosses(torch.autograd.Function):
    """The losses of all rows, added up; its gradients are made on the way forward."""

    @staticmethod
    def forward(ctx, directions: Tensor, prototypes: Tensor, target: Tensor, temperature: float, rows: int, taught: bool) -> Tensor:
        loss = directions.new_zeros(())
        gradients = (torch.empty_like(directions), torch.zeros_like(prototypes)) if taught else ()
        with torch.autocast(directions.device.type, enabled=False):  # divided by small temperatures: fp32, as `PrototypeHead.score`
            for start in range(0, len(directions), rows):
                part = slice(start, start + rows)
                seen, goal = directions[part] / temperature, target[part]
                log = F.log_softmax(seen @ prototypes.T, dim=-1)
                loss -= torch.dot(goal.flatten(), log.flatten())
                if taught:
                    slope = log.exp_().sub_(goal)  # by the logits, which are `seen · prototypes`
                    torch.mm(slope, prototypes, out=gradients[0][part])
                    torch.addmm(gradients[1], slope.T, seen, out=gradients[1])
            if taught:
                gradients[0].div_(temperature)  # the chain's last link: `seen` is a direction over the temperature
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        directions, prototypes = ctx.saved_tensors
        return gradient * directions, gradient * prototypes, None, None, None, None
