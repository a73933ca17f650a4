r"""Several cells at a time, each in a process of its own, which all end together.

    this process ──► pool of `jobs` processes ──► a cell each; what it says goes into OUT/cells/…/output.txt
         │  Ctrl-C, SIGTERM: to every process
         └─────────────────────────────────────► the step is finished and saved, no further cell is begun

A terminal sends Ctrl-C to all processes, a scheduler SIGTERM to the first or to all: whoever hears it, all stop.
"""

import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import torch

from semmim_mini.ablation.cells import Stopped
from semmim_mini.errors import UserError


class Piece(NamedTuple):
    """Something to be trained and measured, in a folder of its own."""

    name: str
    home: Path
    work: Callable


def run_side_by_side(pieces: Sequence[Piece], jobs: int, say) -> bool:
    """`jobs` of them at a time, with a share of the threads each; False when it was interrupted.

    Raises:
        UserError: one of the processes was killed.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin, (threads,)) as pool, _sigterm_as_ctrl_c():
        try:
            running = {pool.submit(_run, piece): piece for piece in pieces}
            for number, done in enumerate(as_completed(running), start=1):
                done.result()
                say(f"done, {number} of {len(pieces)}: {running[done].name}")
        except (Stopped, KeyboardInterrupt):
            for process in multiprocessing.active_children():
                process.terminate()  # asks: see `_stop` and `training.stopping.GracefulStop`
            pool.shutdown(cancel_futures=True)
            return False
        except BrokenProcessPool as error:
            raise UserError(
                f"a process that trained a cell was killed, most often because memory ran out; lower --jobs={jobs}, and give the same "
                "command again: what is done stays done"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)  # what runs is finished, nothing else is begun
            raise
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


class _Worker:
    """What a process of the pool knows of itself."""

    busy = False
    stopped = False


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)


def _stop(number, frame) -> None:
    """Outside training, which listens for itself. Once: the second signal is the first, passed on."""
    if not _Worker.stopped:
        _Worker.stopped = True
        if _Worker.busy:
            raise KeyboardInterrupt


def _run(piece: Piece) -> None:
    """What it says goes into its folder, because several at once would talk at the same time."""
    if _Worker.stopped:
        raise Stopped
    _Worker.busy = True
    try:
        piece.home.mkdir(parents=True, exist_ok=True)
        with open(piece.home / "output.txt", "a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            piece.work()
    except (Stopped, KeyboardInterrupt):
        _Worker.stopped = True
        raise Stopped from None
    finally:
        _Worker.busy = False
