r"""Re-ranking: the nearest candidates by ITC, put in order anew by ITM [F: ALBEF].

    query ─ITC─► c nearest candidates ──► fusion encoder reads each pair ──► log-odds of "matched" ──► new order of the c
                 everything else stays behind them, in ITC's order

ITC compares two vectors that were made apart, so it ranks a million answers in a blink; ITM looks at words and patches together, and
costs half a BERT per pair. With 5,000 images and 25,000 captions all pairs would be 125 million, the 256 nearest of every query, both
ways, are under 8 million.

What makes that fit:
    candidates   found block by block; of each block only those that are still among the c best survive
    pairs        a pair that both directions ask for is read once
    tokens       computed once and kept in 16 bit in ordinary memory while the budget lasts, else image by image and text by text again
    images       all texts of an image are read together, so that its keys and values are computed once, not once per text

Order. ALBEF goes by the logit of "matched" alone, BLIP adds the cosine [F]. Here it is the log-odds of "matched", because one logit means
little without the other, plus the ITC logit, cosine / τ [C]: hard negatives are drawn in proportion to exp(cosine / τ), so that a matcher
trained on them learns how much likelier a pair is than ITC *already thinks*, and forgets the rest. The order by log-odds alone is reported
beside it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.text_encoder import FusionEncoder

MEMORY = 4 * 2**30  # bytes for stored tokens; COCO's 5,000 test images at 224 px and their captions take 3 GB at width 768
_INDEX = 2**31 - 1  # the largest place of a candidate


def blocks(count: int, size: int) -> Iterator[slice]:
    """`count` things in slices of at most `size`."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


# Candidates ---------------------------------------------------------------------------------------------------------------


class Candidates(NamedTuple):
    """The c nearest answers of each query, nearest first."""

    index: Int[Tensor, "q c"]
    similarity: Float[Tensor, "q c"]
    right: Bool[Tensor, "q c"]


@torch.no_grad()
def nearest(
    queries: Float[Tensor, "q p"],
    keys: Float[Tensor, "s p"],
    query_ids: Int[Tensor, "q"],
    key_ids: Int[Tensor, "s"],
    c: int,
    block: int = 1024,
) -> Candidates:
    """Candidates from blocks of similarities, at most `block` × 8 `block` at once.

    Where several score the same and not all have room, wrong answers are taken before right ones (ties count against the model) and
    early ones before late ones (so that the size of the blocks changes nothing).
    """
    found = []
    for rows in blocks(len(queries), block):
        best = torch.empty(len(queries[rows]), 0, dtype=torch.long, device=queries.device)
        for columns in blocks(len(keys), 8 * block):
            right = query_ids[rows, None] == key_ids[None, columns]
            similarity = queries[rows].float() @ keys[columns].float().T
            best = torch.cat([best, _sortable(similarity, right, columns.start)], dim=1)
            best = best.topk(min(c, best.shape[1]), dim=1).values
        found.append(best)
    return _unpacked(torch.cat(found))


def _sortable(similarity: Float[Tensor, "q s"], right: Bool[Tensor, "q s"], start: int) -> Int[Tensor, "q s"]:
    """One whole number per candidate that sorts by similarity, then wrong before right, then early before late.

    The bits of a positive float, read as a whole number, grow with it; those of a negative one shrink, and are turned round. NaN counts
    against the model: highest for wrong answers, lowest for right ones.
    """
    infinite = torch.where(right, float("-inf"), float("inf"))
    bits = (torch.where(similarity.isnan(), infinite, similarity) + 0.0).view(torch.int32).long()  # + 0.0 makes −0 equal to 0
    bits = torch.where(bits < 0, bits ^ _INDEX, bits)
    place = torch.arange(start, start + similarity.shape[1], device=similarity.device)
    return (bits << 32) | ((~right).long() << 31) | (_INDEX - place)


def _unpacked(packed: Int[Tensor, "q c"]) -> Candidates:
    bits = packed >> 32
    similarity = torch.where(bits < 0, bits ^ _INDEX, bits).int().view(torch.float32)
    return Candidates(_INDEX - (packed & _INDEX), similarity, (packed >> 31) & 1 == 0)


