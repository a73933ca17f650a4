r"""A pre-trained SemMIM into one of another shape: other resolution, other heads.

    checkpoint ──► same name, same shape ──────────────► taken
              ├──► image positions of another grid ────► interpolated
              ├──► text positions, more or fewer ──────► as many as both have
              ├──► prototypes, more or fewer ──────────► left behind: they are placed anew
              ├──► no place in the new model (memory) ─► left behind
              └──► the new model's own ────────────────► stay at their first random values, and are named

The answer decoder is new in fine-tuning; it starts from the caption decoder where the checkpoint has one [F: BLIP, whose
decoders all start from the pre-trained one].
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM

_IMAGE_POSITIONS = "image.positions"
_TEXT_POSITIONS = "embeddings.position_embeddings.weight"
_LEFT_BEHIND = ("memory.", "codebook")


def resize_positions(positions: Float[Tensor, "tokens d"], side: int, smooth: bool = True) -> Float[Tensor, "other d"]:
    """Position embeddings of a square grid, [CLS] first, for a grid of `side` × `side` patches.

    Bicubic, smoothed when the grid shrinks [F: DINOv2, timm]. What a patch two thirds down knows about its place, the patch two thirds
    down knows in any grid. [CLS] has no place and keeps its own. Without `smooth`, as transformers' own models do it.
    """
    cls, grid = positions[:1], positions[1:]
    old = round(len(grid) ** 0.5)
    if old == side:
        return positions
    grid = rearrange(grid.float(), "(i j) d -> 1 d i j", i=old)
    grid = F.interpolate(grid, (side, side), mode="bicubic", antialias=smooth, align_corners=False)
    return torch.cat([cls, rearrange(grid, "1 d i j -> (i j) d").to(cls.dtype)])


@torch.no_grad()
def transfer(model: SemMIM, tensors: dict[str, Tensor]) -> list[str]:
    """Fill `model` from the weights of a checkpoint; returns the parts that stay random, as "decoder", "itm_head".

    Raises:
        UserError: a weight that both have, of shapes that cannot be reconciled (another width, patch size or vocabulary).
    """
    own = model.state_dict()
    if model.answerer is not None:  # a decoder of captions knows how to write answers
        written = {name.replace("decoder.", "answerer.", 1): value for name, value in tensors.items() if name.startswith("decoder.")}
        tensors = written | tensors
    taken = {
        name: _fitting(name, value, own[name], model.student.image.side)
        for name, value in tensors.items()
        if name in own and not name.startswith(_LEFT_BEHIND) and not _other_prototypes(value, own[name], name)
    }
    model.load_state_dict(taken, strict=False)
    filled = {own[name].data_ptr() for name in taken}  # of tied weights a checkpoint holds one name; their place in memory is the same
    return sorted({_part(name) for name, parameter in model.named_parameters() if parameter.data_ptr() not in filled})


def _part(name: str) -> str:
    """What a person calls the network that a weight belongs to: "decoder", "student.space"."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] in ("student", "teacher") else 1])


def _other_prototypes(theirs: Tensor, ours: Tensor, name: str) -> bool:
    return name.endswith(".prototypes") and len(theirs) != len(ours)


def _fitting(name: str, theirs: Tensor, ours: Tensor, side: int) -> Tensor:
    if name.endswith(_IMAGE_POSITIONS) and theirs.shape[1:] == ours.shape[1:]:
        return resize_positions(theirs, side)
    if name.endswith(_TEXT_POSITIONS) and theirs.shape[1:] == ours.shape[1:]:
        both = min(len(theirs), len(ours))
        return torch.cat([theirs[:both], ours[both:]])
    if theirs.shape != ours.shape:
        raise UserError(
            f"{name} has shape {tuple(theirs.shape)} in the checkpoint and {tuple(ours.shape)} in this configuration; "
            "width, depth, patch size and vocabulary must be the checkpoint's"
        )
    return theirs
