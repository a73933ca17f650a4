"""Every loss, target and relevance in fp32 against float64: values and gradients, for random shapes and scales.

    value      |ours − exact| / max(1, |exact|)
    gradient   largest |ours − exact| / max(largest |exact|, the slope that one row of the loss can have at most)

The second denominator has the slope for answers that are right already: what is left of their gradient is the difference of two
numbers near 1. Measured over 240 examples of each, logits up to ±400: values are at most 3e-7 off (centred targets 6e-7), gradients
at most 1e-6. `TOLERANCE` is twice that.

Two functions lose digits before they can do anything about it, and are allowed `reach` times as much: normalised pixels, whose
contrast is small beside the brightness that is taken away (1.2e-5 at a contrast of 0.01), and the encoding space, where the
rounding of three layers adds up (2e-6).
"""

from collections.abc import Callable
from dataclasses import dataclass

import float64_references as exact
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from semmim_mini.config import SpaceConfig
from semmim_mini.model.encoding_space import PrototypeHead
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.objectives.contrastive import itc_loss
from semmim_mini.objectives.masked_image import code_loss, pixel_loss, token_loss
from semmim_mini.objectives.masked_language import caption_loss, mlm_loss
from semmim_mini.objectives.masking import cross_relevance, hide_highest, itc_relevance, query_relevance
from semmim_mini.objectives.matching import itm_loss
from semmim_mini.objectives.targets import centred_targets, sinkhorn_targets

TOLERANCE = 2e-6  # fp32 has 1.2e-7 between 1 and its neighbour


@dataclass
class Example:
    """One call: what it is given, and what is trained."""

    ours: Callable
    exact: Callable
    given: tuple
    trained: tuple[int, ...] = (0,)  # places in `given` whose gradients are compared
    slope: float = 0.0  # the largest gradient that one row can send
    reach: float = 1.0  # how many times the tolerance


def in_(dtype: torch.dtype, example: Example) -> tuple[list, list[torch.Tensor]]:
    """The arguments in that precision, and those of them that are trained."""
    arguments = [x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in example.given]
    for place in example.trained:
        arguments[place] = arguments[place].detach().clone().requires_grad_()
    return arguments, [arguments[place] for place in example.trained]


def largest(x: torch.Tensor) -> float:
    return float(x.detach().abs().max())


def errors(example: Example) -> tuple[float, float]:
    """(value, gradient), relative as said above."""
    (given, trained), (given64, trained64) = in_(torch.float32, example), in_(torch.float64, example)
    ours, truth = example.ours(*given), example.exact(*given64)
    value = largest(ours.double() - truth) / max(1.0, largest(truth))
    if not trained:
        return value, 0.0
    weight = torch.linspace(-1, 1, truth.numel(), dtype=torch.float64).reshape(truth.shape) if truth.ndim else torch.tensor(1.0)
    (ours * weight.float()).sum().backward()
    (truth * weight).sum().backward()
    pairs = [(a.grad.double(), b.grad) for a, b in zip(trained, trained64, strict=True)]
    return value, max(largest(a - b) / max(largest(b), example.slope) for a, b in pairs)


# Examples: random shapes from a generator, logits as large as `scale` times a normal draw --------------------------------


def size(draw: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=draw))


def normal(draw: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=draw)


def unit_rows(draw: torch.Generator, *shape: int) -> torch.Tensor:
    return F.normalize(normal(draw, *shape), dim=-1)


def codes(draw, scale) -> Example:
    m, k, tau = size(draw, 1, 5), size(draw, 2, 9), 0.1
    student = tau * scale * normal(draw, m, k)
    return Example(code_loss, exact.code_loss, (student, normal(draw, m, k).softmax(-1), tau), slope=1 / tau / m)


def consensus(draw, scale) -> Example:
    v, b, k, tau = size(draw, 2, 3), size(draw, 1, 4), size(draw, 2, 9), 0.1
    student, target = tau * scale * normal(draw, v, b, k), normal(draw, v, b, k).softmax(-1)
    return Example(consensus_loss, exact.consensus_loss, (student, target, tau), slope=1 / tau / v / b)


def itc(draw, scale) -> Example:
    """Own keys and hard targets: features and temperature are trained through both sides."""
    b, queue, p, tau = size(draw, 1, 5), size(draw, 0, 4), size(draw, 2, 8), torch.tensor(1 / max(1.0, scale))
    image_keys, text_keys = unit_rows(draw, b + queue, p), unit_rows(draw, b + queue, p)
    ids = torch.randint(0, b, (b,), generator=draw)
    key_ids = torch.cat([ids, torch.randint(0, 2 * b, (queue,), generator=draw)])
    given = (unit_rows(draw, b, p), unit_rows(draw, b, p), image_keys, text_keys, ids, key_ids, tau)
    return Example(itc_loss, exact.itc_loss, given, (0, 1, 2, 3, 6), slope=1 / float(tau) / b)


def itc_soft(draw, scale) -> Example:
    """A teacher's keys and beliefs, with a queue."""
    example, alpha = itc(draw, scale), 0.4
    image, text, image_keys, text_keys, *_ = example.given
    teacher = [F.normalize(x + 0.3 * normal(draw, *x.shape), dim=-1) for x in (image, text, image_keys, text_keys)]
    example.given, example.trained = (*example.given, alpha, *teacher), (0, 1, 6)
    return example


def right_answers(ours: Callable, classes: tuple[int, int]) -> Callable:
    def make(draw, scale) -> Example:
        m, k = size(draw, 1, 6), size(draw, *classes)
        logits = scale * normal(draw, m, k)
        given = (logits, torch.randint(0, k, (m,), generator=draw))
        return Example(ours, exact.words_loss, given, slope=1 / m)

    return make