def pairs_of_both(
    of_images: Int[Tensor, "i c"], of_texts: Int[Tensor, "t d"]
) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    """The pairs that either direction asks for, each once: images, texts, and what gives their scores back in the shapes of the two."""
    (images, c), (texts, d), device = of_images.shape, of_texts.shape, of_images.device
    wanted = torch.arange(images, device=device)[:, None] * texts + of_images
    asked = of_texts * texts + torch.arange(texts, device=device)[:, None]
    pairs, inverse = torch.cat([wanted.flatten(), asked.flatten()]).unique(return_inverse=True)

    def both(scores: Tensor) -> tuple[Tensor, Tensor]:
        spread = scores[inverse]
        return spread[: images * c].view(images, c), spread[images * c :].view(texts, d)

    return pairs // texts, pairs % texts, both


def reranked(before: Int[Tensor, "q"], candidates: Candidates, scores: Float[Tensor, "q c"]) -> Int[Tensor, "q"]:
    """Rank of each query's best right answer once its candidates are in the order of `scores`; pessimistic about ties, and NaN.

    Without a right answer among them the rank stays: all c are wrong and were ahead before.
    """
    best = scores.masked_fill(~candidates.right, float("-inf")).amax(dim=1, keepdim=True)
    ahead = (~(scores < best) & ~candidates.right).sum(dim=1)
    return torch.where(candidates.right.any(dim=1), 1 + ahead, before)


# Matching -----------------------------------------------------------------------------------------------------------------


def require_matching(model: SemMIM) -> None:
    """A `UserError` where no head was trained to match pairs."""
    if model.config.losses.itm.weight == 0:
        raise UserError("losses.itm.weight is 0 in this checkpoint: no head was trained to match pairs; leave out re-ranking")


@torch.no_grad()
def match_odds(model: SemMIM, text: Float[Tensor, "b l d"], words: Bool[Tensor, "b l"], image: Float[Tensor, "b s e"]) -> Tensor:
    """Log-odds (b,) that row i of `text` belongs to row i of `image`."""
    logits = model.itm_head(model.fusion(text, words, image)[:, 0]).float()
    return logits[:, 1] - logits[:, 0]


@contextmanager
def one_image(fusion: FusionEncoder):
    """While open, all rows of images that `fusion` is given must be the SAME image, whose keys and values are then computed once.

    In cross-attention no word sees another, so the words of all texts may stand in one row: (b, l, d) becomes (1, b · l, d) on the way
    in and (b, l, d) again on the way out. An image has ten times the tokens of a caption, so this is most of the work.
    """
    rows = []

    def together(module, args, named):
        rows.append(len(args[0]))
        image = {"encoder_hidden_states": named["encoder_hidden_states"][:1]}
        return (rearrange(args[0], "b l d -> 1 (b l) d"), *args[1:]), named | image

    def apart(module, args, output):
        return rearrange(output[0], "1 (b l) d -> b l d", b=rows.pop()), *output[1:]

    attentions = [layer.crossattention.self for layer in fusion.encoder.layer]
    hooks = [x.register_forward_pre_hook(together, with_kwargs=True) for x in attentions]
    hooks += [x.register_forward_hook(apart) for x in attentions]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Shelf:
    """Tokens of many things in ordinary memory, in fp16: they come out of layer norms, whose range it holds, with three digits."""

    def __init__(self, count: int, length: int, width: int):
        self.tokens = torch.zeros(count, length, width, dtype=torch.float16)
        self.words = torch.zeros(count, length, dtype=torch.bool)

    @staticmethod
    def bytes(count: int, length: int, width: int) -> int:
        return count * length * (2 * width + 1)

    def put(self, places, tokens: Float[Tensor, "b l d"], words: Bool[Tensor, "b l"] | None = None) -> None:
        length = tokens.shape[1]
        self.tokens[places, :length] = tokens.cpu().half()
        self.words[places, :length] = True if words is None else words.cpu()


