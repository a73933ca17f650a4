r"""Stopping: between two steps by Ctrl-C and SIGTERM, several processes together, at once when help is lost; and how to go on."""

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.plain_values import first_line
from semmim_mini.training import processes

SIGNAL_ARRIVES = 1.0  # seconds within which a system tells of a process that has died


class GracefulStop:
    """While open, Ctrl-C and SIGTERM set `run.stop_requested`, which the loop reads between steps; a second Ctrl-C acts at once.

    A second SIGTERM does not: schedulers send one to every process, and launchers pass theirs on.
    """

    def __init__(self, run):
        self.run = run

    def __enter__(self) -> None:
        def request(number, frame):
            if self.run.stop_requested and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.run.stop_requested = True

        try:
            self.before = {s: signal.signal(s, request) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread, as in some notebooks: leave signals alone
            self.before = {}

    def __exit__(self, *error) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def agreed(requested: bool, device: torch.device) -> bool:
    """Whether any process was asked to stop: signals arrive at different steps, and who goes on alone waits for ever."""
    if processes.world() == 1:
        return requested
    return processes.total(torch.tensor(float(requested), device=device)).item() > 0


@contextmanager
def losing_workers(config: Config, folder: Path) -> Iterator[None]:
    """While open, the death of a process that prepares batches is told as what it nearly always is.

    A worker that dies between batches is a RuntimeError of PyTorch's, raised by a signal, wherever this process is at that moment. One
    that dies while it hands a batch over is a broken connection first, and the signal comes a moment later.

    Raises:
        UserError: a worker was killed; steps since the last checkpoint are computed again after a resume.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise _lost_worker(error, config, folder) from error
    except (ConnectionResetError, ConnectionRefusedError, EOFError) as error:
        if config.data.workers == 0:
            raise
        with suppress(RuntimeError):  # the signal's, which would otherwise cut into the message
            time.sleep(SIGNAL_ARRIVES)
        raise _lost_worker(error, config, folder) from error


def _lost_worker(error: Exception, config: Config, folder: Path) -> UserError:
    return UserError(
        f"a process that prepares batches was killed, most often because memory ran out ({first_line(error)}); lower "
        f"data.workers={config.data.workers} or data.batch_size, then go on from the last checkpoint: {how_to_go_on(config, folder)}"
    )


def how_to_go_on(config: Config, folder: Path) -> str:
    """The command that resumes a run."""
    command = "pretrain" if config.task.name == "pretrain" else f"finetune {config.task.name}"
    return f"semmim-mini {command} --out {shlex.quote(str(folder))} --resume"
