r"""`semmim-mini ablate`: all cells that are not done yet, then the table and the figure of all that are.

    OUT/cells/…         one folder a cell, see cells.py
    OUT/ablation.csv    row, seed, metric, value, settings: one line a figure
    OUT/ablation.md     mean ± standard deviation over the seeds
    OUT/ablation.png    every seed as a point

Seeds stand outside, rows inside: an interrupted comparison has whole seeds, which can be compared, rather than whole rows.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import torch

from semmim_mini.ablation import table
from semmim_mini.ablation.cells import Stopped, finished, folder_of, run_cell
from semmim_mini.ablation.rows import EQUAL_TIME, Row, chosen, equal_time
from semmim_mini.config import Config
from semmim_mini.errors import UserError


@dataclass(frozen=True)
class Plan:
    """What is compared."""

    rows: tuple[str, ...]
    sweeps: tuple[str, ...]
    seeds: int
    task_steps: int
    jobs: int = 1  # cells at a time, each with its share of the threads


def run_ablation(out: Path, base: Config, plan: Plan, say=print) -> bool:
    """Run what is missing, write what there is. False when it was interrupted.

    Raises:
        UserError: an unknown row or sweep; cells of other settings in `out`.
    """
    rows = chosen(list(plan.rows), list(plan.sweeps), base)
    cells = [(row, seed) for seed in range(plan.seeds) for row in rows]
    whole = _run_all(out, base, plan, cells, say)
    if whole and EQUAL_TIME in plan.rows:
        seconds = {name: [finished(out, row, s)["training_seconds"] for s in range(plan.seeds)] for name, row in _both(rows).items()}
        rows.insert(1, equal_time(seconds, base.run.steps))
        whole = _run_all(out, base, plan, [(rows[1], seed) for seed in range(plan.seeds)], say)
    found = {(row.name, seed): figures for row in rows for seed in range(plan.seeds) if (figures := finished(out, row, seed))}
    if found:
        table.write(out, rows, found)
        say(f"{len(found)} of {len(rows) * plan.seeds} cells are done; the table is in {out / 'ablation.md'}")
    if not whole:
        say(f"interrupted; everything is saved. The same command goes on, in {out}")
    return whole


def _both(rows: Sequence[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows if row.name in ("A0", "A8")}


def _run_all(out: Path, base: Config, plan: Plan, cells: list[tuple[Row, int]], say) -> bool:
    """Every cell that is not done; False as soon as one was interrupted."""
    todo = [(row, seed) for row, seed in cells if finished(out, row, seed) is None]
    if plan.jobs == 1:
        for number, (row, seed) in enumerate(todo, start=1):
            say(f"cell {number} of {len(todo)}: {row.name} ({row.title}), seed {seed}")
            try:
                run_cell(out, row, seed, base, plan.task_steps, say)
            except Stopped:
                return False
        return True
    threads = max(1, torch.get_num_threads() // plan.jobs)
    with ProcessPoolExecutor(plan.jobs, multiprocessing.get_context("spawn"), _few_threads, (threads,)) as pool:
        running = {pool.submit(_quiet_cell, out, row, seed, base, plan.task_steps): (row, seed) for row, seed in todo}
        whole = True
        for number, done in enumerate(as_completed(running), start=1):
            row, seed = running[done]
            try:
                done.result()
            except Stopped:
                whole = False
                pool.shutdown(cancel_futures=True)
                break
            say(f"done, {number} of {len(todo)}: {row.name}, seed {seed}")
    return whole


def _few_threads(count: int) -> None:
    torch.set_num_threads(count)


def _quiet_cell(out: Path, row: Row, seed: int, base: Config, task_steps: int) -> None:
    """A cell in a process of its own; what it says goes into its folder, because several at once would talk at the same time."""
    home = folder_of(out, row, seed)
    home.mkdir(parents=True, exist_ok=True)
    import contextlib

    with open(home / "output.txt", "a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        run_cell(out, row, seed, base, task_steps)


def require_sensible(plan: Plan) -> None:
    """Raises `UserError` for counts that cannot be."""
    for name in ("seeds", "task_steps", "jobs"):
        if getattr(plan, name) < 1:
            raise UserError(f"--{name.replace('_', '-')}={getattr(plan, name)} is impossible: needs at least 1")
