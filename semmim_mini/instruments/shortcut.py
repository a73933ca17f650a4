r"""Can masked image modelling be solved without looking? Both sides read the text, so the question must be asked.

Five losses on held-out pairs, in nats on the same hidden patches with the same targets:

| figure | the student sees | what it tells |
| --- | --- | --- |
| `loss_masked`                      | the other patches, the right caption   | the task as trained |
| `loss_shuffled_caption`            | the other patches, a wrong caption     | how much the caption is used |
| `loss_all_masked`                  | no patch at all, the right caption     | what text alone can do |
| `loss_all_masked_shuffled_caption` | no patch at all, a wrong caption       | whether text alone is read, or only how common codes are |
| `loss_marginal`                    | nothing: entropy of the mean target    | what a guesser pays who knows only how common codes are |

If `loss_all_masked` is near `loss_masked`, the caption gives the answer away. A picture without any visible patch never occurs in
training, so that loss may be above the guesser's and the caption still be read: then a wrong one costs more. `code_survives_caption_swap`
is the share of patches whose target code stays when the *teacher* reads another caption: low means the target is the text's echo.
"""

from collections import defaultdict

import torch
from torch import Tensor

from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.objectives.agreement import cross_entropy_with
from semmim_mini.training.schedules import full_plan
from semmim_mini.training.step import SemMIMStep, StepOutput


@torch.no_grad()
def shortcut(step: SemMIMStep, batches: list[HeldOut], seed: int = 0) -> dict[str, float]:
    """The shortcut figures, averaged over hidden patches. Codes must be the MIM target."""
    targets, survived, losses, plan = [], [], defaultdict(list), full_plan(step.config)
    for i, batch in enumerate(batches):
        draw, wrong = torch.Generator().manual_seed(seed + i), batch.with_captions_of_neighbours()
        teaching, other = step.teach(batch, plan), step.teach(wrong, plan)
        mask = step.masker(teaching, batch, plan, draw)
        target = step.patch_targets(teaching.patches[:, 1:], mask, plan, StepOutput({}))
        targets.append(target)
        survived.append(_codes(step, teaching.patches) == _codes(step, other.patches))
        everything = torch.ones_like(mask)
        for name, source, hidden in (
            ("masked", batch, mask),
            ("shuffled_caption", wrong, mask),
            ("all_masked", batch, everything),
            ("all_masked_shuffled_caption", wrong, everything),
        ):
            losses[name].append(cross_entropy_with(target, _student(step, source, hidden)[mask], step.config.teacher.student_temperature))
    mean = torch.cat(targets).mean(dim=0).clamp_min(1e-12)
    return {f"loss_{name}": torch.cat(rows).mean().item() for name, rows in losses.items()} | {
        "loss_marginal": -(mean * mean.log()).sum().item(),
        "code_survives_caption_swap": torch.cat(survived).float().mean().item(),
    }


def _student(step: SemMIMStep, batch: HeldOut, mask: Tensor) -> Tensor:
    """Student logits of all patches with `mask` hidden (b, n, k)."""
    student = step.model.student
    text = student.text(batch.input_ids, batch.attention_mask)
    tokens = student.image(batch.images[0], mask, step.injected_text(text, batch.attention_mask))
    return student.space.patch(tokens[:, 1:])


def _codes(step: SemMIMStep, tokens: Tensor) -> Tensor:
    return step.model.teacher.space.patch(tokens[:, 1:]).argmax(dim=-1)
