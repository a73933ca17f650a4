r"""`semmim-mini ablate`: all cells that are not done yet, then the table and the figure of all that are.

    OUT/cells/…         one folder a cell, see cells.py
    OUT/ablation.csv    row, seed, metric, value, settings: one line a figure
    OUT/ablation.md     mean ± standard deviation over the seeds
    OUT/ablation.png    every seed as a point

Seeds stand outside, rows inside: an interrupted comparison has whole seeds, which can be compared, rather than whole rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from semmim_mini.ablation import table
from semmim_mini.ablation.cells import Stopped, finished, folder_of, run_cell, run_first_phase
from semmim_mini.ablation.rows import EQUAL_TIME, FIRST_PHASE, Row, chosen, equal_time
from semmim_mini.ablation.side_by_side import Piece, run_side_by_side
from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.plain_values import shown


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    rows: tuple[str, ...]
    sweeps: tuple[str, ...]
    seeds: int
    task_steps: int  # of fine-tuning; 0 leaves it out
    jobs: int = 1  # cells at a time, each with its share of the threads
    first_phase: int = 0  # steps of A0 that all rows of a seed have in common; 0: each row trains from scratch
    task_rows: tuple[str, ...] = ()  # the only ones that are fine-tuned; empty for all

    def steps_of_tasks(self, row: Row) -> int:
        return self.task_steps if not self.task_rows or row.name in self.task_rows else 0


def run_ablation(out: Path, base: Config, plan: Plan, say=print) -> bool:
    """Run what is missing, write what there is. False when it was interrupted.

    Raises:
        UserError: an unknown row or sweep; rows to be fine-tuned that are not run, or on data without questions; cells of other
            settings in `out`.
    """
    rows = chosen(list(plan.rows), list(plan.sweeps), base)
    if unknown := set(plan.task_rows) - set(plan.rows):
        raise UserError(f"--task-rows: {', '.join(sorted(unknown))} is not among --rows; name rows that are run")
    if plan.task_steps and base.data.source != "scenes":
        raise UserError(f"--task-steps={plan.task_steps} needs questions, which {shown(base.data.source)} has not; give --task-steps 0")
    whole = _run_all(_first_phases(out, base, plan), plan.jobs, say)
    whole = whole and _run_all(_missing(out, base, plan, rows), plan.jobs, say)
    if whole and EQUAL_TIME in plan.rows:
        seconds = {name: [finished(out, row, s)["training_seconds"] for s in range(plan.seeds)] for name, row in _both(rows).items()}
        rows.insert(1, equal_time(seconds, base.run.steps))
        whole = _run_all(_missing(out, base, plan, rows[1:2]), plan.jobs, say)
    found = {(row.name, seed): figures for row in rows for seed in range(plan.seeds) if (figures := finished(out, row, seed))}
    if found:
        table.write(out, rows, found)
        say(f"{len(found)} of {len(rows) * plan.seeds} cells are done; the table is in {out / 'ablation.md'}")
    if not whole:
        say(f"interrupted; everything is saved. The same command goes on, in {out}")
    return whole


def _both(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows if row.name in ("A0", "A8")}


def _first_phases(out: Path, base: Config, plan: Plan) -> list[Piece]:
    """The first phase of every seed, done or not: to run it again is to see that it is done, with the same settings."""
    return [
        Piece(
            f"first phase ({plan.first_phase} steps), seed {seed}",
            folder_of(out, FIRST_PHASE, seed),
            partial(run_first_phase, out, seed, base, plan.first_phase),
        )
        for seed in range(plan.seeds if plan.first_phase else 0)
    ]


def _missing(out: Path, base: Config, plan: Plan, rows: Sequence[Row]) -> list[Piece]:
    """The cells that are not done."""
    phases = 2 if plan.first_phase else 1
    return [
        Piece(
            f"{row.name} ({row.title}), seed {seed}",
            folder_of(out, row, seed),
            partial(run_cell, out, row, seed, base, plan.steps_of_tasks(row), phases),
        )
        for seed in range(plan.seeds)
        for row in rows
        if finished(out, row, seed) is None
    ]


def _run_all(pieces: Sequence[Piece], jobs: int, say) -> bool:
    """One after the other, or several at a time; False as soon as one was interrupted."""
    if jobs > 1:
        return run_side_by_side(pieces, jobs, say)
    for number, piece in enumerate(pieces, start=1):
        say(f"{number} of {len(pieces)}: {piece.name}")
        try:
            piece.work(say=say)
        except Stopped:
            return False
    return True


def require_sensible(plan: Plan) -> None:
    """Raises `UserError` for counts that cannot be."""
    for name, least in (("seeds", 1), ("task_steps", 0), ("jobs", 1), ("first_phase", 0)):
        if getattr(plan, name) < least:
            raise UserError(f"--{name.replace('_', '-')}={getattr(plan, name)} is impossible: needs at least {least}")
