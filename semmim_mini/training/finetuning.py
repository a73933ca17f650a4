r"""The configuration of a fine-tuning run: the checkpoint's own, with what the task changes.

    checkpoint/config.yaml ──► what the task changes ──► --data, --set ──► a run like any other

| task | terms that stay | rate | recipe |
| --- | --- | --- | --- |
| retrieval  | ITC with soft targets, ITM with hard negatives | a fifth of pre-training's | [F: ALBEF] |
| captioning | caption                                         | the same                  | [F: BLIP; mPLUG] |
| vqa        | answer                                          | the same                  | [F: ALBEF, BLIP] |

The number of steps and the rate are ours [C]: a few minutes on scenes. The field's runs are five epochs of COCO, ten of Flickr30k,
eight of VQA v2, at 1e-5 to 2e-5, all settable.
"""

from dataclasses import replace
from pathlib import Path

from semmim_mini.config import TASKS, Config, Term
from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint
from semmim_mini.training.schedules import TERMS

KEPT = {"retrieval": ("itc", "itm"), "captioning": ("caption",), "vqa": ("answer",)}
STEPS = 400
RATE = 0.2  # of pre-training's


def fine_tuning_config(task: str, folder: Path, which: str = "last") -> Config:
    """What a fine-tuning run for `task` starts from.

    Args:
        task: retrieval, captioning or vqa.
        folder: of a run or a checkpoint.
        which: last or best, of a run's folder.

    Raises:
        UserError: another task; no checkpoint there.
    """
    if task not in KEPT:
        raise UserError(f"task {task!r} is none that can be fine-tuned; choose one of {', '.join(TASKS[1:])}")
    found = checkpoint.find(folder, which)
    config = checkpoint.read_fitting_config(found)
    terms = {name: Term(weight=1.0 if name in KEPT[task] else 0.0) for name in TERMS}
    losses = replace(config.losses, **terms, alpha_ramp=(0.0, 0.1), hard_negatives=(0.0, 0.5))
    optim = replace(config.optim, lr=RATE * config.optim.lr, lr_end=RATE * RATE * config.optim.lr, warmup=0.1)
    run = replace(config.run, steps=STEPS, eval_every=STEPS, save_every=100)
    new = replace(config.task, name=task, checkpoint=str(found))
    return replace(config, losses=losses, optim=optim, run=run, task=new)
