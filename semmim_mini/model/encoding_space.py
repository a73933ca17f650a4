r"""The shared encoding space: one vocabulary of k visual codes for whole images and for patches.

The idea [S]
    Agreement between views teaches [CLS] a code for what an image shows. Patches get no such lesson. If both are scored by ONE
    head against ONE set of prototypes, the patches inherit the vocabulary: their codes become words for *what is here*, and
    those are the targets of masked image modelling.

The form [F: DINO, iBOT]
    token ──MLP (3 layers, GELU)──► bottleneck ──L2-normalise──► cosine with k unit prototypes = logits in [−1, 1]

`shared=False` builds two heads instead (ablation A3): the same losses, nothing passed on.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from semmim_mini.config import SpaceConfig


class PrototypeHead(nn.Module):
    """MLP, bottleneck and prototypes."""

    def __init__(self, width: int, config: SpaceConfig):
        super().__init__()
        sizes = (width, config.hidden, config.hidden, config.bottleneck)
        linear = [nn.Linear(i, o) for i, o in pairwise(sizes)]
        self.mlp = nn.Sequential(linear[0], nn.GELU(), linear[1], nn.GELU(), linear[2])
        for module in linear:
            # Fan-in scaling [C]: DINO's constant 0.02 is made for width 2048 and leaves a narrow head nearly silent.
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(F.normalize(torch.randn(config.prototypes, config.bottleneck), dim=-1))

    def direction(self, tokens: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest z"]:
        """The point on the unit sphere where a token lands, in fp32.

        The zero vector lands nowhere and stays: all logits are 0. Its gradient is 1e12 times what comes in: finite in fp32 and bf16, and
        brought down by clipping; in fp16 steps are left out until the scaler has come down so far.
        """
        return F.normalize(self.mlp(tokens).float(), dim=-1)

    def vocabulary(self) -> Float[Tensor, "k z"]:
        """The prototypes at unit length, in fp32."""
        return F.normalize(self.prototypes.float(), dim=-1)

    def score(self, direction: Float[Tensor, "*rest z"]) -> Float[Tensor, "*rest k"]:
        """Logits over the k prototypes. fp32 even under autocast: they are divided by temperatures as small as 0.04."""
        with torch.autocast(direction.device.type, enabled=False):
            return direction.float() @ self.vocabulary().T

    def forward(self, tokens: Float[Tensor, "*rest d"]) -> Float[Tensor, "*rest k"]:
        return self.score(self.direction(tokens))


class EncodingSpace(nn.Module):
    """Heads for [CLS] and for patches: the same one [S], or two for comparison."""

    def __init__(self, width: int, config: SpaceConfig):
        super().__init__()
        self.cls = PrototypeHead(width, config)
        self.patch = self.cls if config.shared else PrototypeHead(width, config)

    def heads(self) -> list[PrototypeHead]:
        """The distinct heads: one when shared."""
        return [self.cls] if self.cls is self.patch else [self.cls, self.patch]


def kmeans_prototypes(directions: Float[Tensor, "points z"], prototypes: int, seed: int = 0) -> Float[Tensor, "k z"]:
    """Prototypes placed by k-means where tokens really land [C]: random ones are mostly far from all of them, and die.

    Fewer points than prototypes are filled up with random directions.
    """
    from sklearn.cluster import MiniBatchKMeans

    points = directions.detach().float().cpu()
    clusters = min(prototypes, len(points))
    fitted = MiniBatchKMeans(clusters, random_state=seed, n_init=1, batch_size=4096, max_iter=20).fit(points.numpy())
    centers = torch.from_numpy(fitted.cluster_centers_).to(points.dtype)
    spare = torch.randn(prototypes - clusters, points.shape[1], generator=torch.Generator().manual_seed(seed))
    return F.normalize(torch.cat([centers, spare]), dim=-1).to(directions.device)
