"""Checkers of notebook 03, text and alignment: contrast with several positives, a ring of features, hard negatives, the words' entropy."""

from collections.abc import Callable

import torch
from torch import Tensor

from semmim_mini.course.checking import Case, Mistake, cases_of, compare
from semmim_mini.objectives.contrastive import enqueue, itc_loss
from semmim_mini.objectives.masked_language import unigram_entropy
from semmim_mini.objectives.matching import sample_negatives

NEVER = float("-inf")


# 3.1 ------------------------------------------------------------------------------------------------------------------


def check_info_nce(student: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> None:
    """`student(similarity (b, s), ids (b,), key_ids (s,), temperature)` → one direction of ITC, a scalar tensor."""

    def case(generator, draw):
        b, queue = draw(3, 5), draw(3, 6)
        ids = torch.arange(b)
        ids[-1] = 0  # the batch shows picture 0 twice
        key_ids = torch.cat([ids, torch.arange(queue) + b - 2])  # the queue has a picture of the batch, and others
        return Case(
            similarity=2 * torch.rand(b, b + queue, generator=generator) - 1,
            ids=ids,
            key_ids=key_ids,
            temperature=draw(7, 50) / 100,
        )

    compare("Exercise 3.1", student, _info_nce, cases_of(case), INFO_NCE_MISTAKES)


def _info_nce(similarity: Tensor, ids: Tensor, key_ids: Tensor, temperature: float) -> Tensor:
    """By the library's own function: queries are rows of similarities, keys unit vectors, both directions alike."""
    keys = torch.eye(len(key_ids))
    return itc_loss(similarity, similarity, keys, keys, ids, key_ids, temperature)


def _same(ids: Tensor, key_ids: Tensor) -> Tensor:
    return (ids[:, None] == key_ids[None, :]).float()


def _log_odds(similarity: Tensor, temperature: float, dim: int = 1) -> Tensor:
    return (similarity / temperature).log_softmax(dim=dim)


def _mean_of_positives(log_odds: Tensor, positive: Tensor) -> Tensor:
    return -((log_odds * positive).sum(dim=1) / positive.sum(dim=1)).mean()


INFO_NCE_MISTAKES = (
    Mistake(
        lambda s, ids, keys, tau: _mean_of_positives(_log_odds(s, 1.0), _same(ids, keys)),
        "the temperature is missing; cosines lie between -1 and 1, and undivided they leave softmax nearly undecided",
    ),
    Mistake(
        lambda s, ids, keys, tau: _mean_of_positives(_log_odds(s, 1 / tau), _same(ids, keys)),
        "the similarities are multiplied by the temperature; divide by it",
    ),
    Mistake(
        lambda s, ids, keys, tau: _mean_of_positives(_log_odds(s, tau, dim=0), _same(ids, keys)),
        "softmax runs over the queries; each query shares one unit of probability out among the keys: dim=1",
    ),
    Mistake(
        lambda s, ids, keys, tau: _mean_of_positives(_log_odds(s, tau), torch.eye(*s.shape)),
        "only the diagonal counts as positive, so another caption of the same picture is pushed away; compare ids with key_ids",
    ),
    Mistake(
        lambda s, ids, keys, tau: _mean_of_positives(
            _log_odds(s.masked_fill(_same(ids, keys).bool() & ~torch.eye(*s.shape).bool(), NEVER), tau).clamp_min(-1e9), torch.eye(*s.shape)
        ),
        "other captions of the same picture are left out altogether; no negatives, but positives: compare ids with key_ids",
    ),
    Mistake(
        lambda s, ids, keys, tau: -((_log_odds(s, tau).exp() * _same(ids, keys)).sum(1) / _same(ids, keys).sum(1)).log().mean(),
        "you average the probabilities of the positives and then take the logarithm; cross-entropy averages the log-probabilities. "
        "Your loss is content when one of the positives is found, this one only when all are",
    ),
    Mistake(
        lambda s, ids, keys, tau: -(_log_odds(s, tau).exp() * _same(ids, keys)).sum(dim=1).log().mean(),
        "you add up the probabilities of the positives and then take the logarithm; cross-entropy averages the log-probabilities. "
        "Your loss is content when one of the positives is found, this one only when all are",
    ),
    Mistake(
        lambda s, ids, keys, tau: -(_log_odds(s, tau) * _same(ids, keys)).sum(dim=1).mean(),
        "the log-probabilities of a row's positives are added up; the truth is a distribution, so take their mean",
    ),
    Mistake(
        lambda s, ids, keys, tau: -_log_odds(s, tau)[_same(ids, keys).bool()].mean(),
        "all positive pairs are averaged at once, so a query with three positives counts three times; first the mean of each row, "
        "then the mean of the rows",
    ),
    Mistake(
        lambda s, ids, keys, tau: -((_log_odds(s, tau) * _same(ids, keys)).sum(dim=1) / _same(ids, keys).sum(dim=1)).sum(),
        "the queries' losses are added up; take their mean, or the loss grows with the batch",
    ),
    Mistake(lambda s, ids, keys, tau: -_info_nce(s, ids, keys, tau), "the sign is missing: log-probabilities are negative, a loss is not"),
)

# 3.2 ------------------------------------------------------------------------------------------------------------------


def check_enqueue(student: Callable[[Tensor, Tensor, int], tuple[Tensor, int]]) -> None:
    """`student(queue (places, p), rows (r, p), pointer)`, r ≤ places → the new queue, and where the next rows will begin."""

    def case(generator, draw):
        places, width = draw(4, 7), draw(1, 3)
        pointer = draw(1, places - 1)
        rows = draw(2, places)
        queue, new = (torch.randn(length, width, generator=generator) for length in (places, rows))
        return Case(queue=queue, rows=new, pointer=pointer)

    full = Case(queue=torch.zeros(4, 1), rows=torch.ones(4, 1), pointer=0)  # ends at the last place
    crossing = Case(queue=torch.zeros(5, 2), rows=torch.arange(1.0, 7.0).reshape(3, 2), pointer=4)
    compare("Exercise 3.2", student, _enqueue, [*cases_of(case), full, crossing], ENQUEUE_MISTAKES)


def _enqueue(queue: Tensor, rows: Tensor, pointer: int) -> tuple[Tensor, int]:
    queue = queue.clone()
    return queue, enqueue(queue, rows, pointer)


def _written(queue: Tensor, rows: Tensor, places: Tensor) -> Tensor:
    queue = queue.clone()
    queue[places] = rows[: len(places)]
    return queue


def _after(queue: Tensor, rows: Tensor, pointer: int, shift: int = 0) -> int:
    return (pointer + len(rows) + shift) % len(queue)


def _places(queue: Tensor, rows: Tensor, start: int) -> Tensor:
    return (start + torch.arange(len(rows))) % len(queue)


def _start_over(queue: Tensor, rows: Tensor, pointer: int) -> tuple[Tensor, int]:
    begin = pointer if pointer + len(rows) <= len(queue) else 0
    return _written(queue, rows, _places(queue, rows, begin)), (begin + len(rows)) % len(queue)


ENQUEUE_MISTAKES = (
    Mistake(
        lambda queue, rows, p: (_written(queue, rows, torch.arange(p, min(p + len(rows), len(queue)))), _after(queue, rows, p)),
        "rows that do not fit before the end are lost; a ring goes on at place 0: take the places modulo len(queue)",
    ),
    Mistake(
        _start_over,
        "a batch that does not fit begins anew at place 0; the last places keep their old rows, and younger ones are overwritten. "
        "Take each place modulo len(queue)",
    ),
    Mistake(
        lambda queue, rows, p: (_written(queue, rows, torch.arange(len(rows))), _after(queue, rows, 0)),
        "the rows are always written from place 0 on; begin at the pointer, where the oldest row is",
    ),
    Mistake(
        lambda queue, rows, p: (_written(queue, rows, _places(queue, rows, p)), p + len(rows)),
        "the pointer runs out of the ring; it needs the modulo, too",
    ),
    Mistake(
        lambda queue, rows, p: (_written(queue, rows, _places(queue, rows, p)), _after(queue, rows, p, -1)),
        "the pointer names the last place that was written, so that the next batch overwrites the newest row; it is one further",
    ),
    Mistake(
        lambda queue, rows, p: (_written(queue, rows, _places(queue, rows, p + 1)), _after(queue, rows, p)),
        "off by one: the first row belongs at the pointer itself, not behind it",
    ),
    Mistake(
        lambda queue, rows, p: (_written(queue, rows, (p + torch.arange(len(rows))) % (len(queue) - 1)), _after(queue, rows, p)),
        "off by one: modulo len(queue) - 1 never reaches the last place",
    ),
    Mistake(
        lambda queue, rows, p: (torch.cat([queue, rows])[len(rows) :], _after(queue, rows, p)),
        "all rows move up to make room; a ring moves nothing, it overwrites the oldest rows where they stand",
    ),
    Mistake(
        lambda queue, rows, p: _written(queue, rows, _places(queue, rows, p)),
        "the queue is right; return the next pointer as well: (queue, pointer)",
    ),
)

# 3.3 ------------------------------------------------------------------------------------------------------------------


def check_negatives(student: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """`student(similarity (b, s), ids (b,), key_ids (s,), uniform (b, s))` → a key of another picture for each row, (b,); −1: none."""

    def case(generator, draw):
        b, more = draw(5, 8), draw(1, 4)
        ids = torch.arange(b)
        ids[-1] = 0  # picture 0 twice in the batch
        key_ids = torch.cat([ids, torch.arange(more)])
        similarity = 1.5 * torch.randn(b, b + more, generator=generator) - 4 + 4 * _same(ids, key_ids)
        return Case(similarity=similarity, ids=ids, key_ids=key_ids, uniform=torch.rand(b, b + more, generator=generator))

    draw = torch.Generator().manual_seed(6)
    alone = Case(
        similarity=torch.randn(2, 3, generator=draw), ids=torch.tensor([4, 5]), key_ids=torch.tensor([4, 4, 4]),
        uniform=torch.rand(2, 3, generator=draw),
    )  # fmt: skip
    compare("Exercise 3.3", student, sample_negatives, [*cases_of(case), alone], NEGATIVES_MISTAKES)


def _gumbel(uniform: Tensor) -> Tensor:
    return -torch.log(-torch.log(uniform))


def _best(score: Tensor, excluded: Tensor, none: int | None = -1, forbidden: float = NEVER) -> Tensor:
    """The highest key of each row that is not excluded; `none` where all are."""
    choice = score.masked_fill(excluded, forbidden).argmax(dim=1)
    return choice if none is None else torch.where(excluded.all(dim=1), none, choice)


def _own(ids: Tensor, key_ids: Tensor) -> Tensor:
    return ids[:, None] == key_ids[None, :]


def _excluded_too_late(similarity: Tensor, ids: Tensor, key_ids: Tensor, uniform: Tensor) -> Tensor:
    choice = (similarity + _gumbel(uniform)).argmax(dim=1)
    return torch.where(key_ids[choice] == ids, -1, choice)


NEGATIVES_MISTAKES = (
    Mistake(
        lambda s, ids, keys, u: (s + _gumbel(u)).argmax(dim=1),
        "nothing is excluded: a picture's own caption is its best match, and would be called a mismatch",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s + _gumbel(u), torch.eye(*s.shape).bool()),
        "only the diagonal is excluded; another caption of the same picture is true as well: compare ids with key_ids",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s + _gumbel(u), _own(ids, keys), forbidden=0.0),
        "a score of 0 is no ban: others may be negative. Excluded keys need -inf",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s.masked_fill(_own(ids, keys), 0.0) + _gumbel(u), torch.zeros_like(s).bool()),
        "a score of 0 is no ban: others may be negative. Excluded keys need -inf",
    ),
    Mistake(
        _excluded_too_late,
        "the own picture is looked for after the draw, so rows that drew themselves have no negative; exclude before the maximum",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s, _own(ids, keys)),
        "no chance is in it: always the hardest negative, the same in every epoch. Add the Gumbel numbers to the similarities",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(u, _own(ids, keys)),
        "the similarity is not used: these are random negatives, not hard ones",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s - _gumbel(u), _own(ids, keys)),
        "the sign of the noise is wrong: g = -log(-log u), with two minus signs, and it is added",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s - torch.log(u), _own(ids, keys)),
        "one logarithm is missing: -log u is exponential noise; g = -log(-log u)",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s.softmax(dim=1) * u, _own(ids, keys)),
        "probability times uniform number draws in other proportions than the softmax; add g = -log(-log u) to the similarities",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s.softmax(dim=1) + _gumbel(u), _own(ids, keys)),
        "the Gumbel numbers belong to the logits, not to the probabilities: leave the softmax out",
    ),
    Mistake(
        lambda s, ids, keys, u: _best(s + _gumbel(u), _own(ids, keys), none=None),
        "a row whose keys are all of its own picture has no negative; return -1 there, not key 0",
    ),
)

