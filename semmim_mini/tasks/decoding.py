r"""Decoding: from a decoder's probabilities of the next word to a caption (or an answer).

    [CLS] ─► p(word | image)            a ─► p(word | image, a)         red ─► …  ─► [SEP]

| method    | chooses                                                        | good for                                       |
| --------- | -------------------------------------------------------------- | ---------------------------------------------- |
| `greedy`  | the likeliest word, each time                                  | speed; the baseline of self-critical training  |
| `beam`    | keeps the k likeliest unfinished captions                      | scores [F: ALBEF, BLIP, with k = 3]            |
| `nucleus` | a draw from the likeliest words that together reach top_p      | variety [F: Holtzman et al. 2020]              |

All three obey the same rules. [PAD], [CLS], [MASK] and [UNK] are never written; [SEP] ends a caption, and not before `min_length`;
no n-gram comes twice (`no_repeat`); at `max_length` a caption is cut off. Where the rules leave nothing, [SEP] may come.

Each step reads one word per caption: keys and values of the image and of the words before are kept (`model/text_encoder.py:Written`).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semmim_mini.errors import UserError
from semmim_mini.model.text_encoder import CaptionDecoder, Written

METHODS = ("greedy", "beam", "nucleus")
NEVER = float("-inf")


@dataclass(frozen=True)
class Decoding:
    """How captions are written. Lengths are in tokens, with [CLS] and [SEP], as in `data.max_length`."""

    method: str = "beam"  # greedy | beam | nucleus
    beams: int = 3  # k, of beam [F: ALBEF, BLIP]
    top_p: float = 0.9  # of nucleus; 1 draws from all words
    temperature: float = 1.0  # of nucleus: below 1 favours likely words
    max_length: int = 24
    min_length: int = 3  # at least one word [C: an empty caption cannot be scored]
    no_repeat: int = 3  # no n-gram of so many tokens comes twice; 0 allows it [C: 3, against loops of weak decoders]
    length_penalty: float = 1.0  # of beam: finished captions are ranked by log p / length^penalty [F: transformers]

    def __post_init__(self):
        def need(ok: bool, name: str, remedy: str) -> None:
            if not ok:
                raise UserError(f"decoding.{name}={getattr(self, name)!r} is impossible: {remedy}")

        for field in fields(self):
            right = type(getattr(self, field.name)) in ((int, float) if field.type is float else (field.type,))
            need(right, field.name, f"needs a value of type {field.type.__name__}")
        need(self.method in METHODS, "method", f"choose one of {', '.join(METHODS)}")
        need(self.beams >= 1, "beams", "needs at least 1")
        need(0 < self.top_p <= 1, "top_p", "needs a share above 0, up to 1")
        need(0 < self.temperature < float("inf"), "temperature", "needs a number above 0; for the likeliest words take method=greedy")
        need(self.max_length >= 3, "max_length", "[CLS], a word and [SEP] need at least 3")
        need(0 <= self.min_length <= self.max_length, "min_length", f"needs 0 up to max_length={self.max_length}")
        need(self.no_repeat >= 0, "no_repeat", "needs 0 (repeats allowed) or the length of an n-gram")
        need(abs(self.length_penalty) < float("inf"), "length_penalty", "needs a finite number; 0 ranks by log p alone")


class Decoded(NamedTuple):
    """Captions of b images."""

    ids: Int[Tensor, "b l"]  # [CLS] … [SEP], then [PAD]
    scores: Float[Tensor, "b"]  # log-probability of the whole caption under the decoder itself, before rules and temperature
    texts: list[str]


class Special(NamedTuple):
    """The tokens that are not words."""

    start: int
    end: int
    pad: int
    never: list[int]  # all but [SEP]

    @classmethod
    def of(cls, tokenizer) -> "Special":
        end = tokenizer.sep_token_id
        return cls(tokenizer.cls_token_id, end, tokenizer.pad_token_id, sorted(set(tokenizer.all_special_ids) - {end}))


@torch.no_grad()
def generate(
    decoder: CaptionDecoder,
    image: Float[Tensor, "b s e"],
    tokenizer,
    decoding: Decoding,
    seen: Bool[Tensor, "b s"] | None = None,
    generator: torch.Generator | None = None,
) -> Decoded:
    """One caption for each row of `image`.

    Args:
        image: the states that the decoder's cross-attention reads: an image's tokens, or a question as the fusion encoder read it.
        seen: which of them are there; None for all.
        generator: of nucleus, on the CPU: the same numbers on every device.

    Raises:
        UserError: captions longer than the decoder has positions for.
    """
    positions = decoder.bert.config.max_position_embeddings
    if decoding.max_length > positions:
        raise UserError(
            f"decoding.max_length={decoding.max_length} is too long: this decoder has {positions} positions; choose at most that"
        )
    special, training = Special.of(tokenizer), decoder.training
    decoder.eval()
    try:
        if decoding.method == "beam":
            ids, scores = beam_search(decoder, image, special, decoding, seen)
        else:
            choose = greedy if decoding.method == "greedy" else nucleus(decoding, len(image), generator)
            ids, scores = one_by_one(decoder, image, special, decoding, seen, choose)
    finally:
        decoder.train(training)
    return Decoded(ids, scores, [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)])


# The rules ------------------------------------------------------------------------------------------------------------


def next_words(decoder: CaptionDecoder, tokens: Int[Tensor, "b t"], written: Written) -> Float[Tensor, "b vocab"]:
    """Log-probabilities of the word after the last one; `written` holds the words before that."""
    return decoder.step(tokens[:, -1:], written)[:, -1].float().log_softmax(dim=-1)


def obey(log_probs: Float[Tensor, "b vocab"], tokens: Int[Tensor, "b t"], special: Special, decoding: Decoding) -> Float[Tensor, "b vocab"]:
    """The same, with −∞ for what may not come after `tokens`."""
    scores = log_probs.masked_fill(repeated(tokens, decoding.no_repeat, log_probs.shape[1]), NEVER)
    scores[:, special.never] = NEVER
    if tokens.shape[1] + 1 < decoding.min_length:
        scores[:, special.end] = NEVER
    stuck = (scores == NEVER).all(dim=1)
    scores[:, special.end] = torch.where(stuck, log_probs[:, special.end], scores[:, special.end])
    return scores


def repeated(tokens: Int[Tensor, "b t"], n: int, vocab: int) -> Bool[Tensor, "b vocab"]:
    """Which words would complete an n-gram that is already there."""
    length, seen = tokens.shape[1], torch.zeros(len(tokens), vocab, dtype=torch.int, device=tokens.device)
    if not 0 < n <= length:
        return seen.bool()
    grams = tokens.unfold(1, n, 1)  # b, places, n
    begun = (grams[..., :-1] == tokens[:, None, length - n + 1 :]).all(dim=-1)  # those that start like the n-gram now begun
    return seen.scatter_add_(1, grams[..., -1], begun.int()) > 0


# Greedy and nucleus: one caption per image ----------------------------------------------------------------------------

Choice = Callable[[Float[Tensor, "b vocab"], int], Int[Tensor, "b"]]  # from log-probabilities and the word's place to the word


def greedy(scores: Float[Tensor, "b vocab"], place: int) -> Int[Tensor, "b"]:
    return scores.argmax(dim=-1)


def nucleus(decoding: Decoding, b: int, generator: torch.Generator | None) -> Choice:
    """Draws from the smallest set of likeliest words whose probability reaches top_p.

    All random numbers are drawn at the start, a row for each caption: how long one caption grows moves no other.
    """
    uniform = torch.rand(b, decoding.max_length, generator=generator).double()

    def choose(scores: Float[Tensor, "b vocab"], place: int) -> Int[Tensor, "b"]:
        share, word = (scores.double() / decoding.temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        before = share.cumsum(dim=-1) - share
        total = share.masked_fill(before >= decoding.top_p, 0.0).cumsum(dim=-1)  # the likeliest word always stays
        drawn = uniform[:, place, None].to(total.device) * total[:, -1:]
        return word.gather(1, torch.searchsorted(total, drawn, right=True)).squeeze(1)

    return choose


def one_by_one(
    decoder: CaptionDecoder, image: Tensor, special: Special, decoding: Decoding, seen: Tensor | None, choose: Choice
) -> tuple[Int[Tensor, "b l"], Float[Tensor, "b"]]:
    """Captions and their log-probabilities, each word final once chosen."""
    b, device = len(image), image.device
    written = decoder.begin(image, seen)
    tokens = torch.full((b, 1), special.start, device=device)
    total, open_ = torch.zeros(b, device=device), torch.ones(b, dtype=torch.bool, device=device)
    while open_.any() and tokens.shape[1] < decoding.max_length:
        log_probs = next_words(decoder, tokens, written)
        word = choose(obey(log_probs, tokens, special, decoding), tokens.shape[1])
        total += log_probs.gather(1, word[:, None]).squeeze(1) * open_
        tokens = torch.cat([tokens, torch.where(open_, word, special.pad)[:, None]], dim=1)
        open_ = open_ & (word != special.end)
    return tokens, total


# Beam search ----------------------------------------------------------------------------------------------------------


@dataclass
class Finished:
    """The k best finished captions of each image, best first; places not yet taken rank −∞."""

    tokens: Int[Tensor, "b k l"]
    total: Float[Tensor, "b k"]  # log-probability
    rank: Float[Tensor, "b k"]  # the same over length^penalty

    def add(self, tokens: Int[Tensor, "b c t"], total: Float[Tensor, "b c"], rank: Float[Tensor, "b c"]) -> None:
        """Candidates that rank −∞ are none."""
        tokens = F.pad(tokens, (0, self.tokens.shape[2] - tokens.shape[2]))
        self.rank, best = torch.cat([self.rank, rank], dim=1).topk(self.rank.shape[1])
        self.total = torch.cat([self.total, total], dim=1).gather(1, best)
        self.tokens = take(torch.cat([self.tokens, tokens], dim=1), best)


def take(tokens: Int[Tensor, "b c t"], which: Int[Tensor, "b k"]) -> Int[Tensor, "b k t"]:
    return tokens.gather(1, repeat(which, "b k -> b k t", t=tokens.shape[-1]))


def continuations(
    tokens: Int[Tensor, "b k t"], running: Float[Tensor, "b k"], log_probs: Float[Tensor, "bk vocab"], special: Special, decoding: Decoding
) -> tuple[Int[Tensor, "b c u"], Float[Tensor, "b c"], Int[Tensor, "b c"]]:
    """The c = 2k likeliest captions that are one word longer, best first: tokens, log-probabilities, and the beam of each.

    2k, because every beam has but one way to end: if k of them do, k are still left to go on.
    """
    k, vocab = running.shape[1], log_probs.shape[1]
    scores = obey(log_probs, rearrange(tokens, "b k t -> (b k) t"), special, decoding)
    scores = rearrange(scores, "(b k) v -> b k v", k=k) + running[..., None]
    total, place = rearrange(scores, "b k v -> b (k v)").topk(2 * k)
    beam = place // vocab
    return torch.cat([take(tokens, beam), (place % vocab)[..., None]], dim=-1), total, beam


def beam_search(
    decoder: CaptionDecoder, image: Tensor, special: Special, decoding: Decoding, seen: Tensor | None
) -> tuple[Int[Tensor, "b l"], Float[Tensor, "b"]]:
    """The best caption that k beams find, and its log-probability. Rules of choice and of stopping as in transformers [F].

    An image is done when its likeliest unfinished caption ranks below the worst of its k finished ones.
    """
    b, k, longest, device = len(image), decoding.beams, decoding.max_length, image.device
    tokens = torch.full((b, k, 1), special.start, device=device)
    running = torch.full((b, k), NEVER, device=device)
    finished = Finished(torch.full((b, k, longest), special.pad, device=device), running.clone(), running.clone())
    running[:, 0] = 0.0  # beams begin alike: were they all alive, they would stay alike
    undone = torch.ones(b, 1, dtype=torch.bool, device=device)

    written = decoder.begin(image, seen)
    log_probs = repeat(next_words(decoder, tokens[:, 0], written), "b v -> (b k) v", k=k)
    written.repeat(k)
    for words in range(1, longest):  # in each caption, with the one that comes now
        longer, total, beam = continuations(tokens, running, log_probs, special, decoding)
        ended = (longer[..., -1] == special.end) | (words == longest - 1)
        among_best, shrink = torch.arange(2 * k, device=device) < k, words**decoding.length_penalty
        finished.add(longer, total, (total / shrink).masked_fill(~(ended & among_best & undone), NEVER))

        running, on = total.masked_fill(ended, NEVER).topk(k)
        undone = undone & (running[:, :1] / shrink > finished.rank[:, -1:])
        if not undone.any():
            break
        tokens, beam = take(longer, on), beam.gather(1, on)
        written.reorder(rearrange(beam + k * torch.arange(b, device=device)[:, None], "b k -> (b k)"))
        log_probs = next_words(decoder, rearrange(tokens, "b k t -> (b k) t"), written)
    ids = finished.tokens[:, 0]
    return ids[:, : int((ids != special.pad).sum(dim=1).max())], finished.total[:, 0]
