"""Two processes that talk through gloo, started and watched by a test."""

import multiprocessing
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

WORLD, SECONDS = 2, 150


def run_pair(work: Callable, folder: Path, *args) -> Path:
    """Runs `work(rank, folder, *args)` in two new processes; fails, and ends them, when they wait for each other."""
    # One server imports the libraries, which takes most of the time, and forks both processes.
    multiprocessing.set_forkserver_preload(["semmim_mini.training.step"])
    start = torch.multiprocessing.start_processes
    running = start(_start, (work, str(folder), args), nprocs=WORLD, join=False, start_method="forkserver")
    met = None
    try:
        while not running.join(timeout=0.2):
            if met is None and len(list(folder.glob("met*"))) == WORLD:
                met = time.monotonic()
            assert met is None or time.monotonic() < met + SECONDS, f"two processes did not finish within {SECONDS} s"
    finally:
        for process in running.processes:
            if process.is_alive():
                process.kill()
    return folder


def _start(rank: int, work: Callable, folder: str, args: tuple) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=WORLD, timeout=timedelta(seconds=2 * SECONDS))
    Path(f"{folder}/met{rank}").touch()
    try:
        work(rank, folder, *args)
    finally:
        dist.destroy_process_group()