# 3.4 ------------------------------------------------------------------------------------------------------------------


def check_unigram_entropy(student: Callable[[Tensor, Tensor], float]) -> None:
    """`student(ids (b, l), words (b, l) bool)` → entropy in nats of how often each token occurs, a float; padding is no word."""

    def case(generator, draw):
        b, length, vocabulary = draw(3, 6), draw(7, 12), draw(6, 15)
        words = torch.arange(length) < torch.randint(3, length - 2, (b, 1), generator=generator)
        # Some ids never occur, and small ones more often than large ones.
        ids = (vocabulary * torch.rand(b, length, generator=generator) ** 2).long() * 2 + 1
        return Case(ids=ids * words, words=words)

    compare("Exercise 3.4", student, lambda ids, words: unigram_entropy(ids[words]), cases_of(case), ENTROPY_MISTAKES)


def _entropy(ids: Tensor) -> float:
    return unigram_entropy(ids.flatten())


ENTROPY_MISTAKES = (
    Mistake(lambda ids, words: _entropy(ids), "padding is counted as a word, the commonest of all; take ids[words]"),
    Mistake(
        lambda ids, words: _entropy(ids[words]) / torch.tensor(2.0).log().item(),
        "this is in bits (log2); the losses are in nats, so take the natural logarithm",
    ),
    Mistake(
        lambda ids, words: float(torch.tensor(float(len(ids[words].unique()))).log()),
        "the logarithm of how many different words there are: what guessing costs if all are equally common. Use their counts",
    ),
    Mistake(
        lambda ids, words: float(torch.tensor(float(ids.max() + 1)).log()),
        "the logarithm of the vocabulary's size: what guessing costs if all pieces are equally common. Use their counts",
    ),
    Mistake(
        lambda ids, words: sum(_entropy(row[real]) for row, real in zip(ids, words, strict=True)) / len(ids),
        "you average the entropies of single captions; a guesser knows the frequencies in all of them: count over the whole batch",
    ),
    Mistake(
        lambda ids, words: _entropy(ids[words]) * int(words.sum()),
        "you add up over tokens; a loss is a mean, so weigh each different word with its share: -(share * share.log()).sum()",
    ),
    Mistake(lambda ids, words: -_entropy(ids[words]), "the sign is missing: logarithms of shares are negative, an entropy is not"),
    Mistake(
        lambda ids, words: float(torch.tensor(_entropy(ids[words])).exp()),
        "this is the perplexity, the exponential of the entropy; the losses are its logarithm",
    ),
)
