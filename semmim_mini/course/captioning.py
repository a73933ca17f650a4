"""Checkers of notebook 10, captioning: what is asked at each place, one step of a beam, a nucleus, and BLEU."""

import math
from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare
from semmim_mini.objectives.masked_language import IGNORE

CLS, SEP, PAD = 2, 3, 0  # ids, as in the tokenizers trained here
NEVER = float("-inf")

# 10.1 -----------------------------------------------------------------------------------------------------------------


def check_shift(student: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """`student(ids (b, l), words (b, l))` → what is read and what is wanted, (b, l − 1) each; −100 where nothing is asked."""

    def case(generator, draw):
        b, length = draw(3, 5), draw(6, 9)
        lengths = torch.tensor([length, 3, *(draw(3, length) for _ in range(b - 2))])[:, None]
        ids, place = torch.randint(5, 40, (b, length), generator=generator), torch.arange(length)
        ids[:, 0] = CLS
        ids = torch.where(place == lengths - 1, SEP, ids).where(place < lengths, PAD)
        return Case(ids=ids, words=place < lengths)

    compare("Exercise 10.1", student, _shift, cases_of(case), SHIFT_MISTAKES)


def _shift(ids: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    return ids[:, :-1], ids[:, 1:].masked_fill(~words[:, 1:], IGNORE)


def _whole(wanted: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Everything is read, the last token too, and `wanted` has a place for it."""
    return lambda ids, words: (ids, wanted(ids, words))


def _rolled(ids: Tensor, words: Tensor) -> Tensor:
    return ids.roll(-1, dims=1).masked_fill(~words.roll(-1, dims=1), IGNORE)


def _ends(words: Tensor) -> Tensor:
    """True at the last real token of each row."""
    return words & ~torch.cat([words[:, 1:], torch.zeros_like(words[:, :1])], dim=1)


SHIFT_MISTAKES = (
    Mistake(
        lambda ids, words: (ids[:, :-1], ids[:, :-1].masked_fill(~words[:, :-1], IGNORE)),
        "nothing is shifted: each place is asked for the word that it has just read. Copying solves that, and no language is learned; "
        "wanted is ids[:, 1:]",
    ),
    Mistake(
        _whole(lambda ids, words: ids.masked_fill(~words, IGNORE)),
        "nothing is shifted: each place is asked for the word that it has just read. Read ids[:, :-1] and want ids[:, 1:]",
    ),
    Mistake(
        lambda ids, words: (ids[:, 1:], ids[:, :-1].masked_fill(~words[:, :-1], IGNORE)),
        "shifted the wrong way: each place is asked for the word before it. Read ids[:, :-1] and want ids[:, 1:]",
    ),
    Mistake(
        _whole(_rolled),
        "roll wraps around: the last place is asked for [CLS]. The last token has no next one, so both results are one shorter: (b, l - 1)",
    ),
    Mistake(
        lambda ids, words: (ids[:, :-1], ids[:, 1:]),
        "padding is asked for: the decoder would be praised for writing [PAD] after [PAD]. Where words[:, 1:] is False, wanted is -100, "
        "which cross_entropy leaves out; 0 is the id of [PAD]",
    ),
    Mistake(
        lambda ids, words: (ids[:, :-1], ids[:, 1:].masked_fill(~words[:, :-1], IGNORE)),
        "[SEP] is asked for the [PAD] behind it: the mask has to be shifted with the words, words[:, 1:]",
    ),
    Mistake(
        lambda ids, words: (ids[:, :-1], ids[:, 1:].masked_fill((~words | _ends(words))[:, 1:], IGNORE)),
        "[SEP] is never asked for, so the decoder would not learn to stop; it is a word like the others",
    ),
    Mistake(
        lambda ids, words: _shift(ids, words)[::-1],
        "the two results have changed places: first what is read, then what is wanted",
    ),
)

# 10.2 -----------------------------------------------------------------------------------------------------------------


def check_beam_step(student: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]) -> None:
    """`student(running (k,), log_probs (k, v))` → the k best continuations, best first: log p, the beam each goes on from, its word."""

    def case(generator, draw):
        k, v = draw(3, 5), draw(7, 11)
        log_probs = (1.5 * torch.randn(k, v, generator=generator)).log_softmax(dim=-1)
        running = -torch.rand(k, generator=generator).cumsum(dim=0) - 0.5
        log_probs[0, :2] = torch.tensor([0.4, 0.35]).log()  # so that one beam goes on twice
        return Case(running=running, log_probs=log_probs)

    compare("Exercise 10.2", student, _beam_step, cases_of(case), BEAM_STEP_MISTAKES)


def _best(scores: Tensor, largest: bool = True, divide: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The k best of (k, v) scores with row and column."""
    total, place = scores.flatten().topk(len(scores), largest=largest)
    divide = divide or scores.shape[1]
    return total, place // divide, place % divide


def _beam_step(running: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _best(running[:, None] + log_probs)


def _one_each(running: Tensor, log_probs: Tensor, ordered: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    total, word = (running[:, None] + log_probs).max(dim=1)
    order = total.argsort(descending=True) if ordered else torch.arange(len(total))
    return total[order], order, word[order]


def _step_alone(running: Tensor, log_probs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, beam, word = _beam_step(running, log_probs)
    return log_probs[beam, word], beam, word


BEAM_STEP_MISTAKES = (
    Mistake(
        lambda running, log_probs: _best(log_probs),
        "`running` is not used: a likely word after an unlikely beginning would win. Add what each beam has so far",
    ),
    Mistake(
        _one_each,
        "every beam goes on once, with its likeliest word: that is k greedy searches. All k·v continuations compete, and a beam may go on "
        "twice or not at all",
    ),
    Mistake(
        lambda running, log_probs: _one_each(running, log_probs, ordered=False),
        "every beam goes on once, with its likeliest word: that is k greedy searches. All k·v continuations compete; flatten, then topk",
    ),
    Mistake(
        lambda running, log_probs: _best(running[:, None] * log_probs),
        "logarithms are multiplied; a product of probabilities is a sum of logarithms",
    ),
    Mistake(
        lambda running, log_probs: _best(running[:, None] + log_probs.exp()),
        "a probability is added to a logarithm; log_probs are logarithms already, like running",
    ),
    Mistake(
        lambda running, log_probs: _best(running[None] + log_probs.T),
        "beams and words have changed places: rows of log_probs are beams",
    ),
    Mistake(
        lambda running, log_probs: _best(running[:, None] + log_probs, divide=len(running)),
        "place // k is not the beam: in a flattened (k, v) each row has v places, so beam = place // v and word = place % v",
    ),
    Mistake(
        lambda running, log_probs: tuple(_beam_step(running, log_probs)[i] for i in (0, 2, 1)),
        "beam and word have changed places in the answer: first the sums, then the beams, then the words",
    ),
    Mistake(lambda running, log_probs: _best(running[:, None] + log_probs, largest=False), "these are the k worst; the likeliest go on"),
    Mistake(
        _step_alone,
        "the first result is the log p of the new word alone; the next step needs that of the whole caption, with what was running",
    ),
)

# 10.3 -----------------------------------------------------------------------------------------------------------------


def check_nucleus(student: Callable[[Tensor, float], Tensor]) -> None:
    """`student(probs (b, v), top_p)` → (b, v): 0 outside the nucleus, the rest scaled so that each row adds up to 1 again."""

    def case(generator, draw):
        probs = (2 * torch.randn(draw(3, 5), draw(8, 14), generator=generator)).softmax(dim=-1)
        return Case(probs=probs, top_p=draw(5, 9) / 10)

    compare("Exercise 10.3", student, _nucleus, cases_of(case), NUCLEUS_MISTAKES)


def _kept(probs: Tensor, top_p: float, crossing: int = 0, ascending: bool = False) -> Tensor:
    """True in the nucleus. `crossing` −1 leaves out the word that reaches top_p, 1 takes one more."""
    share, word = probs.sort(dim=-1, descending=not ascending)
    count = (share.cumsum(dim=-1) < top_p).sum(dim=-1, keepdim=True) + 1 + crossing
    return torch.zeros_like(probs, dtype=torch.bool).scatter(1, word, torch.arange(probs.shape[1]) < count)


def _rescaled(probs: Tensor) -> Tensor:
    return probs / probs.sum(dim=-1, keepdim=True)


def _nucleus(probs: Tensor, top_p: float) -> Tensor:
    return _rescaled(probs * _kept(probs, top_p))


def _as_sorted(probs: Tensor, top_p: float) -> Tensor:
    return _nucleus(probs.sort(dim=-1, descending=True).values, top_p)


NUCLEUS_MISTAKES = (
    Mistake(
        lambda probs, top_p: _rescaled(probs * _kept(probs, top_p, crossing=-1)),
        "the word that reaches top_p is left out, so that the rest stays below it; the nucleus is the smallest set that reaches top_p",
    ),
    Mistake(
        lambda probs, top_p: _rescaled(probs * _kept(probs, top_p, crossing=1)),
        "one word too many: keep a word while what stands before it is below top_p (cumsum - share < top_p)",
    ),
    Mistake(
        lambda probs, top_p: probs * _kept(probs, top_p),
        "the rows do not add up to 1: what is left has to be scaled, divide by its sum",
    ),
    Mistake(
        lambda probs, top_p: (probs.log().masked_fill(~_kept(probs, top_p), 0.0)).softmax(dim=-1),
        "a logarithm of 0 is no ban, it is probability 1. Outside the nucleus the probability is 0, and its logarithm -inf",
    ),
    Mistake(
        lambda probs, top_p: (probs * _kept(probs, top_p)).softmax(dim=-1),
        "softmax is for logits: of probabilities it makes other ones, and words outside get some again. Divide by the sum",
    ),
    Mistake(
        _as_sorted,
        "the answer is still in sorted order, so probabilities belong to other words; put them back (scatter or gather)",
    ),
    Mistake(
        lambda probs, top_p: _rescaled(probs * (probs.cumsum(dim=-1) - probs < top_p)),
        "the words are not sorted: this keeps the first ones of the vocabulary, not the likeliest",
    ),
    Mistake(
        lambda probs, top_p: _rescaled(probs * _kept(probs, top_p, ascending=True)),
        "sorted from the least likely up, so the tail is kept; descending=True",
    ),
    Mistake(
        lambda probs, top_p: _rescaled(probs * (probs >= top_p * probs.max(dim=-1, keepdim=True).values)),
        "a threshold beside the likeliest word is another rule; the nucleus is decided by the sum of the likeliest words",
    ),
    Mistake(
        lambda probs, top_p: torch.nn.functional.one_hot(probs.argmax(dim=-1), probs.shape[1]).float(),
        "only the likeliest word is left: that is greedy. Keep words until their probabilities add up to top_p",
    ),
)

# 10.4 -----------------------------------------------------------------------------------------------------------------

WORDS = ("red", "bus", "dog", "and", "cat", "is", "there", "two", "blue", "cup")


def check_bleu(student: Callable[[Sequence[str], Sequence[Sequence[str]], int], float]) -> None:
    """`student(caption, references, n)` → BLEU-n of a caption, a list of words, against references, lists of words."""

    shapes = ((1, True), (2, False), (-1, True), (0, False), (2, True), (-1, False))
    cases = [_bleu_case(seed, longer, short) for seed, (longer, short) in enumerate(shapes)]
    compare("Exercise 10.4", student, _bleu, cases, BLEU_MISTAKES)


def _bleu_case(seed: int, longer: int, short: bool) -> Case:
    """A caption; a reference `longer` than it by so many words that begins alike; a long one; and a `short` one or the long one again."""
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> list[str]:
        return [WORDS[i] for i in torch.randint(len(WORDS), (count,), generator=generator)]

    caption = ["a", *some(4), *["a"] * (1 + seed % 4), *some(2)]
    near, far = caption[:5] + some(len(caption) + longer - 5), ["a", *some(len(caption) + 5)]
    return Case(caption=caption, references=[["a", *some(2)] if short else far, near, far], n=2 + seed % 3)


def _grams(words: Sequence[str], n: int) -> Counter:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _most(references: Sequence[Sequence[str]], n: int) -> Counter:
    """How often each n-gram stands in the reference that has it most often."""
    most = Counter()
    for reference in references:
        most |= _grams(reference, n)
    return most


def _precision(caption, references, n, most=_most) -> float:
    mine = _grams(caption, n)
    return sum((mine & most(references, n)).values()) / sum(mine.values())


def _unclipped(caption, references, n) -> float:
    mine, known = _grams(caption, n), _most(references, n)
    return sum(count for gram, count in mine.items() if gram in known) / sum(mine.values())


def _recall(caption, references, n) -> float:
    known = _most(references, n)
    return sum((_grams(caption, n) & known).values()) / sum(known.values())


def _closest(caption: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    return min((abs(len(reference) - len(caption)), len(reference)) for reference in references)[1]


def _brevity(caption, references, length=_closest, always: bool = False) -> float:
    ratio = length(caption, references) / len(caption)
    return math.exp(1 - ratio) if ratio > 1 or always else 1.0


def _geometric(values: Sequence[float]) -> float:
    return math.prod(values) ** (1 / len(values))


def _bleu(caption, references, n, precision=_precision, brevity=_brevity, mean=_geometric, orders=None) -> float:
    """BLEU-n with its choices as arguments."""
    return mean([precision(caption, references, i) for i in orders or range(1, n + 1)]) * brevity(caption, references)


def _but(**choice) -> Callable:
    return lambda caption, references, n: _bleu(caption, references, n, **choice)


def _by_length(length: Callable) -> Callable:
    return _but(brevity=lambda caption, references: _brevity(caption, references, length))


def _sum_of_all(references, n) -> Counter:
    return sum((_grams(reference, n) for reference in references), Counter())


BLEU_MISTAKES = (
    Mistake(
        _but(precision=_unclipped),
        "the counts are not clipped, and a caption of nothing but `a` would be perfect. An n-gram counts at most as often as in the "
        "reference that has it most often",
    ),
    Mistake(
        _but(precision=lambda caption, references, i: _precision(caption, references, i, _sum_of_all)),
        "the counts of all references are added up for clipping; it is the largest count in any one of them",
    ),
    Mistake(
        lambda caption, references, n: _bleu(caption, references[:1], n),
        "only the first reference is used",
    ),
    Mistake(_but(mean=lambda values: sum(values) / len(values)), "this is the arithmetic mean of the precisions; BLEU takes the geometric"),
    Mistake(
        _but(mean=math.prod),
        "the precisions are multiplied, but the n-th root is missing: the geometric mean is a product to the power of 1/n",
    ),
    Mistake(_but(brevity=lambda caption, references: 1.0), "the penalty for captions that are too short is missing"),
    Mistake(
        _but(brevity=lambda caption, references: _brevity(caption, references, always=True)),
        "captions that are longer than the reference get a bonus; the penalty is 1 for them",
    ),
    Mistake(
        _by_length(lambda caption, references: min(map(len, references))),
        "the length to compare with is that of the shortest reference here; it is the one closest to the caption's",
    ),
    Mistake(
        _by_length(lambda caption, references: max(map(len, references))),
        "the length to compare with is that of the longest reference here; it is the one closest to the caption's",
    ),
    Mistake(
        _by_length(lambda caption, references: sum(map(len, references)) / len(references)),
        "the length to compare with is the mean of all references here; it is the one closest to the caption's",
    ),
    Mistake(
        lambda caption, references, n: _bleu(caption, references, n, orders=[n]),
        "only n-grams of the largest order count here; BLEU-n is the mean over the orders 1 to n",
    ),
    Mistake(
        lambda caption, references, n: _bleu(caption, references, n, orders=range(1, n)),
        "the largest order is left out: range(1, n + 1)",
    ),
    Mistake(
        _but(precision=_recall),
        "this divides by the n-grams of the references, which is recall; precision divides by those of the caption",
    ),
)
