r"""Word → region: where does the network look when it reads "dog"?

Every phrase of a held-out caption that names objects ("a brown dog") gets a map over the patches, for every layer and head:

| map | what it is |
| --- | --- |
| `fusion` | cross-attention of the fusion encoder from the phrase's tokens to the patches |
| `gradcam` | the same × its positive gradient of the ITM logit "they match": what was looked at and spoke for it [F: ALBEF, Selvaraju] |
| `decoder_reads` | cross-attention of the caption decoder at the phrase's own tokens: the word is known, the next one is looked for |
| `decoder_writes` | the same one position earlier, where the decoder does not know the word yet and looks for it |
| `phrase` | cosine of each patch, through the ITC projection, with the phrase read alone |
| `words` | the same with the phrase's tokens as they stand in the caption |

Heads are given one by one and as their `mean`. A phrase's map is the mean over its tokens without the article or number [C]: at "a" the
decoder looks for what comes next, so that with it `decoder_reads` would be half `decoder_writes`. In the fusion encoder's last layer
the logit hears [CLS] alone, words no more: there `gradcam` is zero for every word, and never right.

Scores against the scene's true mask. *Pointing game* [F: Zhang et al. 2016]: the highest patch lies on a named object. *IoU* [C]: the
map's m highest patches against the m patches of the mask, so that no threshold has to be chosen. Ties count against the map: a
patch off the object goes before one on it, and a constant map is never right.

Chance is a random patch. Two maps that never read a word are the real test: the picture's centre, and any object.

The best layer and head are chosen on one half of the scenes and reported on the other: the best of many is lucky on the half it was
chosen by.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from semmim_mini.data.pairs import BACKGROUND, Mention, Pairs
from semmim_mini.data.scene_language import NUMBERS
from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.data.text import token_mask_of_spans
from semmim_mini.errors import UserError
from semmim_mini.instruments.held_out import HeldOut, held_out_batches
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.text_encoder import listening
from semmim_mini.tasks.retrieval import text_features

MATCHED = 1  # the ITM logit that says so
DETERMINERS = {"a", "an", "the", *NUMBERS}


# What is to be found --------------------------------------------------------------------------------------------------


@dataclass
class Words:
    """The mentions of a batch whose words were read and whose objects can be seen, one row each."""

    rows: Int[Tensor, "w"]  # place of the caption in the batch
    tokens: Bool[Tensor, "w l"]  # the phrase's tokens, without its article or number
    target: Bool[Tensor, "w n"]  # patches that show what it names
    objects: Bool[Tensor, "w n"]  # patches that show anything
    places: list[int]  # which mention of its caption a row is
    phrases: list[str]  # whole
    left_out: int  # mentions cut off by the caption's length, or of nothing that owns a patch

    def __len__(self) -> int:
        return len(self.rows)


def words_of(batch: HeldOut, tokenizer, patch: int, max_length: int) -> Words:
    """What the captions of a batch name.

    Raises:
        UserError: photos, which do not know what their pixels show.
    """
    kept, left_out = [], 0
    for row, (pair, chosen, truth) in enumerate(zip(batch.pairs, batch.chosen, batch.object_maps, strict=True)):
        if truth is None:
            raise UserError(f"{pair.name} has no object map: grounding is scored on composed scenes only; use data.source=scenes")
        caption, shown = pair.captions[chosen], patch_objects(truth, patch)
        for place, mention in enumerate(pair.truth.mentions[chosen]):
            tokens = token_mask_of_spans(tokenizer, caption, [content(caption, mention)], max_length)
            target = torch.isin(shown, torch.tensor([1 + i for i in mention.objects]))
            if tokens.any() and target.any():
                tokens = F.pad(tokens, (0, batch.input_ids.shape[1] - len(tokens)))
                kept.append((torch.tensor(row), tokens, target, shown != BACKGROUND, place, caption[mention.start : mention.end]))
            else:
                left_out += 1
    *stacks, places, phrases = zip(*kept, strict=True) if kept else [()] * 6
    n = (batch.images.shape[-2] // patch) * (batch.images.shape[-1] // patch)
    empty = torch.zeros(0).long(), *(torch.zeros(0, width).bool() for width in (batch.input_ids.shape[1], n, n))
    stacks = [torch.stack(stack) if stack else none for stack, none in zip(stacks, empty, strict=True)]
    return Words(*stacks, list(places), list(phrases), left_out)


def content(caption: str, mention: Mention) -> tuple[int, int]:
    """Where the mention's words begin and end, an article or number at their head left out."""
    first, blank, rest = caption[mention.start : mention.end].partition(" ")
    return (mention.start + len(first + blank) if rest and first.lower() in DETERMINERS else mention.start), mention.end


# Maps -----------------------------------------------------------------------------------------------------------------


def of_words(weights: Float[Tensor, "layers b h l n"], words: Words) -> Float[Tensor, "layers heads w n"]:
    """Maps of tokens as maps of phrases: the mean over each phrase's tokens. One more head, the last: the mean of all."""
    share = (words.tokens / words.tokens.sum(dim=1, keepdim=True)).to(weights)
    maps = torch.einsum("lbhtn,bt->lhbn", weights[:, words.rows.to(weights.device)].float(), share)
    return torch.cat([maps, maps.mean(dim=1, keepdim=True)], dim=1)


