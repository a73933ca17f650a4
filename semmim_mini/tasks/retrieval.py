r"""Image–text retrieval: which caption belongs to this image, which image to this caption [S: the paper evaluates it].

Protocol [F: Karpathy splits, ALBEF]. n images with their captions (five each in COCO and Flickr); every image ranks all captions
and is right at K if *any* of its own is among the first K; every caption ranks all images. R@K is the share that is right.
Chance for R@1 is 1/n for captions and, because an image has several right answers, about captions-per-image/number-of-captions,
which is also 1/n. COCO's 5,000 test images are ranked all together ("5k") or in five folds of 1,000, whose figures are averaged ("1k").

    all ──── ITC: features of each side alone, one product per pair ────► order of all ──► R@K
    top c ── ITM: the fusion encoder reads both sides of the pair ──────► new order of the first c (`reranking.py`)

Ties count against the model: an answer is ranked behind everything that scores the same. A model that returns one constant would
otherwise be perfect or not by the order of the file.
"""

from collections import Counter
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import Encoders, SemMIM
from semmim_mini.tasks.reranking import MEMORY, Reranker, blocks, nearest, pairs_of_both, reranked

# Features and ids ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def image_features(encoders: Encoders, images: Tensor) -> Float[Tensor, "b p"]:
    """ITC features of images (text-free [CLS])."""
    return encoders.project_image(encoders.image(images)[:, 0])


@torch.no_grad()
def text_features(
    encoders: Encoders, tokenizer, captions: list[str], max_length: int, batch: int = 256, keep: Callable | None = None
) -> Float[Tensor, "t p"]:
    """ITC features of captions. Sorted by length inside, so that short captions are not padded to long ones.

    Args:
        keep: called with the places of a batch, its features of all tokens (b, l, d) and which are words, for whoever needs them, too.
    """
    device = next(encoders.parameters()).device
    order = sorted(range(len(captions)), key=lambda i: len(captions[i]))
    features = torch.empty(len(captions), encoders.text_projection.out_features, device=device)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        ids, words = tokenize(tokenizer, [captions[i] for i in places], max_length)
        tokens = encoders.text(ids.to(device), words.to(device))
        features[places] = encoders.project_text(tokens[:, 0])
        if keep is not None:
            keep(places, tokens, words)
    return features


@torch.no_grad()
def encode_pairs(
    encoders: Encoders,
    tokenizer,
    pairs: Pairs,
    resolution: int,
    max_length: int,
    limit: int | None = None,
    batch: int = 64,
    reranker: Reranker | None = None,
) -> dict[str, Tensor]:
    """Features and ids of the first `limit` images and all their captions; `owners` are the images' places, one per caption.

    A `reranker` is shown all tokens while they are at hand.
    """
    device, view = next(encoders.parameters()).device, CenterView(resolution)
    count = min(len(pairs), limit or len(pairs))
    images, captions, owners, image_ids = [], [], [], []
    for start in range(0, count, batch):
        chunk = [pairs[i] for i in range(start, min(start + batch, count))]
        tokens = encoders.image(torch.stack([view(pair).pixels for pair in chunk]).to(device))
        images.append(encoders.project_image(tokens[:, 0]))
        if reranker is not None:
            reranker.see(start, tokens)
        for pair in chunk:
            captions += pair.captions
            owners += [len(image_ids)] * len(pair.captions)
            image_ids.append(pair.image_id)
    keep = reranker.hear(captions) if reranker is not None else None
    ids, owners = torch.tensor(image_ids, device=device), torch.tensor(owners, device=device)
    text = text_features(encoders, tokenizer, captions, max_length, keep=keep)
    return {"image": torch.cat(images), "text": text, "image_ids": ids, "text_ids": ids[owners], "owners": owners}


# Ranks --------------------------------------------------------------------------------------------------------------------


def ranks(
    queries: Float[Tensor, "q p"],
    keys: Float[Tensor, "s p"],
    query_ids: Int[Tensor, "q"],
    key_ids: Int[Tensor, "s"],
    block: int = 1024,
) -> Int[Tensor, "q"]:
    """Rank of each query's best right answer, from blocks of similarities: at most `block` × 8 `block` of them at once.

    A right answer's rank is one more than the number of WRONG answers that score at least as high: pessimistic about ties.
    """
    found = []
    for rows in blocks(len(queries), block):
        best, ahead = queries.new_full((len(queries[rows]), 1), float("-inf")), 0
        for columns in blocks(len(keys), 8 * block):  # first the best right answer of all blocks, then who is ahead of it
            right = query_ids[rows, None] == key_ids[None, columns]
            similarity = queries[rows].float() @ keys[columns].float().T
            best = torch.maximum(best, similarity.masked_fill(~right, float("-inf")).amax(dim=1, keepdim=True))
        for columns in blocks(len(keys), 8 * block):
            right = query_ids[rows, None] == key_ids[None, columns]
            similarity = queries[rows].float() @ keys[columns].float().T
            ahead = ahead + (~(similarity < best) & ~right).sum(dim=1)  # not `>=`: NaN must count against the model too
        found.append(1 + ahead)
    return torch.cat(found)


def describe(rank: Int[Tensor, "q"]) -> dict[str, float]:
    """R@1, R@5, R@10 and the median of ranks."""
    rank = rank.float()
    return {f"r{k}": (rank <= k).float().mean().item() for k in (1, 5, 10)} | {"median_rank": rank.median().item()}


