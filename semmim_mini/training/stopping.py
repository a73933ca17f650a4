r"""Stopping: between two steps by Ctrl-C and SIGTERM, several processes together, at once when help is lost; and how to go on."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from semmim_mini.config import Config
from semmim_mini.errors import UserError
from semmim_mini.training import processes


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
    """While open, the death of a process that prepares batches is told as what it nearly always is. PyTorch raises it anywhere.

    Raises:
        UserError: a worker was killed; steps since the last checkpoint are computed again after a resume.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that prepares batches was killed, most often because memory ran out ({str(error).splitlines()[0]}); lower "
            f"data.workers={config.data.workers} or data.batch_size, then go on from the last checkpoint: {how_to_go_on(config, folder)}"
        ) from error


def how_to_go_on(config: Config, folder: Path) -> str:
    """The command that resumes a run."""
    command = "pretrain" if config.task.name == "pretrain" else f"finetune {config.task.name}"
    return f"semmim-mini {command} --out {shlex.quote(str(folder))} --resume"
