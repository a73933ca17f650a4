r"""Captioning: a sentence for a picture, and how good such sentences are [S: the paper evaluates it on COCO Caption].

    pixels ─► student's image encoder, clean and without text ─► tokens ─► caption decoder, word by word ─► "a red bus …"

A score by itself says little: the captions of a data set resemble each other, so even a sentence that never saw the picture shares
words with the references. Two references that know nothing stand beside every score:

| reference  | captions that it scores                                       | a model above it                        |
| ---------- | ------------------------------------------------------------- | --------------------------------------- |
| `shuffled` | the model's own, each handed to the next image                | looks at *this* picture                 |
| `constant` | one reference for all, chosen with all references in sight    | says more than what suits all pictures  |
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from semmim_mini.data.pairs import Pairs
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.caption_files import write_results
from semmim_mini.tasks.caption_scores import require_pycocoevalcap, score_captions, tokenize, tokenize_all
from semmim_mini.tasks.decoding import Decoding, generate

CANDIDATES = 20  # of the constant caption that are compared by CIDEr itself


@torch.no_grad()
def caption_images(
    model: SemMIM,
    tokenizer,
    images: Float[Tensor, "b 3 r r"],
    decoding: Decoding | None = None,
    generator: torch.Generator | None = None,
    batch: int = 64,
) -> list[str]:
    """A caption for each picture.

    Args:
        images: normalised pixels, as `data.views.CenterView` gives them.
        decoding: how to write; None for three beams, up to the length that the model was trained with.
        generator: of nucleus sampling, on the CPU.
        batch: how many pictures are looked at together.

    Raises:
        UserError: the model has no caption decoder.
    """
    require_decoder(model)
    decoding = decoding or Decoding(max_length=model.config.data.max_length)
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        texts = []
        for part in images.split(batch) if len(images) else ():
            seen = model.student.image(part.to(device))
            texts += generate(model.decoder, seen, tokenizer, decoding, generator=generator).texts
    finally:
        model.train(training)
    return texts


def require_decoder(model: SemMIM) -> None:
    if model.decoder is None:
        raise UserError(
            "this model has no caption decoder, because it was trained with losses.caption.weight=0; "
            "pre-train with losses.caption.weight above 0, or give it one with: semmim-mini finetune captioning"
        )


def evaluate_captioning(
    model: SemMIM,
    tokenizer,
    pairs: Pairs,
    limit: int | None = None,
    decoding: Decoding | None = None,
    results: str | Path | None = None,
    generator: torch.Generator | None = None,
    batch: int = 64,
    with_java: bool = False,
) -> dict:
    """Scores of the captions of the first `limit` images against all their references, beside two references that know nothing.

    Args:
        results: also write the captions there, as COCO's results file.
        with_java: METEOR and SPICE too.

    Returns:
        `scores`, `shuffled` and `constant` (with its `caption`), the same scores each; `n_images`, `n_references`, `tokenizer`;
        `distinct`, the share of captions that no other image got first; `mean_words` and `mean_words_references`.

    Raises:
        UserError: no caption decoder; fewer than two images; pycocoevalcap is missing.
    """
    require_decoder(model)
    require_pycocoevalcap()  # before an hour of writing captions
    count = min(len(pairs), limit or len(pairs))
    if count < 2:
        raise UserError(f"captions of {count} image cannot be scored: CIDEr counts how rare words are among images; take at least 2")
    decoding = decoding or Decoding(max_length=model.config.data.max_length)
    view, captions, references = CenterView(model.config.data.resolution), {}, {}
    for start in range(0, count, batch):
        chunk = [pairs[i] for i in range(start, min(start + batch, count))]
        texts = caption_images(model, tokenizer, torch.stack([view(pair).pixels for pair in chunk]), decoding, generator)
        captions |= {pair.image_id: text for pair, text in zip(chunk, texts, strict=True)}
        references |= {pair.image_id: list(pair.captions) for pair in chunk}
    if results is not None:
        write_results(results, captions)
    return compare(captions, references, with_java) | {"pairs": pairs.name, "decoding": asdict(decoding)}


def compare(captions: Mapping[int, str], references: Mapping[int, Sequence[str]], with_java: bool = False) -> dict:
    """Scores of captions beside those of their shuffle and of the best constant, and how varied and how long captions are."""
    found = score_captions(captions, references, with_java=with_java)
    facts = {name: found.pop(name) for name in ("n_images", "n_references", "tokenizer")}
    words = [len(tokenize(caption).split()) for caption in captions.values()]
    right = [len(tokenize(caption).split()) for texts in references.values() for caption in texts]
    return {
        "scores": found,
        "shuffled": _only_scores(score_captions(shuffled(captions), references)),
        "constant": best_constant(references),
        **facts,
        "distinct": len(set(captions.values())) / len(captions),
        "mean_words": float(np.mean(words)),
        "mean_words_references": float(np.mean(right)),
    }


def shuffled(captions: Mapping[int, str]) -> dict[int, str]:
    """Each image with the caption of the one before it."""
    texts = list(captions.values())
    return dict(zip(captions, [texts[-1], *texts[:-1]], strict=True))


def best_constant(references: Mapping[int, Sequence[str]]) -> dict:
    """The one reference that, said of every image, has the highest CIDEr, and its scores.

    Trying all would take images × references comparisons. CIDEr is near to the mean cosine with all references, which is a product
    with their centre; the best by that are then compared by CIDEr itself.
    """
    from pycocoevalcap.cider.cider import Cider
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = [text for several in references.values() for text in several]
    vectors = TfidfVectorizer(ngram_range=(1, 4), preprocessor=tokenize, tokenizer=str.split, token_pattern=None).fit_transform(texts)
    likeness = np.asarray(vectors @ np.asarray(vectors.mean(axis=0)).T).ravel()
    candidates = list(dict.fromkeys(texts[i] for i in np.argsort(-likeness, kind="stable")))[:CANDIDATES]
    right = tokenize_all(references, "python")
    cider = {text: Cider().compute_score(right, {image: [tokenize(text)] for image in right})[0] for text in candidates}
    best = max(cider, key=cider.get)
    return _only_scores(score_captions(dict.fromkeys(references, best), references)) | {"caption": best}


def _only_scores(found: dict) -> dict:
    return {name: value for name, value in found.items() if name not in ("n_images", "n_references", "tokenizer")}
