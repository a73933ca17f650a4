r"""Do patch codes mean things? Agreement of codes with the objects that are really there.

Adjusted mutual information (AMI) between the code of each patch and the concept it shows: 0 is what chance gives whatever the
number of codes, 1 is a perfect dictionary. (Plain NMI and purity grow with the number of codes.) Two references beside it: the
same network untrained, its prototypes placed by the same k-means; and k-means on the pixels of the patches. A third, of another run,
is k-means on its patch features: what a model knows of patches that never learned codes (`feature_ami` of ablation row A0).
"""

import numpy as np
import torch
from einops import rearrange
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
    """AMI of the teacher's patch codes against concepts, and its two references; the background is one class."""
    patch, k = model.config.image.patch, model.config.space.prototypes
    labels = concept_labels(batches, patch)
    by_pixels = kmeans(torch.cat([rearrange(patch_pixels(b.images[0], patch), "b n x -> (b n) x") for b in batches]), k)
    codes = patch_codes(model.teacher, batches)
    on_objects = labels > 0
    return {
        "ami": ami(labels, codes),
        "ami_random_init": ami(labels, patch_codes(untrained(model, batches), batches)),
        "ami_pixel_kmeans": ami(labels, by_pixels),
        "ami_objects_only": ami(labels[on_objects], codes[on_objects]),
        "ami_objects_only_pixel_kmeans": ami(labels[on_objects], by_pixels[on_objects]),
        "n_patches": len(labels),
    }


@torch.no_grad()
def feature_ami(model: SemMIM, batches: list[HeldOut]) -> float:
    """AMI of k-means, with as many clusters as there are prototypes, on the teacher's clean patch features."""
    features = torch.cat([rearrange(model.teacher.image(b.images[0])[:, 1:], "b n d -> (b n) d") for b in batches])
    return ami(concept_labels(batches, model.config.image.patch), kmeans(features, model.config.space.prototypes))


def kmeans(points: Tensor, clusters: int) -> np.ndarray:
    """The cluster of each row."""
    points = points.float().cpu().numpy()
    return MiniBatchKMeans(min(clusters, len(points)), random_state=0, n_init=1, batch_size=4096).fit_predict(points)


def ami(labels: np.ndarray, codes: np.ndarray) -> float:
    return float(adjusted_mutual_info_score(labels, codes))