def gradcam(model: SemMIM, text: Tensor, words: Tensor, image: Tensor) -> Float[Tensor, "layers b h l n"]:
    """Cross-attention × its positive gradient of the logit that image and text match [F: ALBEF].

    Attention says where the encoder looked, the gradient whether more attention there would make the match surer. Both come from
    one forward and one backward pass, which goes no further than the fusion encoder and leaves no gradient behind.
    """
    with torch.enable_grad(), listening(model.fusion, model.fusion.encoder) as heard:
        # The image asks for a gradient, so that there is a graph even where all weights are frozen.
        fused = model.fusion(text.detach(), words, image.detach().requires_grad_())
        slopes = torch.autograd.grad(model.itm_head(fused[:, 0])[:, MATCHED].sum(), heard)
    return torch.stack([attention.detach() * slope.clamp_min(0) for attention, slope in zip(heard, slopes, strict=True)])[..., 1:]


@torch.no_grad()
def similarities(model: SemMIM, tokenizer, text: Tensor, image: Tensor, words: Words) -> dict[str, Float[Tensor, "1 1 w n"]]:
    """Cosines of projected patches with the phrase: read alone, and in its caption. Only [CLS] was trained through these projections."""
    student, rows = model.student, words.rows.to(image.device)
    patches = student.project_image(image[:, 1:])[rows]
    share = (words.tokens / words.tokens.sum(dim=1, keepdim=True)).to(text)
    texts = {
        "phrase": text_features(student, tokenizer, words.phrases, model.config.data.max_length),
        "words": student.project_text(torch.einsum("wld,wl->wd", text[rows], share)),
    }
    return {name: rearrange(torch.einsum("wnp,wp->wn", patches, feature), "w n -> 1 1 w n") for name, feature in texts.items()}


def word_maps(model: SemMIM, tokenizer, batch: HeldOut, words: Words) -> dict[str, Float[Tensor, "layers heads w n"]]:
    """Every kind of map of every phrase, from clean pictures that the student sees without text; `decoder_*` where there is one."""
    ids, real = batch.input_ids, batch.attention_mask
    with torch.no_grad():
        image, text = model.student.image(batch.images[0]), model.student.text(ids, real)
    maps = {
        "fusion": of_words(model.fusion.attention_to_patches(text, real, image), words),
        "gradcam": of_words(gradcam(model, text, real, image), words),
    }
    if model.decoder is not None:
        attention = model.decoder.attention_to_patches(ids, real, image)
        maps["decoder_reads"] = of_words(attention, words)
        # What position t reads is word t, what it writes is word t + 1; the first word is written at [CLS].
        maps["decoder_writes"] = of_words(attention.roll(1, dims=3), words)
    return maps | similarities(model, tokenizer, text, image, words)


# Scores ---------------------------------------------------------------------------------------------------------------


def score(maps: Float[Tensor, "*kinds w n"], target: Bool[Tensor, "w n"]) -> tuple[Float[Tensor, "*kinds w"], Float[Tensor, "*kinds w"]]:
    """Pointing (0 or 1) and IoU of maps against masks; ties, and NaN, count against the map."""
    maps, target = maps.cpu().float().nan_to_num(nan=float("-inf")), target.cpu().expand(maps.shape)
    off_first = target.int().argsort(dim=-1, stable=True)
    order = off_first.gather(-1, maps.gather(-1, off_first).argsort(dim=-1, descending=True, stable=True))
    ranked = target.gather(-1, order).float()  # from the highest patch to the lowest: is it on the object?
    m = target.sum(dim=-1, keepdim=True)
    both = (ranked * (torch.arange(target.shape[-1]) < m)).sum(dim=-1)
    return ranked[..., 0], both / (2 * m[..., 0] - both)


def random_score(target: Bool[Tensor, "w n"], among: Bool[Tensor, "w n"]) -> dict[str, float]:
    """What a random order of the patches in `among` can expect: m of M point right, and the overlap of m drawn with m true ones is
    hypergeometric."""
    m, patches = target.sum(dim=1), among.sum(dim=1)
    iou = [_expected_iou(int(a), int(b)) for a, b in zip(m, patches, strict=True)]
    return {"pointing": (m / patches).mean().item(), "iou": sum(iou) / len(iou)}


def _expected_iou(m: int, patches: int) -> float:
    return sum(comb(m, k) * comb(patches - m, m - k) / comb(patches, m) * k / (2 * m - k) for k in range(1, m + 1))


def centre_score(target: Bool[Tensor, "w n"]) -> dict[str, float]:
    """What a map does that is highest in the middle of every picture."""
    side = int(target.shape[1] ** 0.5)
    place = torch.arange(side) - side // 2
    near = -(place[:, None] ** 2 + place[None] ** 2).flatten().float()
    return dict(zip(("pointing", "iou"), (x.mean().item() for x in score(near.expand(target.shape), target)), strict=True))


