r"""What must be learned from the data before a loss can be: prototypes placed by k-means, and a codebook of patches.

Both happen once, at the first step that needs them, from that step's global batch: no extra pass over the data, the same on
every process, and the same after a resume.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from semmim_mini.config import Config
from semmim_mini.data.pairs import Pairs
from semmim_mini.data.text import load_tokenizer, train_wordpiece
from semmim_mini.model.encoding_space import kmeans_prototypes
from semmim_mini.model.pretrained import load_pretrained_text
from semmim_mini.model.pretrained_image import load_pretrained_image
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.transfer import transfer
from semmim_mini.objectives.masked_image import patch_pixels
from semmim_mini.training import checkpoint, processes
from semmim_mini.training.schedules import first_step, space_start


def make_tokenizer(config: Config, pairs: Pairs, resumed: Path | None, most: int = 2_000):
    """The tokenizer of a run: of the checkpoint it goes on or starts from, by name or folder, or trained on the captions at hand.

    A vocabulary is trained on at most `most` pairs, spread evenly, so that large sources do not delay the start.
    """
    data, task = config.data, config.task
    if origin := resumed or (checkpoint.find(Path(task.checkpoint)) if task.checkpoint else None):
        return load_tokenizer(origin / "tokenizer")
    if data.tokenizer != "train":
        return load_tokenizer(data.tokenizer)
    places = range(0, len(pairs), max(1, len(pairs) // most))
    return train_wordpiece((caption for i in places for caption in pairs.captions(i)), data.vocab_size)


def first_weights(model: SemMIM, config: Config) -> list[str]:
    """Weights from a checkpoint or from pre-trained encoders, where the configuration says so.

    Returns:
        The parts that a fine-tuning run starts at random, because its checkpoint has none that fit.
    """
    if config.task.checkpoint and not config.task.from_scratch:
        return transfer(model, checkpoint.load_tensors(checkpoint.find(Path(config.task.checkpoint))))
    if config.text.pretrained:
        load_pretrained_text(model, config.text.pretrained)
    if config.image.pretrained:
        load_pretrained_image(model, config.image.pretrained)
    return []


def falls_due(config: Config, step: int) -> bool:
    """Whether `prepare_step` has anything to do at `step`."""
    return _prototypes_due(config, step) or _codebook_due(config, step)


def _prototypes_due(config: Config, step: int) -> bool:
    start = space_start(config)
    return config.space.init == "kmeans" and start < 1 and step == first_step(config, start)


def _codebook_due(config: Config, step: int) -> bool:
    mim = config.losses.mim
    return config.losses.mim_target == "tokens" and mim.weight > 0 and step == first_step(config, mim.start)


def prepare_step(model: SemMIM, batch, step: int) -> None:
    """Do what falls due at `step`: place prototypes, fit the codebook."""
    config = model.config
    if _prototypes_due(config, step):
        place_prototypes(model, batch.images)
    if _codebook_due(config, step):
        model.codebook.copy_(fit_codebook(batch.images, config.image.patch, len(model.codebook)))


@torch.no_grad()
def place_prototypes(model: SemMIM, images: Tensor) -> None:
    """k-means on where the student's patches and [CLS] of this batch land [C]; the teacher gets the same prototypes.

    First the bottleneck is centred on these tokens. What a head gives before any code was learned lies in a narrow cone, where all cosines
    are alike: targets would be vague, and no student, at its own temperature, could tell prototypes apart before the cone has opened.
    """
    # Images first: so ordered, the slices of several processes make up the batch of one, row by row, and k-means agrees.
    tokens = model.student.image(rearrange(images, "v b c h w -> (b v) c h w"))
    for student, teacher in zip(model.student.space.heads(), model.teacher.space.heads(), strict=True):
        landed = processes.gather(rearrange(student.mlp(tokens).float(), "b s z -> (b s) z").contiguous())
        middle = landed.mean(dim=0)
        student.mlp[-1].bias -= middle
        student.prototypes.copy_(kmeans_prototypes(F.normalize(landed - middle, dim=-1), len(student.prototypes)))
        teacher.mlp[-1].bias.copy_(student.mlp[-1].bias)
        teacher.prototypes.copy_(student.prototypes)


@torch.no_grad()
def fit_codebook(images: Tensor, patch: int, tokens: int) -> Tensor:
    """k-means on pixels: a frozen patch tokenizer in the place of VL-BEiT's learned one [C]."""
    from sklearn.cluster import MiniBatchKMeans

    patches = processes.gather(rearrange(patch_pixels(images[0], patch), "b n x -> (b n) x").contiguous()).cpu()
    clusters = min(tokens, len(patches))
    fitted = MiniBatchKMeans(clusters, random_state=0, n_init=1, batch_size=4096).fit(patches.numpy())
    centers = torch.from_numpy(fitted.cluster_centers_).float()
    return centers[torch.arange(tokens) % clusters].to(images.device)