def caption(draw, scale) -> Example:
    b, length, vocab = size(draw, 1, 3), size(draw, 2, 5), size(draw, 2, 9)
    logits, ids = scale * normal(draw, b, length, vocab), torch.randint(0, vocab, (b, length), generator=draw)
    words = torch.arange(length) < torch.randint(2, length + 1, (b, 1), generator=draw)
    return Example(caption_loss, exact.caption_loss, (logits, ids, words), slope=1 / float(words[:, 1:].sum()))


def pixels(draw, scale) -> Example:
    """Normalised colours lie in [−3, 3]; a patch's contrast goes down to a thousandth of that."""
    m, n = size(draw, 1, 4), size(draw, 3, 48)
    patches = 3 * (2 * torch.rand(m, 1, generator=draw) - 1) + normal(draw, m, n) / max(1.0, scale)
    return Example(pixel_loss, exact.pixel_loss, (normal(draw, m, n), patches), reach=1 + scale / 10)


def cosines(draw: torch.Generator, rows: int, k: int) -> torch.Tensor:
    """Logits as the encoding space gives them."""
    return 2 * torch.rand(rows, k, generator=draw) - 1


def teacher_temperature(scale: float) -> float:
    """Down to the sharpest that presets have."""
    return 1 / min(max(2.0, scale), 25.0)


def centred(draw, scale) -> Example:
    rows, k = size(draw, 1, 6), size(draw, 2, 9)
    given = (cosines(draw, rows, k), 0.1 * normal(draw, k), teacher_temperature(scale))
    return Example(centred_targets, exact.centred_targets, given, ())


def sinkhorn(draw, scale) -> Example:
    rows, k = size(draw, 1, 8), size(draw, 2, 9)
    return Example(sinkhorn_targets, exact.sinkhorn_targets, (cosines(draw, rows, k), teacher_temperature(scale)), ())


def space(draw, scale) -> Example:
    """Direction and score: tokens, prototypes and all six tensors of the MLP."""
    d, rows, k = size(draw, 2, 8), size(draw, 1, 4), size(draw, 2, 6)
    shape = SpaceConfig(prototypes=k, hidden=12, bottleneck=8)
    module = PrototypeHead(d, shape)
    names = ("prototypes", *(f"mlp.{i}.{part}" for part in ("weight", "bias") for i in (0, 2, 4)))
    parameters = dict(module.named_parameters())
    tensors = [normal(draw, *parameters[name].shape) * parameters[name].shape[-1] ** -0.5 for name in names]

    def ours(tokens, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (tokens,))

    def truth(tokens, prototypes, *values):
        return exact.head(tokens, prototypes, list(values[:3]), list(values[3:]))

    return Example(ours, truth, (min(scale, 10) * normal(draw, rows, d), *tensors), tuple(range(8)), reach=3)


def cross(draw, scale) -> Example:
    layers, b, h, length, n = (size(draw, 1, 4) for _ in range(5))
    weights = normal(draw, layers, b, h, length, n).mul(scale).softmax(-1)
    return Example(cross_relevance, exact.cross_relevance, (weights, torch.rand(b, length, generator=draw) < 0.6), ())


def query(draw, scale) -> Example:
    b, h, n, c = (size(draw, 1, 5) for _ in range(4))
    question, keys = scale**0.5 * normal(draw, b, h, 1, c), scale**0.5 * normal(draw, b, h, n, c)
    return Example(query_relevance, exact.query_relevance, (question, keys), ())


def cosine(draw, scale) -> Example:
    b, n, p = size(draw, 1, 4), size(draw, 1, 6), size(draw, 2, 8)
    return Example(itc_relevance, exact.itc_relevance, (scale * normal(draw, b, n, p), scale * normal(draw, b, p)), ())


EXAMPLES = {
    "itc": itc,
    "itc with soft targets": itc_soft,
    "itm": right_answers(itm_loss, (2, 2)),
    "mlm": right_answers(mlm_loss, (2, 30)),
    "caption": caption,
    "consensus": consensus,
    "codes": codes,
    "pixels": pixels,
    "tokens": right_answers(token_loss, (2, 12)),
    "centred targets": centred,
    "sinkhorn targets": sinkhorn,
    "encoding space": space,
    "relevance cross, caption": cross,
    "relevance query": query,
    "relevance itc": cosine,
}
SEEDS, SCALES = st.integers(0, 10_000), st.sampled_from([0.01, 1.0, 10.0, 100.0])


@pytest.mark.parametrize("name", EXAMPLES)
@settings(max_examples=25)
@given(seed=SEEDS, scale=SCALES)
def test_fp32_is_as_near_to_float64_as_its_digits_allow(name, seed, scale):
    example = EXAMPLES[name](torch.Generator().manual_seed(seed), scale)
    value, gradient = errors(example)
    assert value <= example.reach * TOLERANCE and gradient <= example.reach * TOLERANCE


@given(seed=SEEDS)
def test_masks_of_fp32_and_float64_scores_differ_only_where_scores_tie(seed):
    draw = torch.Generator().manual_seed(seed)
    weights, content = torch.randn(2, 3, 2, 5, 9, generator=draw).softmax(-1), torch.rand(3, 5, generator=draw) < 0.7
    scores, truth = cross_relevance(weights, content), exact.cross_relevance(weights.double(), content)
    counts = torch.tensor([3, 1, 9])
    ours, theirs = hide_highest(scores, counts), hide_highest(truth, counts)
    for i in range(3):
        hidden, shown = truth[i][ours[i] & ~theirs[i]], truth[i][theirs[i] & ~ours[i]]
        assert len(hidden) == 0 or (shown.max() - hidden.min()) <= TOLERANCE
