r"""Image–text retrieval: which caption belongs to this image, which image to this caption [S: the paper evaluates it].

Protocol [F: Karpathy splits, ALBEF]. n images with their captions (five each in COCO and Flickr); every image ranks all captions
and is right at K if *any* of its own is among the first K; every caption ranks all images. R@K is the share that is right.
Chance for R@1 is 1/n for captions and, because an image has several right answers, about captions-per-image/number-of-captions,
which is also 1/n.

Ties count against the model: an answer is ranked behind everything that scores the same. A model that returns one constant would
otherwise be perfect or not by the order of the file.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.text import tokenize
from semmim_mini.data.views import CenterView
from semmim_mini.model.semmim import Encoders, SemMIM


@torch.no_grad()
def image_features(encoders: Encoders, images: Tensor) -> Float[Tensor, "b p"]:
    """ITC features of images (text-free [CLS])."""
    return encoders.project_image(encoders.image(images)[:, 0])


@torch.no_grad()
def text_features(encoders: Encoders, tokenizer, captions: list[str], max_length: int, batch: int = 256) -> Float[Tensor, "t p"]:
    """ITC features of captions. Sorted by length inside, so that short captions are not padded to long ones."""
    device = next(encoders.parameters()).device
    order = sorted(range(len(captions)), key=lambda i: len(captions[i]))
    features = torch.empty(len(captions), encoders.text_projection.out_features, device=device)
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        ids, words = tokenize(tokenizer, [captions[i] for i in places], max_length)
        features[places] = encoders.project_text(encoders.text(ids.to(device), words.to(device))[:, 0])
    return features


def recalls(
    queries: Float[Tensor, "q p"],
    keys: Float[Tensor, "s p"],
    query_ids: Int[Tensor, "q"],
    key_ids: Int[Tensor, "s"],
    block: int = 1024,
) -> dict[str, float]:
    """R@1, R@5, R@10 and the median rank of the best right answer, from blocks of similarities.

    A right answer's rank is one more than the number of WRONG answers that score at least as high: pessimistic about ties.
    """
    ranks = []
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        similarity = queries[rows].float() @ keys.float().T
        right = query_ids[rows, None] == key_ids[None, :]
        best_right = similarity.masked_fill(~right, float("-inf")).amax(dim=1, keepdim=True)
        ranks.append(1 + (~(similarity < best_right) & ~right).sum(dim=1))  # not `>=`: NaN must count against the model too
    rank = torch.cat(ranks).float()
    return {f"r{k}": (rank <= k).float().mean().item() for k in (1, 5, 10)} | {"median_rank": rank.median().item()}


@torch.no_grad()
def encode_pairs(
    encoders: Encoders, tokenizer, pairs: Pairs, resolution: int, max_length: int, limit: int | None = None, batch: int = 64
) -> dict[str, Tensor]:
    """Features and ids of the first `limit` images and all their captions."""
    device, view = next(encoders.parameters()).device, CenterView(resolution)
    count = min(len(pairs), limit or len(pairs))
    images, captions, text_ids, image_ids = [], [], [], []
    for start in range(0, count, batch):
        chunk = [pairs[i] for i in range(start, min(start + batch, count))]
        stack = torch.stack([view(pair).pixels for pair in chunk])
        images.append(image_features(encoders, stack.to(device)))
        for pair in chunk:
            image_ids.append(pair.image_id)
            captions += pair.captions
            text_ids += [pair.image_id] * len(pair.captions)
    return {
        "image": torch.cat(images),
        "text": text_features(encoders, tokenizer, captions, max_length),
        "image_ids": torch.tensor(image_ids, device=device),
        "text_ids": torch.tensor(text_ids, device=device),
    }


def evaluate_retrieval(model: SemMIM, tokenizer, pairs: Pairs, limit: int | None = None) -> dict:
    """Zero-shot retrieval by ITC features of the student, both directions, with what chance would give."""
    data, was_training = model.config.data, model.training
    model.eval()
    found = encode_pairs(model.student, tokenizer, pairs, data.resolution, data.max_length, limit)
    model.train(was_training)
    image, text, image_ids, text_ids = found["image"], found["text"], found["image_ids"], found["text_ids"]
    return {
        "image_to_text": recalls(image, text, image_ids, text_ids),
        "text_to_image": recalls(text, image, text_ids, image_ids),
        "n_images": len(image),
        "n_texts": len(text),
        "chance_r1": 1 / len(image),
    }
