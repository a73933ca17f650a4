r"""Parts of this kit beside the same parts of well-kept libraries, in one run, on the same tensors.

    python -m semmim_mini.bench.peers --preset base --set data.batch_size=8 --out peers.json

| part | here | beside |
| --- | --- | --- |
| image encoder, forward and backward | `ImageEncoder` without text | timm's `VisionTransformer` of the same size |
| agreement of two views | centred targets, `consensus_loss` | lightly's `DINOLoss` |
| MIM on codes, from directions and prototypes | centred targets, `code_loss_in_chunks` | lightly's `IBOTPatchLoss` on the products |
| the same, chunks or not | `code_loss_in_chunks` | `code_loss` on the products |

Tests prove both of a pair equal; here they are held against each other in time and peak memory. Readable code may cost something: this
says how much. Both are ready before the clock starts, take turns, and end with gradients at their inputs.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from semmim_mini.bench.meters import median_seconds, peak_bytes
from semmim_mini.config import Config, override
from semmim_mini.errors import UserError
from semmim_mini.model.image_encoder import ImageEncoder
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.objectives.code_loss_in_chunks import code_loss_in_chunks
from semmim_mini.objectives.masked_image import code_loss
from semmim_mini.objectives.targets import centred_targets, update_center
from semmim_mini.presets import preset
from semmim_mini.training.checkpoint import write_text

TEACHER_TEMPERATURE = 0.04


@dataclass(frozen=True)
class Pair:
    """Two ways to the same result; each runs forward and backward and returns its loss."""

    name: str
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    beside: str


def pairs_of(config: Config, device: torch.device) -> list[Pair]:
    """All pairs at the sizes of `config`.

    Raises:
        UserError: timm or lightly is not installed.
    """
    return [_encoders(config, device), _agreement(config, device), *_mim(config, device)]


def compare(config: Config, device: torch.device, repeats: int = 5) -> list[dict]:
    """Per pair the seconds and peak bytes of both, and the ratios ours/theirs."""
    found = []
    for pair in pairs_of(config, device):
        both = {"ours": pair.ours, "theirs": pair.theirs}
        seconds, memory = median_seconds(both, device, repeats), {name: peak_bytes(call, device) for name, call in both.items()}
        ratios = {"time": seconds["ours"] / seconds["theirs"], "memory": memory["ours"] / memory["theirs"]}
        found.append({"part": pair.name, "beside": pair.beside, "seconds": seconds, "peak_bytes": memory, **ratios})
    return found


def _encoders(config: Config, device: torch.device) -> Pair:
    VisionTransformer = _library("timm.models.vision_transformer", "timm").VisionTransformer
    image, data = config.image, config.data
    ours = ImageEncoder(image, data.resolution, config.text.width).to(device)
    theirs = VisionTransformer(
        data.resolution, image.patch, embed_dim=image.width, depth=image.depth, num_heads=image.heads, mlp_ratio=image.mlp_ratio,
        num_classes=0,
    ).to(device)  # fmt: skip
    images = torch.randn(data.batch_size, 3, data.resolution, data.resolution, device=device)

    def run(model: torch.nn.Module, tokens: Callable[[Tensor], Tensor]) -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = tokens(images).square().mean()
        loss.backward()
        return loss

    name = f"image encoder, {image.depth} layers of {image.width}, {config.n_patches} patches, {data.batch_size} images"
    return Pair(name, lambda: run(ours, ours), lambda: run(theirs, theirs.forward_features), "timm VisionTransformer")


def _agreement(config: Config, device: torch.device) -> Pair:
    k, b = config.space.prototypes, config.data.batch_size
    theirs = _library("lightly.loss", "lightly").DINOLoss(output_dim=k, student_temp=config.teacher.student_temperature).to(device)
    teacher = [torch.randn(b, k, device=device) for _ in range(2)]
    student = [torch.randn(b, k, device=device, requires_grad=True) for _ in range(2)]
    center = torch.zeros(k, device=device)

    def ours() -> Tensor:
        taught, said = torch.stack(teacher), torch.stack(student)
        loss = consensus_loss(said, centred_targets(taught, center, TEACHER_TEMPERATURE), config.teacher.student_temperature)
        center.copy_(update_center(center, taught.mean(dim=(0, 1))))
        return _back(loss, student)

    name = f"agreement of two views of {b} images over {k} prototypes"
    return Pair(name, ours, lambda: _back(theirs(teacher, student, TEACHER_TEMPERATURE), student), "lightly DINOLoss")


def _mim(config: Config, device: torch.device) -> list[Pair]:
    """From directions and prototypes, because logits are what is to be avoided."""
    space, tau = config.space, config.teacher.student_temperature
    k, hidden = space.prototypes, max(1, round(config.n_patches * sum(config.masking.ratio) / 2))
    theirs = _library("lightly.loss", "lightly").IBOTPatchLoss(output_dim=k, student_temp=tau).to(device)
    mask = torch.zeros(config.data.batch_size, 1, config.n_patches, dtype=torch.bool, device=device)  # lightly wants rows and columns
    mask[..., :hidden] = True
    m = int(mask.sum())
    taught, said, prototypes = (F.normalize(torch.randn(rows, space.bottleneck, device=device), dim=-1) for rows in (m, m, k))
    leaves = [said.requires_grad_(), prototypes.requires_grad_()]
    first, second, third = (torch.zeros(k, device=device) for _ in range(3))  # centres, which move with every call

    def target(center: Tensor) -> Tensor:
        with torch.no_grad():
            logits = taught @ prototypes.T
            targets = centred_targets(logits, center, TEACHER_TEMPERATURE)
            center.copy_(update_center(center, logits.mean(dim=0)))
            return targets

    def lightly() -> Tensor:
        with torch.no_grad():
            logits = taught @ prototypes.T
        return _back(theirs(logits, said @ prototypes.T, mask, TEACHER_TEMPERATURE), leaves)

    def chunks(center: Tensor) -> Tensor:
        return _back(code_loss_in_chunks(said, prototypes, target(center), tau), leaves)

    def whole() -> Tensor:
        return _back(code_loss(said @ prototypes.T, target(third), tau), leaves)

    name = f"MIM on codes, {m} patches over {k} prototypes"
    return [
        Pair(name, lambda: chunks(first), lightly, "lightly IBOTPatchLoss"),
        Pair(f"{name}, in chunks", lambda: chunks(second), whole, "all logits at once"),
    ]


def _back(loss: Tensor, leaves: list[Tensor]) -> Tensor:
    for leaf in leaves:
        leaf.grad = None
    loss.backward(inputs=leaves)
    return loss.detach()


def _library(module: str, package: str):
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f'{package} is not installed, and there is nothing to compare with; pip install "semmim-mini[dev]"') from error


def as_table(found: list[dict]) -> str:
    lines = ["ratios here/there, forward and backward; below 1 is faster, or smaller"]
    return "\n".join([*lines, *(f"{x['time']:.2f} × time, {x['memory']:.2f} × memory of {x['beside']}: {x['part']}" for x in found)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m semmim_mini.bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, of which the median counts (5)")
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    given = parser.parse_args(arguments)
    torch.manual_seed(0)
    try:
        config = override(preset(given.preset), given.settings)
        found = compare(config, torch.device("cuda" if torch.cuda.is_available() else "cpu"), given.repeats)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(as_table(found))
    if given.out is not None:
        write_text(given.out, json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "pairs": found}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
