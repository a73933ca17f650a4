r"""Two real processes for notebook 13: what has to travel between them so that together they compute what one would.

    process 0   first half of the rows  ─► features ─┐ gather ┌─► its rows of ITC ─► gradient ─┐
                                                     ├────────┤                                ├─► average, as DDP takes it
    process 1   second half of the rows ─► features ─┘        └─► its rows of ITC ─► gradient ─┘

The encoder is a single matrix, so that nothing but the loss and what travels decides. Whole steps are compared in the same way by
tests/training/test_processes.py.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from semmim_mini.objectives.contrastive import itc_loss
from semmim_mini.training import processes
from semmim_mini.training.together import joined, start_together

WORLD = 2
WAYS = ("alone", "keys without gradient", "gathered")
TEMPERATURE = 0.07
SECONDS = 120  # both together; alone they take a few


def two_processes(weight: Float[Tensor, "d p"], images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> dict[str, Tensor]:
    """The gradient of `weight` by ITC, averaged over two processes that have half of the rows each, for each of `WAYS`.

    Raises:
        RuntimeError: they waited for each other for `SECONDS`; they were ended.
    """
    with tempfile.TemporaryDirectory() as folder:
        save_file({"weight": weight.detach(), "images": images, "texts": texts}, Path(folder) / "given.safetensors")
        start_together(_one_of_two, (folder,), WORLD, SECONDS)
        return load_file(Path(folder) / "found.safetensors")


def _one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    with joined(folder, rank, WORLD, SECONDS):
        given = load_file(Path(folder) / "given.safetensors")
        found = {way: _gradient(given, way) for way in WAYS}
        if rank == 0:
            save_file(found, Path(folder) / "found.safetensors")


def _gradient(given: dict[str, Tensor], way: str) -> Tensor:
    """This process's gradient, averaged with the other's."""
    weight = given["weight"].clone().requires_grad_()
    ids = torch.arange(len(given["images"]))
    image, text = (F.normalize(processes.own_slice(given[name]) @ weight, dim=-1) for name in ("images", "texts"))
    own = processes.own_slice(ids)
    if way == "alone":
        image_keys, text_keys, key_ids = image, text, own
    else:
        image_keys, text_keys, key_ids = processes.gather(image), processes.gather(text), ids
    if way == "keys without gradient":
        image_keys, text_keys = image_keys.detach(), text_keys.detach()
    itc_loss(image, text, image_keys, text_keys, own, key_ids, TEMPERATURE).backward()
    return processes.average(weight.grad)
