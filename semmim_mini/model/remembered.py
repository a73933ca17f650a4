r"""What frozen layers said of a picture, kept for when the same picture comes again.

    picture ─► seen before, pixel for pixel? ─┬─ yes ─► what the frozen layers said then
                                              └─ no ──► frozen layers ─► kept, while there is room

A pre-trained image encoder whose first layers are held (`image.freeze`) computes the same thing for the same picture in every epoch. On a
machine without a GPU that is most of the time of a run: ten of a ViT-S/14's layers cost more than the text encoder and everything that is
trained. A text encoder that learns to fit images that stand still is known as locked-image tuning [F: LiT].

A picture is known by its pixels and by nothing else, so flips are pictures of their own, and an answer is never that of another view.
What it takes is few different views: `data.crop_scale=[1,1]` and `data.randaugment=false`; a random crop never comes again, and then
nothing is gained and room is lost. Ids of the data set would be quicker to look up, and wrong as soon as a view changes.

All held layers of a clean picture that reads no text are remembered, also those above m, where text would enter; and the notes that they
leave for a readout.

Not stored with checkpoints: a resumed run fills it anew, and rounds differently in the seventh digit where pictures come in batches of
another size. `semmim-mini plan` counts as if nothing was remembered, as it is in the first epochs.
"""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


class Remembered:
    """Tokens of pictures by their pixels, in the memory of the CPU.

    Args:
        mebibytes: room; when it is full, what is new is computed and not kept.
    """

    def __init__(self, mebibytes: int):
        self.room = mebibytes * 2**20
        self.known: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "b 3 h w"], say: Callable[[Tensor], Tensor]) -> Float[Tensor, "b tokens d"]:
        """`say(images)`, computed for those that are new only.

        Args:
            say: from images to tokens; must depend on nothing that changes, and treat every image by itself.
        """
        keys = [hashlib.blake2b(image.view(torch.uint8).numpy(), digest_size=16).digest() for image in images.cpu().contiguous()]
        new = {key: at for at, key in enumerate(keys) if key not in self.known}  # one place of each, if a picture comes twice
        fresh = dict(zip(new, say(images[list(new.values())]), strict=True)) if new else {}
        for key, tokens in fresh.items():
            if (size := tokens.numel() * tokens.element_size()) <= self.room:
                self.room -= size
                self.known[key] = tokens.to("cpu", copy=True)  # by itself: a view would hold its whole batch
        return torch.stack([(fresh[key] if key in fresh else self.known[key]).to(images.device, non_blocking=True) for key in keys])
