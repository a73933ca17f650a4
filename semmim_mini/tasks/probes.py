r"""Probes: what can be read off frozen features without training the network any further?

    pictures ─► image encoder, text-free, frozen ─► [CLS]   ─┬─► k-NN: do the nearest training pictures bear the right label?
                                               └─► patches ─┴─► linear: is there a plane that parts the labels?

k-NN [F: DINO, Wu et al. 2018] has nothing to learn and nothing to tune: cosine similarity, the k nearest vote with weight
exp(similarity/0.07). The linear probe is scikit-learn's logistic regression on standardised features; how strongly it is held back
is chosen on a part of the *training* features, never on those that are reported.

Patches [C]. Each patch is asked for the concept of the object it shows (at least a third of it: `data.scene_truth`), in scenes of
several things, where the answer is not the picture's. Background patches are left out: four patches of five are ground, and telling
ground from things would be most of the score.

Each accuracy stands beside what needs no learning: the same network before its first step, the mean colour, a thumbnail of 8 × 8
pixels (of a patch: its own pixels), the commonest label, and guessing. Scenes of `test` show training's cutouts: there, near copies of
a patch's pixels are found by looking, without any meaning. `test_pictures` has none, and is the split to quote.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from semmim_mini.config import Config
from semmim_mini.data.labelled import Labelled
from semmim_mini.data.pairs import BACKGROUND, Pairs
from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.model.image_encoder import ImageEncoder
from semmim_mini.model.semmim import Encoders, SemMIM

TEMPERATURE = 0.07  # [F: DINO]
NEIGHBOURS = (1, 5, 20, 100)  # k; 20 is the one to quote [F: DINO]
STRENGTHS = (0.01, 0.1, 1.0)  # C of the logistic regression: the smaller, the more held back
HELD_BACK = 0.2  # share of the training features on which C is chosen
THUMBNAIL = 8  # px
MOST_PATCHES = 5_000  # of each part: a fit over 171 concepts takes seconds with these, and minutes with ten times as many


# The two probes -------------------------------------------------------------------------------------------------------


def knn_accuracy(
    train: Float[Tensor, "s d"],
    labels: Int[Tensor, "s"],
    test: Float[Tensor, "t d"],
    test_labels: Int[Tensor, "t"],
    k: int = 20,
    temperature: float = TEMPERATURE,
    block: int = 1024,
) -> float:
    """Share of test features whose own label gets strictly the most votes of their k nearest training features.

    A tie between labels is an error: features that are all the same must not be right by the order of the classes.

    Raises:
        UserError: fewer than k training features.
    """
    if not 1 <= k <= len(train):
        raise UserError(f"k={k} neighbours cannot be had of {len(train)} training features; choose k from 1 to {len(train)}")
    train, right, n_labels = F.normalize(train.float(), dim=1), 0, int(max(labels.max(), test_labels.max())) + 1
    for start in range(0, len(test), block):
        similarity, nearest = (F.normalize(test[start : start + block].float(), dim=1) @ train.T).topk(k, dim=1)
        votes = similarity.new_zeros(len(similarity), n_labels)
        votes.scatter_add_(1, labels[nearest], ((similarity - 1) / temperature).exp())  # − 1: a common factor, so that none overflows
        own = test_labels[start : start + block, None]
        right += int((votes.gather(1, own) > votes.scatter(1, own, -1.0).amax(dim=1, keepdim=True)).sum())
    return right / len(test)


def linear_probe(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    groups: np.ndarray | None = None,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    max_iter: int = 100,
) -> dict[str, float]:
    """Accuracy of a logistic regression on standardised features; means and deviations are those of the training features.

    Args:
        train, test: (s, d) and (t, d).
        groups: of the training features; those of one group (the patches of one picture) stay together when C is chosen, or
            the choice would be made on patches whose neighbours were fitted.
        seed: of that division.

    Returns:
        `accuracy` on test, the `strength` C chosen, `accuracy_held_back` it was chosen by, `converged`: 1, or 0 where the last fit
        was stopped early.

    Raises:
        UserError: fewer than two labels or two groups to train on; features that are not finite.
    """
    groups = np.arange(len(labels)) if groups is None else groups
    fitted, held = _divide(train, labels, test, groups, seed)
    tried = [_fit(train[fitted], labels[fitted], strength, max_iter).score(train[held], labels[held]) for strength in strengths]
    best = int(np.argmax(tried))  # the first of equals is the one held back most
    model = _fit(train, labels, strengths[best], max_iter)
    return {
        "accuracy": float(model.score(test, test_labels)),
        "strength": float(strengths[best]),
        "accuracy_held_back": float(tried[best]),
        "converged": float(model[-1].n_iter_.max() < max_iter),
    }


def _divide(train: np.ndarray, labels: np.ndarray, test: np.ndarray, groups: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places of the training features to fit, and of those to choose the strength by."""
    if len(np.unique(labels)) < 2:
        raise UserError(f"a linear probe needs 2 labels or more to tell apart; the {len(labels)} training features have one")
    if len(np.unique(groups)) < 2:
        raise UserError("a linear probe needs features of 2 pictures or more, to choose its strength on one that it did not fit")
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        raise UserError("the features are not finite: this network has diverged; choose an earlier checkpoint")
    fitted, held = next(GroupShuffleSplit(1, test_size=HELD_BACK, random_state=seed).split(train, labels, groups))
    if len(np.unique(labels[fitted])) < 2:
        raise UserError(f"{len(labels)} training features are too few to choose a strength on a part of them; use more pictures")
    return fitted, held


