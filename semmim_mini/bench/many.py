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
from contextlib import nullcontext
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from semmim_mini.bench.meters import median_seconds
from semmim_mini.bench.parts import Workbench
from semmim_mini.bench.reading import reading_costs
from semmim_mini.config import Config, from_dict, to_dict
from semmim_mini.data.sources import open_pairs
from semmim_mini.plan.measured import random_batch
from semmim_mini.prepare.entries import Bytes, Entry
from semmim_mini.prepare.job import Settings, prepare
from semmim_mini.training.together import joined, start_together

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
        sources[str(count)] = open_pairs(f"shards:{home}", "train", resolution=64)
    costs = [reading_costs(sources, pictures, seed=lap) for lap in range(laps)]
    seconds = [min(cost[name].core_seconds for cost in costs) for name in sources]
    return [{"size": count, "ideal": 1.0, "time": each / seconds[0]} for count, each in zip(counts, seconds, strict=True)]


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
    return [
        {"size": count, "ideal": 1.0, "time": together[count] / together[counts[0]], "apart": apart[count] / apart[counts[0]]}
        for count in counts
    ]


def _step_seconds(config: Config, vocab_size: int, count: int, repeats: int, talk: bool) -> float:
    """The median step of the slowest process."""
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "given.json"
        given.write_text(json.dumps({"config": to_dict(config), "vocab_size": vocab_size, "repeats": repeats, "talk": talk}))
        start_together(_one, (folder, count), count, SECONDS)
        return max(json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(count))


def _one(rank: int, folder: str, count: int) -> None:
    given = json.loads((Path(folder) / "given.json").read_text())
    torch.set_num_threads(1)
    config, several = from_dict(given["config"]), given["talk"] and count > 1
    device = torch.device("cuda", rank % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
    bench = Workbench(config, given["vocab_size"], random_batch(config, given["vocab_size"]).to(device))
    backend = "nccl" if device.type == "cuda" else "gloo"
    with joined(folder, rank, count, SECONDS, backend) if several else nullcontext():
        if several:
            bench.wrapped = DistributedDataParallel(bench.step, find_unused_parameters=True, broadcast_buffers=False)
        _meet(Path(folder), rank, count, "ready")
        seconds = median_seconds({"step": bench.full_step}, device, given["repeats"])["step"]
        (Path(folder) / f"{rank}.json").write_text(json.dumps(seconds))
        _meet(Path(folder), rank, count, "done")  # the last to finish had company, too


def _meet(folder: Path, rank: int, count: int, what: str) -> None:
    """Processes that do not talk still start, and stop, together; whoever waits sleeps."""
    (folder / f"{what}-{rank}").touch()
    while sum(name.startswith(f"{what}-") for name in os.listdir(folder)) < count:
        time.sleep(0.01)
