r"""How the work grows with what a run is spread over: shards of the data, processes of the training.

    shards       the same pictures in more and smaller files, read in the order of training. Ideal: nothing changes.
    processes    each with its own share of the batch, one thread and one model. Ideal: a step takes as long as in one process alone.

Processes on one machine share its memory, its caches and often its cores, which costs time even if they never say a word to each
other. So they are measured twice: `apart`, each training by itself at the same time, and together. The difference is what data-parallel
training adds.
"""

import json
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from semmim_mini.bench.meters import wait
from semmim_mini.bench.parts import Workbench
from semmim_mini.bench.reading import reading_costs
from semmim_mini.config import Config, from_dict, to_dict
from semmim_mini.data.loader import Batch
from semmim_mini.data.sources import open_pairs
from semmim_mini.plan.measured import random_batch
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.job import Settings, prepare

PICTURES = 512
SECONDS = 600  # after which processes that wait for each other are ended


def along_shards(folder: Path, counts: tuple[int, ...] = (1, 8, 64), pictures: int = PICTURES, laps: int = 3) -> list[dict]:
    """Core-seconds to read scenes from `counts` shards, as ratios to the fewest; shards are written under `folder`.

    Raises:
        UserError: webdataset is not installed, or `folder` cannot be written.
    """
    entries = _scene_files(folder / "scenes", pictures)
    sources = {}
    for count in counts:
        home = folder / f"in-{count}"
        prepare("scenes", {"train": entries}, home, Settings(size=64, shard_size=-(-pictures // count)))
        sources[count] = open_pairs(f"shards:{home}", "train", resolution=64)
    costs = reading_costs({str(count): pairs for count, pairs in sources.items()}, pictures)
    for lap in range(1, laps):
        for name, cost in reading_costs({str(count): pairs for count, pairs in sources.items()}, pictures, seed=lap).items():
            costs[name].core_seconds = min(costs[name].core_seconds, cost.core_seconds)
    first = costs[str(counts[0])].core_seconds
    return [{"size": count, "ideal": 1.0, "time": costs[str(count)].core_seconds / first, "memory": None} for count in counts]


def _scene_files(folder: Path, count: int) -> list[Entry]:
    """Scenes as picture files."""
    from torchvision.transforms.functional import to_pil_image

    folder.mkdir(parents=True, exist_ok=True)
    pairs, entries = open_pairs("scenes", "train", resolution=64, size=count), []
    for i in range(count):
        pair, path = pairs[i], folder / f"{i}.png"
        to_pil_image(pair.image).save(path)
        entries.append(Entry((f"scene/{i}",), path.name, Bytes(str(path)), tuple(pair.captions)))
    return entries


def along_processes(config: Config, vocab_size: int, counts: tuple[int, ...] = (1, 2), repeats: int = 3) -> list[dict]:
    """Seconds of a step where every process has `data.batch_size` images, as ratios to one process; `apart` without talking."""
    together = {count: _step_seconds(config, vocab_size, count, repeats, talk=True) for count in counts}
    apart = {count: _step_seconds(config, vocab_size, count, repeats, talk=False) for count in counts}
    first = together[counts[0]]
    return [
        {"size": count, "ideal": 1.0, "time": together[count] / first, "apart": apart[count] / apart[counts[0]], "memory": None}
        for count in counts
    ]


def _step_seconds(config: Config, vocab_size: int, count: int, repeats: int, talk: bool) -> float:
    """The median step of the slowest process."""
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.json"
        given.write_text(json.dumps({"config": to_dict(config), "vocab_size": vocab_size, "repeats": repeats, "talk": talk}))
        context = torch.multiprocessing.start_processes(_one, (folder, count), nprocs=count, join=False, start_method="spawn")
        until = time.monotonic() + SECONDS
        try:
            while not context.join(timeout=0.1):
                if time.monotonic() > until:
                    raise RuntimeError(f"{count} processes did not finish within {SECONDS} s; is the loopback network blocked?")
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.kill()
        return max(json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(count))


def _one(rank: int, folder: str, count: int) -> None:
    given = json.loads((Path(folder) / "given.json").read_text())
    torch.set_num_threads(1)
    config, several = from_dict(given["config"]), given["talk"] and count > 1
    device = torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
    bench = Workbench(config, given["vocab_size"], random_batch(config, given["vocab_size"]).to(device))
    if several:
        meeting = (Path(folder) / "meeting").resolve().as_uri()
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=count, timeout=timedelta(seconds=SECONDS))
    try:
        step: nn.Module = bench.step
        if several:
            step = DistributedDataParallel(step, find_unused_parameters=True, broadcast_buffers=False)
        _meet(Path(folder), rank, count, "ready")
        seconds = [_timed_step(bench, step, bench.batch, device) for _ in range(1 + given["repeats"])][1:]
        (Path(folder) / f"{rank}.json").write_text(json.dumps(sorted(seconds)[len(seconds) // 2]))
        _meet(Path(folder), rank, count, "done")  # the last to finish had company, too
    finally:
        if several:
            dist.destroy_process_group()


def _timed_step(bench: Workbench, step: nn.Module, batch: Batch, device: torch.device) -> float:
    """One optimiser step through `step`, which may be wrapped for several processes."""
    began = time.perf_counter()
    bench.optimizer.zero_grad(set_to_none=True)
    out = step(batch, bench.plan, 0)
    sum(bench.plan.weights[name] * loss for name, loss in out.losses.items()).backward()
    bench.update()
    bench.model.update_teacher(bench.plan.momentum)
    bench.step.remember(out.remember)
    wait(device)
    return time.perf_counter() - began


def _meet(folder: Path, rank: int, count: int, what: str) -> None:
    """Processes that do not talk still start, and stop, together; whoever waits sleeps."""
    (folder / f"{what}-{rank}").touch()
    while sum(name.startswith(f"{what}-") for name in os.listdir(folder)) < count:
        time.sleep(0.01)
