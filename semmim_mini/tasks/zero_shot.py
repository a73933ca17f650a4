r"""Zero-shot classification: class names become captions, and a picture belongs to the caption it is nearest to [F: CLIP].

    "dog" ─► "a photo of a dog", "there is a dog", … ─► text encoder, ITC projection ─► mean, normalised again ─► a row of class weights
    picture ─► image encoder, [CLS], ITC projection ───────────────────────────────────► cosine with every row ─► the highest wins

Nothing is trained, and no label was ever seen: a right answer is due to captions that named such things. Averaging over templates
takes out what is due to the sentence and leaves what is due to the name. Templates should sound like the captions of training.

Ties count against the model, as in retrieval: a class is ranked behind every other of the same score.
"""

import re

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from semmim_mini.data.labelled import Labelled
from semmim_mini.data.scene_language import article
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import Encoders, SemMIM
from semmim_mini.tasks.retrieval import image_features, text_features


def fill(template: str, name: str) -> str:
    """The prompt of a class: "a photo of a {}" and "owl" give "a photo of an owl"."""
    return re.sub(r"\ba \{\}", lambda _: f"{article(name)} {name}", template).replace("{}", name)


def make_prompts(names: tuple[str, ...], templates: tuple[str, ...], tokenizer, max_length: int) -> list[str]:
    """Every name in every template, template by template.

    Raises:
        UserError: a template without {}, or a prompt longer than `max_length` tokens, whose end, often the name itself, would be cut off.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise UserError(f"template {template!r} needs exactly one {{}} for the class name, as in 'a photo of a {{}}'")
    if not templates:
        raise UserError("zero-shot classification needs at least one template, such as 'a photo of a {}'")
    prompts = [fill(template, name) for template in templates for name in names]
    length, longest = max((len(ids), prompt) for ids, prompt in zip(tokenizer(prompts)["input_ids"], prompts, strict=True))
    if length > max_length:
        raise UserError(f"prompt {longest!r} has {length} tokens, more than data.max_length={max_length}; choose shorter templates")
    return prompts


@torch.no_grad()
def class_features(
    encoders: Encoders, tokenizer, names: tuple[str, ...], templates: tuple[str, ...], max_length: int
) -> Float[Tensor, "templates c p"]:
    """ITC features of every class in every template; `average` makes them class weights."""
    prompts = make_prompts(names, templates, tokenizer, max_length)
    return rearrange(text_features(encoders, tokenizer, prompts, max_length), "(templates c) p -> templates c p", c=len(names))


def average(features: Float[Tensor, "templates c p"]) -> Float[Tensor, "c p"]:
    """Mean over templates, brought back to length 1."""
    return F.normalize(reduce(features, "templates c p -> c p", "mean"), dim=-1)


def ranks(images: Float[Tensor, "s p"], classes: Float[Tensor, "c p"], labels: Int[Tensor, "s"]) -> Int[Tensor, "s"]:
    """The place of the right class among all, 1 the first; behind every wrong one that scores the same (or NaN)."""
    scores = images.float() @ classes.float().T
    right = scores.gather(1, labels[:, None])
    wrong = torch.ones_like(scores, dtype=torch.bool).scatter_(1, labels[:, None], False)
    return 1 + (~(scores < right) & wrong).sum(dim=1)


def accuracies(rank: Int[Tensor, "s"], labels: Int[Tensor, "s"], n_classes: int) -> dict[str, float]:
    """Top-1, top-5 and the mean over classes of each one's top-1, with what guessing and the commonest class would give."""
    counts, first = torch.bincount(labels, minlength=n_classes), torch.bincount(labels[rank == 1], minlength=n_classes)
    seen = counts > 0
    return {
        "top1": (rank <= 1).float().mean().item(),
        "top5": (rank <= 5).float().mean().item(),
        "per_class": (first[seen] / counts[seen]).mean().item(),
        "chance_top1": 1 / n_classes,
        "chance_top5": min(5, n_classes) / n_classes,
        "majority": (counts.max() / len(labels)).item(),
        "n": len(labels),
        "n_classes": n_classes,
    }


@torch.no_grad()
def encode_labelled(encoders: Encoders, labelled: Labelled, resolution: int, limit: int | None = None, batch: int = 64):
    """ITC features (s, p) and labels (s,) of the first `limit` pictures, computed batch by batch."""
    device, view = next(encoders.parameters()).device, CenterView(resolution)
    count, features, labels = min(len(labelled), limit or len(labelled)), [], []
    for start in range(0, count, batch):
        chunk = [labelled[i] for i in range(start, min(start + batch, count))]
        features.append(image_features(encoders, torch.stack([view(pair).pixels for pair, _ in chunk]).to(device)))
        labels += [label for _, label in chunk]
    return torch.cat(features), torch.tensor(labels, device=device)


def evaluate_zero_shot(
    model: SemMIM, tokenizer, labelled: Labelled, templates: tuple[str, ...] | None = None, limit: int | None = None
) -> dict:
    """Zero-shot accuracy of the student on labelled pictures.

    Args:
        templates: with {} for the class; by default those that come with the pictures.
        limit: pictures looked at.

    Returns:
        `accuracies`, and `top1_by_template`: each template alone, to see what averaging is worth.

    Raises:
        UserError: fewer than two classes; as `make_prompts`.
    """
    if len(labelled.classes) < 2:
        raise UserError(f"{labelled.name} has {len(labelled.classes)} class(es); with fewer than 2 there is nothing to tell apart")
    data, was_training, templates = model.config.data, model.training, tuple(labelled.templates if templates is None else templates)
    model.eval()
    try:
        each = class_features(model.student, tokenizer, labelled.classes, templates, data.max_length)
        images, labels = encode_labelled(model.student, labelled, data.resolution, limit)
    finally:
        model.train(was_training)
    found = accuracies(ranks(images, average(each), labels), labels, len(labelled.classes))
    alone = {template: (ranks(images, row, labels) == 1).float().mean().item() for template, row in zip(templates, each, strict=True)}
    return {"pictures": labelled.name, **found, "top1_by_template": alone}
