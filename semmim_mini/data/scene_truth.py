r"""From true pixels to true patches: which object a patch shows, and whether a caption names it.

A patch on the rim of an object is part object, part background. A plain majority would give most rims to the background and
lose thin things (a fork, a flute) altogether, so an object already wins a patch of which it covers at least a third [C].
"""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Bool, Int
from torch import Tensor

from semmim_mini.data.pairs import BACKGROUND, SceneTruth
from semmim_mini.errors import UserError

OBJECT_SHARE = 1 / 3  # of a patch that an object must cover to own it


def patch_objects(object_map: Int[Tensor, "*v 1 h w"], patch_size: int) -> Int[Tensor, "*v n"]:
    """The object that each patch shows: BACKGROUND, or 1 + its index. Patches run row by row, as the image encoder reads them.

    Among the objects of a patch the one that covers most pixels wins, the lower value on a tie, provided that it covers at
    least a third of the patch; otherwise the patch is background.

    Args:
        object_map: as in `SceneTruth.object_map`; any number of leading dimensions (views, batch).
        patch_size: px.

    Raises:
        UserError: if the patch size does not divide the sides of the map.
    """
    height, width = object_map.shape[-2:]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise UserError(f"patch_size={patch_size} does not divide an object map of {height}×{width} px; choose a divisor of both sides")
    plain = object_map.as_subclass(Tensor).long()  # a tv_tensors.Mask cut into patches is no mask any more
    pixels = rearrange(plain, "... 1 (i p) (j q) -> ... (i j) (p q)", p=patch_size, q=patch_size)
    cover = reduce(F.one_hot(pixels, max(2, int(plain.max()) + 1)), "... n pixels value -> ... n value", "sum")[..., 1:]
    most, winner = cover.max(-1)
    return torch.where(most >= OBJECT_SHARE * patch_size**2, winner + 1, BACKGROUND)


def named_patches(
    truth: SceneTruth, caption_index: int, patch_size: int, object_map: Int[Tensor, "*v 1 h w"] | None = None
) -> Bool[Tensor, "*v n"]:
    """True for the patches that show an object which caption `caption_index` names.

    Args:
        truth: of the scene.
        caption_index: into the scene's captions.
        patch_size: px.
        object_map: of a view of the scene (cropped, mirrored), in place of the scene's own.

    Raises:
        UserError: as `patch_objects`.
    """
    named = {1 + index for mention in truth.mentions[caption_index] for index in mention.objects}
    shown = patch_objects(truth.object_map if object_map is None else object_map, patch_size)
    return torch.isin(shown, torch.tensor(sorted(named), device=shown.device))
