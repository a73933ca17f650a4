r"""What varies most in patch features? Their first three principal components as red, green and blue, before and after training.

A fresh network's patches differ mostly by position and colour. Features that have learned objects give one colour to an object
wherever it stands. A look, not a proof: the number is only how much of the variance three components hold.
"""

import numpy as np
import torch
from sklearn.decomposition import PCA

from semmim_mini.figures.patterns import patch_grid
from semmim_mini.figures.style import MARGIN, SMALL, WIDTH, Drawn, Sheet, as_picture, percent, styled
from semmim_mini.instruments.held_out import HeldOut
from semmim_mini.model.semmim import Encoders


@torch.no_grad()
def patch_features(encoders: Encoders, batches: list[HeldOut]) -> np.ndarray:
    """Text-free features of clean patches (b·n, d)."""
    return torch.cat([encoders.image(b.images[0])[:, 1:].flatten(0, 1) for b in batches]).float().cpu().numpy()


def three_colours(features: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows of features as colours in [0, 1], and the share of their variance that three components explain.

    Each component is stretched from its 2nd to its 98th percentile; the sign, which PCA leaves open, is set so that skewness is positive.
    """
    pca = PCA(3, random_state=0)
    components = pca.fit_transform(features)
    components *= np.where((components**3).sum(axis=0) < 0, -1, 1)
    low, high = np.percentile(components, [2, 98], axis=0)
    return ((components - low) / np.maximum(high - low, 1e-9)).clip(0, 1), float(pca.explained_variance_ratio_.sum())


@styled
def pca_of_patches(before: Encoders, after: Encoders, batches: list[HeldOut], pictures: int = 8) -> Drawn:
    """The first pictures, and below them their patches' components before and after training.

    Returns:
        `explained` and `explained_untrained`: share of the patch features' variance in the three components shown.
    """
    (fresh, without), (trained, share) = (three_colours(patch_features(e, batches)) for e in (before, after))
    number, images = {"explained": share, "explained_untrained": without}, torch.cat([b.images[0] for b in batches])
    left, gap = 0.95, 0.08
    shown = min(pictures, len(images))
    size = (WIDTH - MARGIN - left - gap * (pictures - 1)) / pictures
    sheet = Sheet(
        f"Three principal components of patch features hold {percent(share)} of their variance; untrained {percent(without)}",
        3 * (size + gap),
        "Components 1, 2, 3 as red, green, blue, fitted over all held-out patches; colours of the two rows do not correspond. "
        "Like colours within a row: like features.",
    )
    rows = [[as_picture(image) for image in images[:shown]], *(patch_grid(x, batches)[:shown] for x in (fresh, trained))]
    for i, (name, tiles) in enumerate(zip(("picture", "untrained", "trained"), rows, strict=True)):
        sheet.text(MARGIN, i * (size + gap) + size / 2 - 0.07, name, SMALL, weight="bold")
        for j, tile in enumerate(tiles):
            sheet.picture(left + j * (size + gap), i * (size + gap), size, tile)
    return Drawn(sheet.figure, number)