def recalls(queries, keys, query_ids, key_ids, block: int = 1024) -> dict[str, float]:
    """`describe` of `ranks`."""
    return describe(ranks(queries, keys, query_ids, key_ids, block))


def chance(own: list[int], total: int) -> dict[str, float]:
    """What `describe` gives on average for a random order of `total` answers, of which `own[i]` are right for query i.

    By counting: the first k are all wrong with probability w/t · (w − 1)/(t − 1) · …, k factors, w of t answers being wrong.
    """
    place, hit = torch.arange(total, dtype=torch.float64), torch.zeros(total, dtype=torch.float64)
    for right, queries in Counter(own).items():
        missed = ((total - right - place) / (total - place)).clamp_min(0).cumprod(dim=0)
        hit += (1 - missed) * queries / len(own)
    median = 1.0 + (hit < 0.5 - 1e-12).sum().item()
    return {f"r{k}": hit[min(k, total) - 1].item() for k in (1, 5, 10)} | {"median_rank": median}


# Evaluation ---------------------------------------------------------------------------------------------------------------


def evaluate_retrieval(
    model: SemMIM,
    tokenizer,
    pairs: Pairs,
    limit: int | None = None,
    rerank: int = 0,
    fold: int | None = None,
    memory: int = MEMORY,
) -> dict:
    """Retrieval by the student, zero-shot or fine-tuned, both directions, beside what chance would give.

    Args:
        limit: images looked at, the first of `pairs`.
        rerank: c, how many of the nearest ITM puts in order anew; 0 for ITC alone [F: ALBEF, 256 for COCO and 128 for Flickr30k].
        fold: images that are ranked together: 1,000 is the 1k protocol. Figures are means over the folds; images left over are not used.
        memory: bytes that stored tokens may take while re-ranking; what exceeds it is computed again.

    Returns:
        ITC's figures, `chance` of each, and with c > 0 `reranked`, the same after ITM; `by_match_alone` leaves ITC out of the new order
        [F: ALBEF]. `pairs` is how many the fusion encoder read.

    Raises:
        UserError: re-ranking without a trained matching head; a fold larger than the gallery; negative numbers.
    """
    count, data, was_training = min(len(pairs), limit or len(pairs)), model.config.data, model.training
    if fold is not None and not 0 < fold <= count:
        raise UserError(f"fold={fold} needs a number from 1 to {count}, the images of {pairs.name} that are looked at")
    if rerank < 0:
        raise UserError(f"rerank={rerank} needs the number of candidates that ITM orders anew, 0 for none")
    model.eval()
    try:
        reranker = Reranker(model, tokenizer, pairs, count, memory) if rerank else None
        found = encode_pairs(model.student, tokenizer, pairs, data.resolution, data.max_length, count, reranker=reranker)
        starts = range(0, count - (fold or count) + 1, fold or count)
        parts = [_measure(found, start, start + (fold or count), rerank, reranker) for start in starts]
    finally:
        model.train(was_training)
    return _mean(parts) | ({"folds": len(parts)} if fold else {})


@torch.no_grad()
def _measure(found: dict[str, Tensor], first: int, last: int, rerank: int, reranker: Reranker | None) -> dict:
    """The figures of one gallery: images `first` to `last`, and their captions."""
    begin, end = torch.searchsorted(found["owners"].contiguous(), torch.tensor([first, last], device=found["owners"].device)).tolist()
    image, image_ids = found["image"][first:last], found["image_ids"][first:last]
    text, text_ids = found["text"][begin:end], found["text_ids"][begin:end]
    ways = {"image_to_text": (image, text, image_ids, text_ids), "text_to_image": (text, image, text_ids, image_ids)}
    before = {way: ranks(*sides) for way, sides in ways.items()}
    captions = torch.bincount(found["owners"][begin:end] - first, minlength=last - first).tolist()
    result = {way: describe(rank) for way, rank in before.items()} | {
        "n_images": len(image),
        "n_texts": len(text),
        "chance_r1": 1 / len(image),
        "chance": {"image_to_text": chance(captions, len(text)), "text_to_image": chance([1] * len(text), len(image))},
    }
    if reranker is not None:
        candidates = {way: nearest(*sides, rerank) for way, sides in ways.items()}
        at_image, at_text, both = pairs_of_both(*(candidates[way].index for way in ways))
        odds, tau = both(reranker.match(first + at_image, begin + at_text)), reranker.model.itc_temperature()

        def order(itc: float) -> dict:
            scores = [x + itc * candidates[way].similarity / tau for way, x in zip(ways, odds, strict=True)]
            return {way: describe(reranked(before[way], candidates[way], x)) for way, x in zip(ways, scores, strict=True)}

        result["reranked"] = {"candidates": rerank, "pairs": len(at_image), **order(1.0), "by_match_alone": order(0.0)}
    return result


def _mean(parts: list[dict]) -> dict:
    """Number by number; whole numbers that all agree stay whole."""
    first = parts[0]
    return {
        key: _mean([part[key] for part in parts])
        if isinstance(value, dict)
        else value
        if all(part[key] == value for part in parts)
        else sum(part[key] for part in parts) / len(parts)
        for key, value in first.items()
    }
