"""Held-out pairs as batches: one clean view, one caption each, truth kept alongside."""

from dataclasses import dataclass

import torch
from torch import Tensor

from semmim_mini.data.pairs import Pair, Pairs
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView


@dataclass
class HeldOut:
    """A batch that `SemMIMStep.teach` and the masker can read, with the pairs it was made from."""

    images: Tensor  # (2, b, 3, h, w): the same clean view twice, because a step reads two
    input_ids: Tensor
    attention_mask: Tensor
    image_ids: Tensor
    pairs: list[Pair]
    object_maps: list[Tensor | None]  # truth at the view's geometry
    chosen: list[int]  # which caption of each pair was read

    def with_captions_of_neighbours(self) -> "HeldOut":
        """The same images, each with the caption of the next one: wrong, but just as well formed."""
        roll = {name: getattr(self, name).roll(1, dims=0) for name in ("input_ids", "attention_mask")}
        return HeldOut(**{**self.__dict__, **roll})


def held_out_batches(pairs: Pairs, tokenizer, *, resolution: int, max_length: int, count: int, batch: int = 64, device="cpu"):
    """Yield `HeldOut` batches of the first `count` pairs. Pair i is read with caption i mod its number of captions."""
    with_truth = pairs[0].truth is not None
    view = CenterView(resolution, with_truth)
    count = min(count, len(pairs))
    for start in range(0, count, batch):
        places = range(start, min(start + batch, count))
        chunk = [pairs[i] for i in places]
        seen = [view(pair) for pair in chunk]
        chosen = [i % len(pair.captions) for i, pair in zip(places, chunk, strict=True)]
        ids, words = tokenize(tokenizer, [pair.captions[c] for pair, c in zip(chunk, chosen, strict=True)], max_length)
        images = torch.stack([image for image, _ in seen]).to(device)
        yield HeldOut(
            images=images.expand(2, *images.shape),
            input_ids=ids.to(device),
            attention_mask=words.to(device),
            image_ids=torch.tensor([pair.image_id for pair in chunk], device=device),
            pairs=chunk,
            object_maps=[truth for _, truth in seen],
            chosen=chosen,
        )
