r"""Do patch codes mean things? Agreement of codes with the objects that are really there, asked in three ways.

| figure | asks | chance | what gets there without meaning anything |
| --- | --- | --- | --- |
| `ami` | do code and concept agree, over all patches? | 0 | `ami_picture_number`: a code that says which picture it is |
| `ami_within` | the same in each picture, then the mean: do codes *group* patches of one thing? | 0 | clusters of pixels |
| `alike_across` | same code in two pictures: the same thing? Do codes *name*? | `alike_across_chance` | clusters of pixels |

AMI is adjusted mutual information: 0 is what chance gives whatever the number of codes, 1 a perfect dictionary. (Plain NMI and purity
grow with the number of codes.) A scene shows a few of many concepts, so who knows the picture knows much about the concept: `ami` alone
rewards that as much as meaning. Beside each figure, two references: `…_random_init`, the same network untrained with prototypes placed by
the same k-means, and `…_pixel_kmeans`, clusters of the patches' pixels. `…_features`, of any run, are clusters of its patch
features: what a model knows of patches that never learned codes (ablation row A0).
"""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Int
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_mutual_info_score
from torch import Tensor

from semmim_mini.data.pairs import BACKGROUND
from semmim_mini.data.scene_truth import patch_objects
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.model.encoding_space import kmeans_prototypes
from semmim_mini.model.semmim import Encoders, SemMIM
from semmim_mini.objectives.masked_image import patch_pixels


def concept_labels(batches: list[HeldOut], patch: int) -> np.ndarray:
    """Concept shown by each patch, numbered over the data set; 0 is background. (b·n,)"""
    numbers: dict[str, int] = {}
    rows = []
    for batch in batches:
        for pair, objects in zip(batch.pairs, batch.object_maps, strict=True):
            concept = [0] + [numbers.setdefault(o.concept, len(numbers) + 1) for o in pair.truth.objects]
            rows.append(torch.tensor(concept)[patch_objects(objects, patch)])
    assert BACKGROUND == 0
    return torch.cat(rows).numpy()


@torch.no_grad()
def patch_directions(encoders: Encoders, batches: list[HeldOut]) -> Tensor:
    """Where text-free clean patches land in the encoding space (b·n, z)."""
    return torch.cat([rearrange(encoders.space.patch.direction(encoders.image(b.images[0])[:, 1:]), "b n z -> (b n) z") for b in batches])


@torch.no_grad()
def patch_codes(encoders: Encoders, batches: list[HeldOut]) -> np.ndarray:
    """The highest-scoring prototype of each clean, text-free patch (b·n,)."""
    return encoders.space.patch.score(patch_directions(encoders, batches)).argmax(dim=-1).cpu().numpy()


def untrained(model: SemMIM, batches: list[HeldOut], seed: int = 0) -> Encoders:
    """A fresh network of the same configuration, prototypes placed by k-means on its own outputs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        fresh = Encoders(model.config, model.student.text.bert.config.vocab_size).to(next(model.parameters()).device).eval()
    directions = patch_directions(fresh, batches)
    fresh.space.patch.prototypes.data.copy_(kmeans_prototypes(directions, len(fresh.space.patch.prototypes)))
    return fresh


def semantics(model: SemMIM, batches: list[HeldOut]) -> dict[str, float]:
    """The three figures for the teacher's patch codes, with their references; the background is one concept, and names nothing."""
    patch, k = model.config.image.patch, model.config.space.prototypes
    pixels = torch.cat([rearrange(patch_pixels(b.images[0], patch), "b n x -> (b n) x") for b in batches])
    labels, picture = concept_labels(batches, patch), np.arange(len(pixels)) // model.config.n_patches
    found = agreement("", labels, patch_codes(model.teacher, batches), picture)
    found |= agreement("_random_init", labels, patch_codes(untrained(model, batches), batches), picture)
    found |= agreement("_pixel_kmeans", labels, kmeans(pixels, k), picture)
    return found | {
        "ami_picture_number": ami(labels, picture),
        "alike_across_chance": _across(labels, np.zeros_like(labels), picture),
        "n_patches": len(labels),
    }


@torch.no_grad()
def feature_semantics(model: SemMIM, batches: list[HeldOut]) -> dict[str, float]:
    """The same for k-means, with as many clusters as there are prototypes, on the teacher's clean patch features."""
    features = torch.cat([rearrange(model.teacher.image(b.images[0])[:, 1:], "b n d -> (b n) d") for b in batches])
    picture = np.arange(len(features)) // model.config.n_patches
    clusters = kmeans(features, model.config.space.prototypes)
    return agreement("_features", concept_labels(batches, model.config.image.patch), clusters, picture)


def agreement(end: str, labels: np.ndarray, codes: np.ndarray, picture: np.ndarray) -> dict[str, float]:
    """`ami`, `ami_within` and `alike_across`, each with `end` behind its name. All arrays: (patches,)."""
    figures = {"ami": ami(labels, codes), "ami_within": ami_within(labels, codes, picture), "alike_across": _across(labels, codes, picture)}
    return {name + end: value for name, value in figures.items()}


def ami_within(labels: np.ndarray, codes: np.ndarray, picture: np.ndarray) -> float:
    """AMI in each picture, and the mean of pictures: what codes tell apart, not which picture they come from."""
    return float(np.mean([ami(labels[picture == one], codes[picture == one]) for one in np.unique(picture)]))


def _across(labels: np.ndarray, codes: np.ndarray, picture: np.ndarray) -> float:
    seen = labels > 0
    return alike_across_images(*(torch.from_numpy(x[seen].astype(np.int64)) for x in (codes, labels, picture)))


def alike_across_images(answers: Int[Tensor, "patches"], concepts: Int[Tensor, "patches"], image: Int[Tensor, "patches"]) -> float:
    """Two patches of different images have the same answer: how often do they show the same concept? Mean over patches that have a
    partner, and 0 if none has. With one answer for all, this is chance."""
    table = torch.zeros(int(answers.max()) + 1, int(concepts.max()) + 1)
    table.index_put_((answers, concepts), torch.ones(len(answers)), accumulate=True)
    shares = []
    for one in image.unique():
        own = image == one
        others = table.clone()
        others.index_put_((answers[own], concepts[own]), -torch.ones(int(own.sum())), accumulate=True)
        partners = others.sum(dim=1)[answers[own]]
        shares.append((others[answers[own], concepts[own]] / partners.clamp_min(1))[partners > 0])
    met = torch.cat(shares)
    return float(met.mean()) if len(met) else 0.0


def kmeans(points: Tensor, clusters: int) -> np.ndarray:
    """The cluster of each row."""
    points = points.float().cpu().numpy()
    return MiniBatchKMeans(min(clusters, len(points)), random_state=0, n_init=1, batch_size=4096).fit_predict(points)


def ami(labels: np.ndarray, codes: np.ndarray) -> float:
    return float(adjusted_mutual_info_score(labels, codes))
