r"""The rows of the ablation, and the sweeps beside it: each is the full method with a few settings changed.

| row | what it is |
| --- | --- |
| A0 | ITC, ITM, MLM, captioning |
| A1, A1t | A0 and MIM on pixels [F: VLMAE], on tokens of a frozen codebook [F: VL-BEiT] |
| A2 | A0 and MIM on teacher codes, no consensus |
| A3, A4 | A2 and consensus: with a head of its own, with the shared head (local semantics [S]) |
| A5, A6, A7 | A4 and text: in the mask, in the student, in the targets [S, each] |
| A8 | everything: SemMIM |
| A0x | A0 for as long as A8 took: more steps, the same time |

A short run gives masked modelling few steps: preset `tiny` has it for the last fourteenth, and rows can differ in no more than that.
With a first phase (`--first-phase N`) all rows of a seed go on from one run of A0 over N steps, long enough to learn features, and differ
in every step that follows (`second_phase`).

The names are ours. Every row is `--preset` and `--set` with these settings, as `docs/fidelity.md` lists them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from semmim_mini.config import Config, override
from semmim_mini.errors import UserError
from semmim_mini.training.schedules import PRETRAINING_TERMS

NO_MIM = ("losses.consensus.weight=0", "losses.mim.weight=0")
BLIND = ("losses.mim_student_text=false", "losses.mim_target_text=false")  # no text on either side of masked modelling
RANDOM = ("masking.strategy=random",)


@dataclass(frozen=True)
class Row:
    """One configuration of the comparison."""

    name: str
    title: str
    settings: tuple[str, ...]

    def config(self, base: Config) -> Config:
        """`base` with this row's settings."""
        return override(base, list(self.settings))


ROWS = {
    row.name: row
    for row in (
        Row("A0", "ITC, ITM, MLM, captioning", NO_MIM),
        Row("A1", "A0 + MIM on pixels", ("losses.consensus.weight=0", "losses.mim_target=pixels", BLIND[0], *RANDOM)),
        Row("A1t", "A0 + MIM on frozen tokens", ("losses.consensus.weight=0", "losses.mim_target=tokens", BLIND[0], *RANDOM)),
        Row("A2", "A0 + MIM on codes", ("losses.consensus.weight=0", *BLIND, *RANDOM)),
        Row("A3", "A2 + consensus, two heads", ("space.shared=false", *BLIND, *RANDOM)),
        Row("A4", "A3 with a shared head", (*BLIND, *RANDOM)),
        Row("A5", "A4 + text-guided masks", BLIND),
        Row("A6", "A4 + text in the student", (BLIND[1], *RANDOM)),
        Row("A7", "A4 + text in the targets", (BLIND[0], *RANDOM)),
        Row("A8", "SemMIM", ()),
    )
}
EQUAL_TIME = "A0x"  # needs measured seconds: see `equal_time`
FIRST_PHASE = Row("first_phase", "A0, from which all rows of a seed go on", NO_MIM)


def first_phase(base: Config, steps: int) -> Config:
    """A0 over `steps` steps, on the base's own schedule."""
    return override(FIRST_PHASE.config(base), [f"run.steps={steps}", f"run.eval_every={steps}"])


def second_phase(config: Config, start: Path) -> Config:
    """A row that goes on from the weights in `start`: every term from the first step on, the rate warmed up anew.

    The teacher keeps its momentum. The warm-up that a young teacher needs, from 0.1 in the first step, would hand a grown one over to
    the student, and its codes would follow whatever the first, steepest steps do to them.

    Negatives of matching keep the base's own schedule. Hard from the first step on, they take from a small model what it has learned:
    A0 of `tiny` fell from 81 % balanced accuracy to 50 % within twenty steps, and stayed there for three hundred.
    """
    terms = {name: replace(getattr(config.losses, name), start=0.0) for name in PRETRAINING_TERMS}
    losses = replace(config.losses, **terms, alpha_ramp=(0.0, 0.0))
    teacher = replace(config.teacher, momentum_schedule="constant") if config.teacher.momentum_schedule == "warmup" else config.teacher
    return replace(config, losses=losses, teacher=teacher, task=replace(config.task, checkpoint=str(start)))


def sweeps(base: Config) -> dict[str, list[Row]]:
    """Variants of A8 in one setting each; the value that `base` has is A8 itself and is left out."""
    relevance = ("caption", "cross", "query", "itc") if base.losses.caption.weight > 0 else ("cross", "query", "itc")
    values = {
        "m": ("image.inject_from", tuple(range(base.image.depth))),
        "r": ("masking.ratio", (0.15, 0.3, 0.5, 0.7)),
        "k": ("space.prototypes", tuple(int(base.space.prototypes * x) for x in (0.25, 1, 4))),
        "strategy": ("masking.strategy", ("text_high", "text_low", "random", "block", "attention")),
        "relevance": ("masking.relevance", relevance),
        "isolation": ("image.isolation", ("fork", "mask", "none")),
        "balance": ("teacher.balance", ("sinkhorn", "center")),
    }
    rows = {
        name: [Row(f"A8 {name}={value}", f"{field}={value}", (f"{field}={value}",)) for value in choices]
        for name, (field, choices) in values.items()
    }
    return {name: [row for row in several if row.config(base) != base] for name, several in rows.items()}


def equal_time(seconds: dict[str, list[float]], steps: int) -> Row:
    """A0 with as many steps as fit into A8's time.

    Args:
        seconds: of training, by row; needs those of A0 and A8.
        steps: of every other row.
    """
    longer = round(steps * sum(seconds["A8"]) / len(seconds["A8"]) * len(seconds["A0"]) / sum(seconds["A0"]))
    return Row(EQUAL_TIME, f"A0 in A8's time, {longer} steps", (*NO_MIM, f"run.steps={longer}", f"run.eval_every={longer}"))


def chosen(names: list[str], sweep_names: list[str], base: Config) -> list[Row]:
    """The rows that were asked for, in the order of the table.

    Raises:
        UserError: an unknown row or sweep.
    """
    known = sweeps(base)
    for name in names:
        if name not in (*ROWS, EQUAL_TIME):
            raise UserError(f"--rows: {name!r} is none; choose from {', '.join((*ROWS, EQUAL_TIME))}")
    for name in sweep_names:
        if name not in known:
            raise UserError(f"--sweeps: {name!r} is none; choose from {', '.join(known)}")
    if EQUAL_TIME in names and not {"A0", "A8"} <= set(names):
        raise UserError(f"--rows: {EQUAL_TIME} needs the times of A0 and A8; ask for them, too")
    rows = [row for name, row in ROWS.items() if name in names]
    return rows + [row for name in sweep_names for row in known[name]]