@dataclass
class Scores:
    """Pointing and IoU of every phrase, map, layer and head."""

    pointing: dict[str, Float[Tensor, "layers heads w"]]
    iou: dict[str, Float[Tensor, "layers heads w"]]
    on_object: dict[str, Float[Tensor, "layers heads w"]]  # the highest patch lies on any object, named or not
    target: Bool[Tensor, "w n"]
    objects: Bool[Tensor, "w n"]
    chooses: Bool[Tensor, "w"]  # belongs to the half that chooses; the other half reports
    left_out: int

    def rows(self, name: str) -> list[dict]:
        """One row for each layer and head of a map; `validation_*` are of the half that chooses."""
        pointing, iou = self.pointing[name], self.iou[name]
        halves = {"validation_": self.chooses, "": ~self.chooses}
        return [
            {"map": name, "layer": layer + 1, "head": "mean" if head == pointing.shape[1] - 1 else head + 1}
            | {f"{half}pointing": pointing[layer, head, rows].mean().item() for half, rows in halves.items()}
            | {f"{half}iou": iou[layer, head, rows].mean().item() for half, rows in halves.items()}
            | {"on_any_object": self.on_object[name][layer, head, ~self.chooses].mean().item()}
            for layer in range(pointing.shape[0])
            for head in range(pointing.shape[1])
        ]


def best_row(rows: list[dict]) -> dict:
    """The best by pointing on the half that chooses, then by IoU there; the first of equals."""
    return max(rows, key=lambda row: (row["validation_pointing"], row["validation_iou"]))


def score_batch(model: SemMIM, tokenizer, batch: HeldOut, first: int) -> Scores:
    """Scores of one batch, whose first scene is number `first`: even scenes choose, odd ones report."""
    words = words_of(batch, tokenizer, model.config.image.patch, model.config.data.max_length)
    maps = word_maps(model, tokenizer, batch, words) if len(words) else {}
    named = {name: score(x, words.target) for name, x in maps.items()}
    return Scores(
        pointing={name: pointing for name, (pointing, _) in named.items()},
        iou={name: iou for name, (_, iou) in named.items()},
        on_object={name: score(x, words.objects)[0] for name, x in maps.items()},
        target=words.target,
        objects=words.objects,
        chooses=(first + words.rows) % 2 == 0,
        left_out=words.left_out,
    )


def score_batches(model: SemMIM, tokenizer, batches: Iterable[HeldOut]) -> Scores:
    """Scores of all mentions.

    Raises:
        UserError: no mention at all, or none in one of the halves.
    """
    parts, seen, left_out = [], 0, 0
    for batch in batches:
        part = score_batch(model, tokenizer, batch, seen)
        seen, left_out = seen + len(batch.pairs), left_out + part.left_out
        parts += [part] if len(part.target) else []
    chooses = torch.cat([part.chooses for part in parts]) if parts else torch.zeros(0, dtype=torch.bool)
    if not chooses.any() or chooses.all():
        raise UserError(
            f"{seen} captions name {len(chooses)} visible objects ({left_out} were cut off or hidden): too few to choose a map on one "
            "half of the scenes and report it on the other; use more scenes, or a larger data.max_length"
        )
    figures = [
        {name: torch.cat([getattr(part, figure)[name] for part in parts], dim=-1) for name in parts[0].pointing}
        for figure in ("pointing", "iou", "on_object")
    ]
    return Scores(*figures, *(torch.cat([getattr(part, name) for part in parts]) for name in ("target", "objects")), chooses, left_out)


def evaluate_grounding(model: SemMIM, tokenizer, pairs: Pairs, limit: int | None = None) -> dict:
    """Word → region of the student on composed scenes.

    Returns:
        best: map, layer and head that are best on one half of the scenes, with `pointing` and `iou` on the other; that half also gives
            chance, centre, any_object: what needs no words. `on_any_object` of a row says how often its highest patch lies on any
            object: of these, pointing is the share that was named; and
        maps: of each kind its own `best`, and the whole table of layers and heads.

    Raises:
        UserError: photos; too few mentions.
    """
    data, count = model.config.data, min(len(pairs), limit or len(pairs))
    size = {"resolution": data.resolution, "max_length": data.max_length, "device": next(model.parameters()).device}
    if pairs[0].truth is None:
        raise UserError(f"{pairs.name} has no object maps: grounding is scored on composed scenes only; use data.source=scenes")
    was_training = model.training
    model.eval()
    try:
        scores = score_batches(model, tokenizer, held_out_batches(pairs, tokenizer, count=count, **size))
    finally:
        model.train(was_training)
    maps = {name: {"best": best_row(scores.rows(name)), "table": scores.rows(name)} for name in scores.pointing}
    target, objects = scores.target[~scores.chooses], scores.objects[~scores.chooses]
    return {
        "pairs": pairs.name,
        "best": best_row([found["best"] for found in maps.values()]),
        "chance": random_score(target, torch.ones_like(target)),
        "centre": centre_score(target),
        "any_object": random_score(target, objects),
        "n": len(target),
        "n_validation": int(scores.chooses.sum()),
        "n_scenes": count,
        "n_left_out": scores.left_out,
        "maps": maps,
    }
