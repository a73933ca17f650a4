r"""Several cells at a time, each in a process of its own, which all end together.

    this process ──► pool of `jobs` processes ──► a cell each; what it says goes into OUT/cells/…/output.txt
         │  Ctrl-C, SIGTERM: to every process
         └─────────────────────────────────────► the step is finished and saved, no further cell is begun

A terminal sends Ctrl-C to all processes, a scheduler SIGTERM to the first or to all: whoever hears it, all stop. If the first one is
killed, which it cannot pass on, the others notice, and finish and save their step, too.
"""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import torch

from semmim_mini.ablation.cells import Stopped
from semmim_mini.errors import UserError
from semmim_mini.orphans import end_with_parent, orphaned


class Piece(NamedTuple):
    """Something to be trained and measured, in a folder of its own."""

    name: str
    home: Path
    work: Callable


def run_side_by_side(pieces: Sequence[Piece], jobs: int, say) -> bool:
    """`jobs` of them at a time, with a share of the threads each; False when it was interrupted.

    A process gets its next piece when one is done, none in advance: nothing waits there that a process on its way out could still begin.

    Raises:
        UserError: one of the processes was killed.
    """
    threads, waiting, done = max(1, torch.get_num_threads() // jobs), deque(pieces), 0
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (threads,)) as pool, _sigterm_as_ctrl_c():
        running: dict[Future, Piece] = {}
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    piece = waiting.popleft()
                    running[pool.submit(_run, piece)] = piece
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    done += 1
                    say(f"done, {done} of {len(pieces)}: {running.pop(future).name}")
        except (Stopped, KeyboardInterrupt):
            for process in multiprocessing.active_children():
                process.terminate()  # asks: see `_run` and `training.stopping.GracefulStop`
            return False
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that trained a cell was killed, most often because memory ran out; lower --jobs={jobs}, and give the same "
                "command again: what is done stays done"
            ) from error
    return True


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    def interrupt(number, frame):
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: leave signals alone
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# In the processes of the pool -----------------------------------------------------------------------------------------


def _begin(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, too, and asks; training listens for itself
    # Between pieces a process waits with the pool's lock in its hand: ended there, it would leave the others waiting for ever.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(threads)
    end_with_parent()


def _run(piece: Piece) -> None:
    """What it says goes into its folder, because several at once would talk at the same time."""
    piece.home.mkdir(parents=True, exist_ok=True)
    try:
        with (
            _sigterm_as_ctrl_c(),
            open(piece.home / "output.txt", "a", encoding="utf-8") as file,
            contextlib.redirect_stdout(file),
        ):
            piece.work()
    finally:
        if orphaned():
            os._exit(1)  # the pool's own way out waits for the first process
