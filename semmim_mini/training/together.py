r"""Several processes of this machine that find each other and are ended if they do not: for a notebook and a benchmark.

    start_together ─► work(0, …) ─┐
                  └─► work(1, …) ─┴─► joined: one group, which the operations of processes.py then speak to

Real runs are started by torchrun or accelerate, and join their group in parallel.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


def start_together(work: Callable, args: tuple, count: int, seconds: float) -> None:
    """Run `work(rank, *args)` in `count` new processes until all are done.

    Raises:
        RuntimeError: they took longer than `seconds`; they were ended.
    """
    running = torch.multiprocessing.start_processes(work, args, nprocs=count, join=False, start_method="spawn")
    until = time.monotonic() + seconds
    try:
        while not running.join(timeout=0.1):
            if time.monotonic() > until:
                raise RuntimeError(f"{count} processes did not find each other within {seconds} s; is the loopback network blocked?")
    finally:
        for process in running.processes:
            if process.is_alive():
                process.kill()


@contextmanager
def joined(folder: str, rank: int, count: int, seconds: float, backend: str = "gloo") -> Iterator[None]:
    """While open, this process is number `rank` of `count` that meet in a file of `folder`."""
    meeting = (Path(folder) / "meeting").resolve().as_uri()
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=count, timeout=timedelta(seconds=seconds))
    try:
        yield
    finally:
        dist.destroy_process_group()
