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
        """The same images, each with the next caption that reads differently: wrong, but just as well formed."""
        b = len(self.input_ids)
        others = (torch.arange(b)[:, None] + torch.arange(1, b + 1)) % b  # row i: i + 1, i + 2, … and at last i itself
        differs = (self.input_ids[others] != self.input_ids[:, None]).any(dim=-1).cpu()
        nearest = others[torch.arange(b), differs.int().argmax(dim=1)].to(self.input_ids.device)
        wrong = {name: getattr(self, name)[nearest] for name in ("input_ids", "attention_mask")}
        return HeldOut(**{**self.__dict__, **wrong})


def held_out_batches(pairs: Pairs, tokenizer, *, resolution: int, max_length: int, count: int, batch: int = 64, device="cpu"):
    """Yield `HeldOut` batches of the first `count` pairs. Pair i is read with caption i mod its number of captions.

    A last pair that would stand alone joins the batch before it: alone it would have no neighbour with another caption.
    """
    with_truth = pairs[0].truth is not None
    view = CenterView(resolution, with_truth)
    count = min(count, len(pairs))
    starts = [start for start in range(0, count, batch) if start == 0 or count - start > 1]
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        places = range(start, end)
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


def caption_twins(batch: HeldOut, tokenizer, max_length: int) -> tuple[HeldOut, HeldOut]:
    """The pictures that have two captions naming different objects (photos: two captions), read with the one and with the other."""
    choices = [(row, twins) for row, pair in enumerate(batch.pairs) if (twins := _twins(pair)) is not None]
    if not choices:
        return batch, batch.with_captions_of_neighbours()
    rows = [row for row, _ in choices]
    return tuple(_read(batch, rows, [twins[i] for _, twins in choices], tokenizer, max_length) for i in (0, 1))


def _twins(pair) -> tuple[int, int] | None:
    """The first two captions that name something each, and nothing in common."""
    if pair.truth is None:
        return (0, 1) if len(pair.captions) > 1 else None
    names = [{i for mention in mentions for i in mention.objects} for mentions in pair.truth.mentions]
    every = ((a, b) for a in range(len(names)) for b in range(a + 1, len(names)))
    return next(((a, b) for a, b in every if names[a] and names[b] and not names[a] & names[b]), None)


def _read(batch: HeldOut, rows: list[int], chosen: list[int], tokenizer, max_length: int) -> HeldOut:
    """Some rows of a batch, read with other captions."""
    pairs = [batch.pairs[row] for row in rows]
    ids, words = tokenize(tokenizer, [pair.captions[c] for pair, c in zip(pairs, chosen, strict=True)], max_length)
    device = batch.images.device
    return HeldOut(
        images=batch.images[:, rows],
        input_ids=ids.to(device),
        attention_mask=words.to(device),
        image_ids=batch.image_ids[rows],
        pairs=pairs,
        object_maps=[batch.object_maps[row] for row in rows],
        chosen=chosen,
    )
