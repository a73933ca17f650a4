r"""A run that is killed at random moments, and gone on with each time, ends in the bits of one that nothing happened to.

    python tests/end_to_end/kills.py --kills 50 --seed 0

Each attempt is a process of its own, ended by SIGKILL after a random time: while it starts, trains, writes its log, or saves (it saves
after every step, so often then). After each kill every checkpoint that `last` or `best` names must load. Whenever a run gets
through, its weights, its optimiser's state and its log are compared, and the next run starts.
"""

import argparse
import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from small_runs import SMALL, changed, differences, make_photos, metrics, tensors, train

from semmim_mini.config import Config, from_dict, from_yaml, to_yaml
from semmim_mini.training import checkpoint

STEPS = 8
PATIENCE = 300.0  # seconds, after which an attempt that nobody killed hangs


def attempt(config: Config, folder: Path, seconds: float) -> str:
    """One process that trains, or goes on, until it is done or killed after `seconds`; what it was doing then."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["semmim_mini.training.loop", "transformers.models.bert.modeling_bert"])
    process = context.Process(target=_attempt, args=(to_yaml(config), str(folder)))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return _moment(folder)
    if process.exitcode != 0:
        raise AssertionError(f"nobody killed it, and it ended with {process.exitcode}")
    return "done"


def _attempt(config: str, folder: str) -> None:
    torch.set_num_threads(1)
    train(from_yaml(config), Path(folder), resume=(Path(folder) / "config.yaml").exists())


def _moment(folder: Path) -> str:
    """When a kill came, from what it left behind."""
    if not (folder / "config.yaml").exists():
        return "before anything was written"
    if any(folder.rglob("*.tmp")):
        return "while a file was being written"
    if checkpoint.read_pointer(folder, "last") is None:
        return "before the first checkpoint"
    steps = len(metrics(folder)) - checkpoint.read_state(checkpoint.find(folder))["step"]
    return "between a step and its checkpoint" if steps else "elsewhere"


def require_readable(folder: Path) -> None:
    """All that resuming reads, of every checkpoint that has a name."""
    for which in ("last", "best"):
        if (folder / "checkpoints" / which).exists():
            found = checkpoint.find(folder, which)
            checkpoint.read_config(found)
            checkpoint.read_state(found)
            assert tensors(folder, which)


def survive(config: Config, home: Path, kills: int, seed: int, say=print) -> Counter:
    """Train over and over under `kills` kills; how often they came at which moment, and how many runs got through.

    Raises:
        AssertionError: a checkpoint is unreadable, or a run ended otherwise than the undisturbed one.
    """
    config = changed(config, f"run.steps={STEPS}", "run.save_every=1", "run.eval_every=4")
    whole, killed, draw = home / "whole", home / "killed", random.Random(seed)
    attempt(config, home / "warm-up", PATIENCE)  # the server of new processes imports the libraries only once
    began = time.monotonic()
    assert attempt(config, whole, PATIENCE) == "done"
    longest, moments = time.monotonic() - began, Counter()
    while moments.total() - moments["done"] < kills or moments["done"] == 0:
        enough = moments.total() - moments["done"] >= kills
        moment = attempt(config, killed, PATIENCE if enough else draw.uniform(0, longest))
        moments[moment] += 1
        require_readable(killed)
        if moment == "done":
            assert not (found := differences(whole, killed)), f"after {moments.total()} attempts these differ: {found[:5]}"
            assert not list(killed.rglob("*.tmp"))
            shutil.rmtree(killed)
        say(f"{moments.total()}: {moment}")
    return moments


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        photos.mkdir()
        config = changed(from_dict(SMALL), f"data.source=flickr8k:{make_photos(photos)}")
        moments = survive(config, Path(folder), given.kills, given.seed)
    print(
        f"{moments.pop('done')} runs got through, each in the same bits as the undisturbed one; killed "
        + ", ".join(f"{count} × {moment}" for moment, count in moments.most_common())
    )


if __name__ == "__main__":
    main()
