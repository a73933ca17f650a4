"""Every loss, target and relevance once more: in float64, from its formula, with loops, and without a line of the package.

They take and return what the package's functions do, and are differentiable where those are. None of them subtracts a maximum before it
exponentiates: float64 reaches to e^709, which is what the logits of `test_fp32_losses.py` are chosen for.
"""

import math

import torch
from torch import Tensor


def softmax(row: Tensor) -> Tensor:
    powers = row.exp()
    return powers / powers.sum()


def cross_entropy(target: Tensor, logits: Tensor) -> Tensor:
    """−Σ target · log softmax(logits) of one row."""
    log_sum = logits.exp().sum().log()
    return sum(target[j] * (log_sum - logits[j]) for j in range(len(logits)))


def one_of(k: int, index: int) -> Tensor:
    return torch.tensor([float(j == index) for j in range(k)], dtype=torch.float64)


def mean(values: list[Tensor]) -> Tensor:
    return sum(values) / len(values)


# Losses ---------------------------------------------------------------------------------------------------------------


def code_loss(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    return mean([cross_entropy(t, s / temperature) for t, s in zip(target, student, strict=True)])


def consensus_loss(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    views, images = student.shape[:2]
    pairs = [(u, w, i) for u in range(views) for w in range(views) for i in range(images) if u != w]
    return mean([cross_entropy(target[u, i], student[w, i] / temperature) for u, w, i in pairs])


def itc_loss(image, text, image_keys, text_keys, ids, key_ids, tau, alpha=0.0, *teacher: Tensor) -> Tensor:
    """`teacher`: its images, its texts, its image keys, its text keys."""

    def direction(queries, keys, teacher_queries, teacher_keys):
        rows = []
        for i, query in enumerate(queries):
            hits = torch.tensor([float(ids[i] == other) for other in key_ids], dtype=torch.float64)
            target = hits / hits.sum()
            if alpha > 0:
                belief = softmax(torch.stack([teacher_queries[i] @ key for key in teacher_keys]) / tau.detach())
                target = alpha * belief + (1 - alpha) * target
            rows.append(cross_entropy(target, torch.stack([query @ key for key in keys]) / tau))
        return mean(rows)

    t_image, t_text, t_image_keys, t_text_keys = teacher or (None,) * 4
    return (direction(image, text_keys, t_image, t_text_keys) + direction(text, image_keys, t_text, t_image_keys)) / 2


def words_loss(logits: Tensor, words: Tensor) -> Tensor:
    """ITM, MLM and the codebook's tokens: the cross-entropy with one right answer a row."""
    return mean([cross_entropy(one_of(len(row), int(word)), row) for row, word in zip(logits, words, strict=True)])


def caption_loss(logits: Tensor, ids: Tensor, words: Tensor) -> Tensor:
    b, length, vocab = logits.shape
    said = [(i, j) for i in range(b) for j in range(length - 1) if words[i, j + 1]]
    return mean([cross_entropy(one_of(vocab, int(ids[i, j + 1])), logits[i, j]) for i, j in said])


def pixel_loss(predicted: Tensor, patches: Tensor) -> Tensor:
    rows = []
    for guess, patch in zip(predicted, patches, strict=True):
        centred = patch - patch.sum() / len(patch)
        deviation = ((centred**2).sum() / len(patch) + 1e-6) ** 0.5
        rows.append(((guess - centred / deviation) ** 2).sum() / len(patch))
    return mean(rows)


# Targets --------------------------------------------------------------------------------------------------------------


def centred_targets(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    return torch.stack([softmax((row - center) / temperature) for row in logits])


def sinkhorn_targets(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Columns then rows, in turn; a column below 1e-12 is divided by 1e-12, as the package states."""
    q = torch.stack([softmax(row / temperature) for row in logits])
    for _ in range(iterations):
        for j in range(q.shape[1]):
            q[:, j] = q[:, j] / max(float(q[:, j].sum()), 1e-12)
        for i in range(q.shape[0]):
            q[i] = q[i] / q[i].sum()
    return q


# The encoding space and relevance ---------------------------------------------------------------------------------------


def unit(vector: Tensor) -> Tensor:
    return vector / (vector**2).sum() ** 0.5


def head(tokens: Tensor, prototypes: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Three linear layers with GELU between, and the cosine of what comes out with every prototype."""
    rows = []
    for x in tokens:
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            x = torch.stack([(row * x).sum() for row in weight]) + bias
            if i < 2:
                x = x * (1 + torch.erf(x / math.sqrt(2))) / 2
        rows.append(torch.stack([unit(x) @ unit(prototype) for prototype in prototypes]))
    return torch.stack(rows)


def cross_relevance(weights: Tensor, content: Tensor) -> Tensor:
    layers, b, heads, length, n = weights.shape
    rows = []
    for i in range(b):
        words = [j for j in range(length) if content[i, j]]
        every = [weights[layer, i, h, j] for layer in range(layers) for h in range(heads) for j in words]
        rows.append(mean(every) if every else torch.zeros(n, dtype=torch.float64))
    return torch.stack(rows)


def query_relevance(query: Tensor, keys: Tensor) -> Tensor:
    b, heads, n, c = keys.shape
    attention = [
        [softmax(torch.stack([query[i, h, 0] @ keys[i, h, j] for j in range(n)]) / c**0.5) for h in range(heads)] for i in range(b)
    ]
    return torch.stack([mean(row) for row in attention])


def itc_relevance(patches: Tensor, text: Tensor) -> Tensor:
    return torch.stack([torch.stack([unit(patch) @ unit(words) for patch in image]) for image, words in zip(patches, text, strict=True)])