class Reranker:
    """Match scores of any pairs of `count` images and their captions.

    `see` and `hear` are called while ITC encodes everything (`retrieval.encode_pairs`), so that nothing is computed twice that fits
    into `memory`. Images come first: computing them again means reading their files again.

    Args:
        memory: bytes for stored tokens.
        batch: texts that are read beside an image at once.

    Raises:
        UserError: the configuration has no ITM, so that its head was never trained.
    """

    def __init__(self, model: SemMIM, tokenizer, pairs: Pairs, count: int, memory: int = MEMORY, batch: int = 128, block: int = 64):
        require_matching(model)
        self.model, self.tokenizer, self.pairs, self.count, self.batch, self.block = model, tokenizer, pairs, count, batch, block
        shape = (count, 1 + model.student.image.side**2, model.config.image.width)
        self.images = Shelf(*shape) if Shelf.bytes(*shape) <= 0.75 * memory else None  # the rest is for texts
        self.memory = memory - (Shelf.bytes(*shape) if self.images else 0)
        self.captions: list[str] = []
        self.texts: Shelf | None = None
        self._seen = (-1, torch.empty(0))  # where the last block begins that was computed again, and its tokens

    def see(self, start: int, tokens: Float[Tensor, "b s e"]) -> None:
        """Tokens of the images from `start` on."""
        if self.images:
            self.images.put(slice(start, start + len(tokens)), tokens)

    def hear(self, captions: list[str]) -> Callable | None:
        """All captions; returns where their tokens are to be put, None if there is no room for all."""
        self.captions, config = captions, self.model.config
        one = Shelf.bytes(1, config.data.max_length, config.text.width)
        self.group = min(len(captions), max(self.block, self.memory // one))  # texts that are in memory at once
        self.texts = self._shelf(self.group) if self.group == len(captions) else None
        return self.texts.put if self.texts else None

    @torch.no_grad()
    def match(self, at_image: Int[Tensor, "pairs"], at_text: Int[Tensor, "pairs"]) -> Float[Tensor, "pairs"]:
        """Log-odds of "matched" of each pair: image by image, all its texts beside it, short ones together."""
        odds = torch.empty(len(at_image), device=at_image.device)
        with one_image(self.model.fusion):
            for group in blocks(len(self.captions), self.group):
                inside = ((at_text >= group.start) & (at_text < group.stop)).nonzero().squeeze(1)
                if len(inside) == 0:
                    continue
                texts = self.texts or self._read(group)
                image, text = at_image[inside].cpu(), at_text[inside].cpu() - group.start
                lengths = texts.words.sum(dim=1)
                order = (image * (1 + lengths.max()) + lengths[text]).argsort()
                for places in order.split(image.bincount()[image.unique()].tolist()):
                    tokens = self._look(int(image[places[0]]))
                    for some in places.split(self.batch):
                        odds[inside[some.to(odds.device)]] = self._odds(texts, text[some], int(lengths[text[some]].max()), tokens)
        return odds

    def _odds(self, texts: Shelf, places: Tensor, longest: int, image: Float[Tensor, "1 s e"]) -> Tensor:
        tokens, words = texts.tokens[places, :longest], texts.words[places, :longest]
        return match_odds(self.model, tokens.to(image), words.to(image.device), image.expand(len(places), -1, -1))

    def _look(self, index: int) -> Float[Tensor, "1 s e"]:
        """Tokens of one image, kept or computed with its neighbours."""
        device = next(self.model.parameters()).device
        if self.images:
            return self.images.tokens[index : index + 1].to(device).float()
        start = index // self.block * self.block
        if self._seen[0] != start:
            view, stop = CenterView(self.model.config.data.resolution), min(start + self.block, self.count)
            pixels = torch.stack([view(self.pairs[i]).pixels for i in range(start, stop)])
            self._seen = start, self.model.student.image(pixels.to(device)).half()
        return self._seen[1][index - start :][:1].float()

    def _read(self, group: slice) -> Shelf:
        """Tokens of some captions, computed again."""
        shelf, device = self._shelf(group.stop - group.start), next(self.model.parameters()).device
        for some in blocks(group.stop - group.start, 256):
            captions = self.captions[group][some]
            ids, words = tokenize(self.tokenizer, captions, self.model.config.data.max_length)
            shelf.put(some, self.model.student.text(ids.to(device), words.to(device)), words)
        return shelf

    def _shelf(self, count: int) -> Shelf:
        return Shelf(count, self.model.config.data.max_length, self.model.config.text.width)