def _fit(features: np.ndarray, labels: np.ndarray, strength: float, max_iter: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # reported as `converged`
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=max_iter)).fit(features, labels)


# Features -------------------------------------------------------------------------------------------------------------


@dataclass
class Samples:
    """Features under several names, with what is known of each row."""

    features: dict[str, Tensor]  # name → (s, d)
    labels: Tensor  # (s,)
    pictures: Tensor  # (s,) ids of the pictures that rows come from


@torch.no_grad()
def layer_tokens(encoder: ImageEncoder, images: Tensor, layers: Sequence[int]) -> dict[int, Float[Tensor, "b tokens d"]]:
    """Tokens after `layers`, text-free: 0 are the embeddings, `depth` the encoder's output before any readout. The final norm is put on
    all of them, so that they share one scale [F: DINO]."""
    x, found = encoder.embed(images), {}
    for number, layer in enumerate((None, *encoder.layers)):
        x = x if layer is None else layer(x)
        if number in layers:
            found[number] = encoder.norm(x)
    return found


def untrained_image_encoder(model: SemMIM) -> ImageEncoder:
    """The image encoder that this model's run began with: same configuration, same seed, no step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.config.run.seed)
        fresh = Encoders(model.config, model.student.text.bert.config.vocab_size)
    return fresh.image.to(next(model.parameters()).device).eval()


Describe = Callable[[Tensor], dict[str, Tensor]]  # images (b, 3, h, w) → name: tokens (b, 1 + n, d), [CLS] or its like first


def describe(model: SemMIM, layers: Sequence[int]) -> Describe:
    """The trained layers and the three references as tokens of one form, so that all are probed by the same code."""
    fresh, patch, depth = untrained_image_encoder(model), model.config.image.patch, model.config.image.depth

    def tokens(images: Tensor) -> dict[str, Tensor]:
        found = {f"layer {number}": x for number, x in layer_tokens(model.student.image, images, layers).items()}
        found["untrained"] = layer_tokens(fresh, images, [depth])[depth]
        return found | pixel_tokens(images, patch)

    return tokens


def pixel_tokens(images: Float[Tensor, "b 3 h w"], patch: int) -> dict[str, Float[Tensor, "b tokens d"]]:
    """Mean colours and thumbnails, of the picture in the place of [CLS] and of each patch."""
    b = len(images)
    patches = rearrange(images, "b c (i p) (j q) -> (b i j) c p q", p=patch, q=patch)
    thumbnails = [rearrange(F.adaptive_avg_pool2d(x, THUMBNAIL), "(b n) c p q -> b n (c p q)", b=b) for x in (images, patches)]
    colours = [rearrange(reduce(x, "s c p q -> s c", "mean"), "(b n) c -> b n c", b=b) for x in (images, patches)]
    return {"colour": torch.cat(colours, dim=1), "pixels": torch.cat(thumbnails, dim=1)}


@torch.no_grad()
def cls_samples(tokens: Describe, labelled: Labelled, resolution: int, limit: int | None = None, batch: int = 64, device="cpu") -> Samples:
    """[CLS], or its like, of the first `limit` pictures."""
    view, rows, labels, ids = CenterView(resolution), [], [], []
    for chunk in _chunks(labelled, limit, batch):
        images = torch.stack([view(pair).pixels for pair, _ in chunk]).to(device)
        rows.append({name: x[:, 0].float().cpu() for name, x in tokens(images).items()})
        labels += [label for _, label in chunk]
        ids += [pair.image_id for pair, _ in chunk]
    return Samples({name: torch.cat([row[name] for row in rows]) for name in rows[0]}, torch.tensor(labels), torch.tensor(ids))


@torch.no_grad()
def patch_samples(
    tokens: Describe,
    pairs: Pairs,
    concepts: dict[str, int],
    config: Config,
    limit: int | None = None,
    most: int = MOST_PATCHES,
    batch: int = 64,
    device="cpu",
) -> Samples:
    """Patches of scenes that show an object, at most `most` of them, evenly chosen; `concepts` numbers the labels and may grow.

    Raises:
        UserError: photos, which do not know what their patches show.
    """
    view, rows, labels, ids = CenterView(config.data.resolution, with_truth=True), [], [], []
    for chunk in _chunks(pairs, limit, batch):
        seen = [view(pair) for pair in chunk]
        shown = torch.stack([patch_objects(truth, config.image.patch) for _, truth in seen])
        numbers = [torch.tensor([-1] + [concepts.setdefault(o.concept, len(concepts)) for o in pair.truth.objects]) for pair in chunk]
        on_object = shown != BACKGROUND
        labels.append(torch.cat([number[row[inside]] for number, row, inside in zip(numbers, shown, on_object, strict=True)]))
        ids.append(torch.tensor([pair.image_id for pair in chunk])[:, None].expand_as(shown)[on_object])
        found = tokens(torch.stack([image for image, _ in seen]).to(device))
        rows.append({name: x[:, 1:].float().cpu()[on_object] for name, x in found.items()})
    kept = torch.linspace(0, sum(map(len, labels)) - 1, min(most, sum(map(len, labels)))).round().long()
    features = {name: torch.cat([row[name] for row in rows])[kept] for name in rows[0]}
    return Samples(features, torch.cat(labels)[kept], torch.cat(ids)[kept])


def _chunks(source, limit: int | None, batch: int):
    count = min(len(source), limit or len(source))
    for start in range(0, count, batch):
        yield [source[i] for i in range(start, min(start + batch, count))]


# The evaluation -------------------------------------------------------------------------------------------------------


def probe(train: Samples, test: Samples, n_classes: int, neighbours: Sequence[int] = NEIGHBOURS, seed: int = 0) -> dict:
    """Both probes on every kind of feature, beside chance and majority.

    Raises:
        UserError: the same picture in train and test, fewer than two classes, as `linear_probe`.
    """
    shared = set(train.pictures.tolist()) & set(test.pictures.tolist())
    if shared:
        raise UserError(f"{len(shared)} pictures are in both the training and the test part of the probes; choose different splits")
    if n_classes < 2:
        raise UserError(f"the pictures have {n_classes} class(es); with fewer than 2 there is nothing to tell apart")
    found = {name: _probe_one(train, test, name, neighbours, seed) for name in train.features}
    commonest = torch.bincount(train.labels).argmax()
    return {
        **found,
        "chance": 1 / n_classes,
        "majority": (test.labels == commonest).float().mean().item(),  # of training, as a guesser would have it
        "n_train": len(train.labels),
        "n_test": len(test.labels),
        "n_classes": n_classes,
    }


def _probe_one(train: Samples, test: Samples, name: str, neighbours: Sequence[int], seed: int) -> dict:
    one, other = train.features[name], test.features[name]
    possible = [k for k in neighbours if k <= len(one)]
    knn = {f"k{k}": knn_accuracy(one, train.labels, other, test.labels, k) for k in possible}
    arrays = (x.numpy() for x in (one, train.labels, other, test.labels, train.pictures))
    return {"knn": knn, "linear": linear_probe(*arrays, seed=seed)}


def evaluate_probes(
    model: SemMIM,
    train: Labelled,
    test: Labelled,
    scenes: tuple[Pairs, Pairs] | None = None,
    *,
    layers: Sequence[int] | None = None,
    limit: int | None = None,
    most_patches: int = MOST_PATCHES,
    seed: int = 0,
) -> dict:
    """k-NN and linear accuracy of the student's frozen image features.

    Args:
        train, test: labelled pictures for [CLS], with the same classes.
        scenes: training and test scenes for patches; None leaves patches out (photos have no truth about them).
        layers: image layers to probe, 0 (embeddings) to depth; by default the last.
        limit: pictures of each part.
        most_patches: of each part, evenly chosen among those that show an object.

    Returns:
        `cls` and `patches`: see `probe`; features are called `layer 4`, `untrained`, `colour`, `pixels`.

    Raises:
        UserError: a layer that is not there, different classes in train and test, and as `probe`.
    """
    layers = _check_layers(model, layers)
    if train.classes != test.classes:
        raise UserError(f"{train.name} and {test.name} have different classes; probes are trained on the one and asked about the other")
    size = {"limit": limit, "device": next(model.parameters()).device}
    tokens, concepts, was_training = describe(model, layers), {}, model.training
    model.eval()
    try:
        found = [cls_samples(tokens, part, model.config.data.resolution, **size) for part in (train, test)]
        patches = [patch_samples(tokens, part, concepts, model.config, most=most_patches, **size) for part in scenes or ()]
    finally:
        model.train(was_training)
    result = {"pictures": [train.name, test.name], "cls": probe(*found, len(train.classes), seed=seed)}
    if scenes:
        result |= {"scenes": [part.name for part in scenes], "patches": probe(*patches, len(concepts), seed=seed)}
    return result


def _check_layers(model: SemMIM, layers: Sequence[int] | None) -> list[int]:
    depth = model.config.image.depth
    layers = [depth] if layers is None else list(layers)
    if not layers or not all(0 <= layer <= depth for layer in layers):
        raise UserError(f"layers={layers!r}: the image encoder has layers 0 (embeddings) to {depth}")
    return layers
