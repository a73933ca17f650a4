r"""From a batch to a mask: which score, which strategy, which random numbers.

`objectives/masking.py` has the pure functions; here they meet the networks. The teacher's clean features are the image side of
every score, because the mask must be known before the student sees the masked view; fusion encoder and caption decoder have no
teacher, so the student's own read them, without gradient.
"""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives import masking
from semmim_mini.training import processes
from semmim_mini.training.schedules import Plan


class Masker:
    """Masks for the masked view of a batch."""

    def __init__(self, model: SemMIM):
        self.model, self.config = model, model.config

    @torch.no_grad()
    def __call__(self, teaching, batch, plan: Plan, draw: torch.Generator) -> Bool[Tensor, "b n"]:
        """The mask as the plan wants it: `random` while scores mean nothing, then as configured.

        Random numbers are drawn for the global batch and sliced, so that they do not depend on the number of processes.
        """
        config, n, everyone = self.config.masking, self.config.n_patches, len(batch.image_ids) * processes.world()
        draws, noise = torch.rand(everyone, 2, generator=draw), torch.rand(everyone, n, generator=draw)
        counts = masking.mask_counts(n, config.ratio, config.masked_share, draws)
        strategy = "random" if plan.random_mask else config.strategy
        if strategy == "block":
            mask = masking.hide_blocks(self.model.student.image.side, counts, draw)
            return processes.own_slice(mask).to(batch.images.device)
        scores = processes.own_slice(noise) if strategy == "random" else self.scores(strategy, teaching, batch)
        return masking.hide_highest(scores.to(batch.images.device), processes.own_slice(counts).to(batch.images.device))

    def scores(self, strategy: str, teaching, batch) -> Float[Tensor, "b n"]:
        """High where the strategy wants to hide."""
        if strategy == "attention":
            return self.model.teacher.image.cls_attention(teaching.trunk)
        relevance = self.relevance(self.config.masking.relevance, teaching, batch)
        return relevance if strategy == "text_high" else -relevance

    @torch.no_grad()
    def relevance(self, kind: str, teaching, batch) -> Float[Tensor, "b n"]:
        """Relevance of each patch to the caption."""
        teacher = self.model.teacher
        if kind == "query":
            return masking.query_relevance(*teacher.image.text_query(teaching.trunk, teaching.words[:, 0]))
        if kind == "itc":
            return masking.itc_relevance(teacher.project_image(teaching.clean[:, 1:]), teaching.text)
        if kind == "caption":
            weights = self.model.decoder.attention_to_patches(batch.input_ids, batch.attention_mask, teaching.clean)
        else:
            weights = self.model.fusion.attention_to_patches(teaching.words, batch.attention_mask, teaching.clean)
        return masking.cross_relevance(weights, content_tokens(batch.attention_mask))


def content_tokens(words: Bool[Tensor, "b l"]) -> Bool[Tensor, "b l"]:
    """Tokens between [CLS] and [SEP]."""
    places = torch.arange(words.shape[1], device=words.device)
    last = rearrange(words.sum(dim=1) - 1, "b -> b 1")
    return words & (places > 0) & (places < last)
