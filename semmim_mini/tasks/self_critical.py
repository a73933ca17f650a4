r"""Self-critical sequence training: a caption is praised when it beats the one the model would have written [F: Rennie et al. 2017].

    image ─┬─► greedy caption ──► CIDEr-D ──► baseline ─┐
           └─► sampled caption ─► CIDEr-D ──► reward  ──┴─► (reward − baseline) · −log p(sampled caption)

Cross-entropy teaches the next word after a *right* beginning; nobody corrects the decoder's own beginnings, and it is scored by
CIDEr in the end. CIDEr has no gradient, but log p of a sampled caption has (REINFORCE): raise what scored above the baseline, lower
what scored below. The baseline costs one more decoding and no trained critic: it is what the decoder would do when used.

Rarity of n-grams is counted once, over the training captions (`Cider`): a reward must not depend on who else is in the batch.
A last stage of fine-tuning, from a decoder that cross-entropy has trained, at a small rate [F].
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.caption_scores import tokenize
from semmim_mini.tasks.captioning import require_decoder
from semmim_mini.tasks.decoding import Decoding, generate

ORDER, SPREAD = 4, 6.0  # n-grams up to 4; σ of the penalty on length, in bigrams [F: CIDEr-D]


def ngrams(tokens: str) -> Counter:
    """How often each n-gram, up to `ORDER`, stands in tokens with spaces between."""
    words = tokens.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDER + 1) for i in range(len(words) - n + 1))


class Cider:
    """CIDEr-D of one caption against its references, with rarity fixed by a corpus [F: Vedantam et al. 2015].

    CIDEr-D = 10 · mean over n = 1…4 and over references r of  min(c, r)·r / (|c| |r|) · exp(−Δ²/2σ²),  where c and r are vectors of
    n-gram counts times log(images / images with that n-gram), and Δ is the difference of lengths.

    Args:
        corpus: tokenised references of every image, as `caption_scores.tokenize` gives them.
    """

    def __init__(self, corpus: Iterable[Sequence[str]]):
        self.images, self.frequency = 0, Counter()
        for references in corpus:
            self.images += 1
            self.frequency.update(set().union(*map(ngrams, references)))
        if self.images < 2:
            raise UserError(f"CIDEr needs captions of at least 2 images to know what is rare; the corpus has {self.images}")

    def __call__(self, caption: str, references: Sequence[str]) -> float:
        mine = self._vectors(ngrams(caption))
        return 10 * float(np.mean([self._likeness(mine, self._vectors(ngrams(reference))) for reference in references]))

    def _vectors(self, counts: Counter) -> tuple[list[dict], list[float], int]:
        """For each n the weighted counts and their norm; and the length, in bigrams as in pycocoevalcap."""
        vectors: list[dict] = [{} for _ in range(ORDER)]
        for gram, count in counts.items():
            vectors[len(gram) - 1][gram] = count * (np.log(self.images) - np.log(max(self.frequency[gram], 1)))
        norms = [float(np.sqrt(sum(x * x for x in vector.values()))) for vector in vectors]
        return vectors, norms, sum(count for gram, count in counts.items() if len(gram) == 2)

    @staticmethod
    def _likeness(mine: tuple, other: tuple) -> float:
        """Mean over n of the clipped cosines: saying a word more often than the reference brings nothing."""
        cosines = []
        for c, r, norm_c, norm_r in zip(mine[0], other[0], mine[1], other[1], strict=True):
            product = sum(min(x, r[gram]) * r[gram] for gram, x in c.items() if gram in r)
            cosines.append(product / (norm_c * norm_r) if norm_c * norm_r > 0 else 0.0)
        return float(np.mean(cosines)) * float(np.exp(-((mine[2] - other[2]) ** 2) / (2 * SPREAD**2)))


def self_critical_loss(
    log_probs: Float[Tensor, "b l"], words: Bool[Tensor, "b l"], rewards: Float[Tensor, "b"], baseline: Float[Tensor, "b"]
) -> Float[Tensor, ""]:
    """−(reward − baseline) · log p, mean over all words of the batch [F: mean over words, as for cross-entropy].

    Args:
        log_probs: of each word of the sampled captions.
        words: which places hold a word; [SEP] is one.
        rewards, baseline: of the sampled and of the greedy captions; no gradient passes through them.
    """
    advantage = (rewards - baseline).detach()[:, None]
    return -(advantage * log_probs)[words].sum() / words.sum().clamp_min(1)


class SelfCritical:
    """The loss of a batch of images with references.

    Samples are drawn from all words, unbent: REINFORCE is right only for captions drawn from the distribution whose gradient is taken.

    Args:
        model: whose decoder is trained; the gradient also reaches its image encoder.
        corpus: all captions of each training image, as they are.
    Raises:
        UserError: the model has no caption decoder; a corpus of fewer than two images.
    """

    def __init__(self, model: SemMIM, tokenizer, corpus: Iterable[Sequence[str]]):
        require_decoder(model)
        self.model, self.tokenizer = model, tokenizer
        self.cider = Cider([tokenize(caption) for caption in references] for references in corpus)
        rules = dict(max_length=model.config.data.max_length, min_length=0, no_repeat=0)
        self.sampling = Decoding("nucleus", top_p=1.0, **rules)
        self.greedy = Decoding("greedy", **rules)

    def __call__(
        self, images: Float[Tensor, "b 3 r r"], references: Sequence[Sequence[str]], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The loss, and the mean CIDEr-D of sampled and greedy captions."""
        decoder, image = self.model.decoder, self.model.student.image(images)
        sampled = generate(decoder, image, self.tokenizer, self.sampling, generator=generator)
        greedy = generate(decoder, image, self.tokenizer, self.greedy)
        rewards, baseline = (self._reward(written.texts, references).to(images.device) for written in (sampled, greedy))

        real = sampled.ids != self.tokenizer.pad_token_id
        log_probs = decoder(sampled.ids, real, image)[:, :-1].float().log_softmax(dim=-1)
        chosen = log_probs.gather(2, sampled.ids[:, 1:, None]).squeeze(2)
        loss = self_critical_loss(chosen, real[:, 1:], rewards, baseline)
        return loss, {"cider_sampled": rewards.mean().item(), "cider_greedy": baseline.mean().item()}

    def _reward(self, texts: list[str], references: Sequence[Sequence[str]]) -> Float[Tensor, "b"]:
        right = [[tokenize(reference) for reference in several] for several in references]
        return torch.tensor([self.cider(tokenize(text), several) for text, several in zip(texts, right, strict=True)])
