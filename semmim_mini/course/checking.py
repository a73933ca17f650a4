r"""The core of all exercise checkers: run a student's function beside the right one, and name the likely mistake.

    cases of random sizes ─► right answer ─┐
                         └─► student's ────┴─► equal? ─ yes ─► "right"
                                                 └ no ─► a known mistake that computes just this? ─► its message
                                                               └ none ─► type, shape or number that differs, and in which case

A checker's knowledge of mistakes is a list of wrong functions. A student who makes one of them gets its message, however the code
was written: what is compared is what it computes. Cases are the same in every run, and too many to be answered by heart.
"""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32, summed in another order

CASES = 6  # of each exercise: too many to be answered by heart

Case = dict[str, Any]  # names and values of one call's arguments, in order


class NotYet(AssertionError):
    """An answer that is not right yet. Notebooks show the message alone: the way through the checker helps nobody."""

    def _render_traceback_(self) -> list[str]:
        return [f"Not yet: {self}"]


class Mistake(NamedTuple):
    """A typical wrong answer and what to tell who gives it."""

    wrong: Callable
    message: str


def as_numbers(answer: Any) -> Any:
    """Several tensors of one number each, or one of several, are as good as several numbers; anything else as it is."""
    is_several = isinstance(answer, (tuple, list)) or (isinstance(answer, Tensor) and answer.ndim == 1)
    return tuple(float(x) for x in answer) if is_several else answer


def as_whole(answer: Any) -> Any:
    """12.0 is as good as 12."""
    return int(answer) if isinstance(answer, float) and answer.is_integer() else answer


def compare(exercise: str, student: Callable, right: Callable, cases: Sequence[Case], mistakes: Sequence[Mistake] = ()) -> None:
    """Run `student` on every case; prints that it is right, or that there is no answer yet.

    Raises:
        NotYet: the answer is wrong. The message is a known mistake's where one fits, and else says what differs.
    """
    expected = [right(*_arguments(case)) for case in cases]
    got = [_answer(student, case) for case in cases]
    if all(answer is None for answer in got):
        print(f"{exercise}: no answer yet. Write one above and run the cell again (an answer without `return` looks the same).")
        return
    differing = [i for i in range(len(cases)) if difference(expected[i], got[i])]
    if not differing:
        print(f"{exercise}: right, in {len(cases)} cases of different sizes.")
        return
    for mistake in mistakes:
        if all(_computes(mistake.wrong, case, answer) for case, answer in zip(cases, got, strict=True)):
            raise NotYet(mistake.message)
    first = differing[0]
    raise NotYet(f"{difference(expected[first], got[first])} (seen with {describe(cases[first])})")


def cases_of(make: Callable[[torch.Generator, Callable[[int, int], int]], Case]) -> list[Case]:
    """Cases of random sizes, the same ones in every run; `make` draws tensors and whole numbers."""
    made = []
    for seed in range(CASES):
        generator = torch.Generator().manual_seed(seed)
        made.append(make(generator, lambda low, high, g=generator: int(torch.randint(low, high + 1, (), generator=g))))
    return made


def _arguments(case: Case) -> list:
    return copy.deepcopy(list(case.values()))


def _answer(student: Callable, case: Case) -> Any:
    """What the student's function returns; it may neither stop nor change what it was given."""
    given = _arguments(case)
    try:
        answer = student(*given)
    except Exception as error:
        raise NotYet(f"your function stopped with {type(error).__name__}: {error} (seen with {describe(case)})") from error
    for name, before, after in zip(case, case.values(), given, strict=True):
        if difference(before, after):
            raise NotYet(f"your function changes its argument `{name}` in place; make a new one, the caller still needs the old")
    return answer


def _computes(wrong: Callable, case: Case, answer: Any) -> bool:
    """Whether a known wrong function gives this answer; one that cannot run on the case does not."""
    try:
        return not difference(wrong(*_arguments(case)), answer)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False


def difference(expected: Any, got: Any) -> str:
    """In words, how `got` differs from `expected`; empty where it does not."""
    if got is None and expected is not None:
        return "nothing came back; is a `return` missing on one of the ways through your function?"
    if isinstance(expected, Tensor):
        return _tensor_difference(expected, got)
    if isinstance(expected, (tuple, list)):
        if not isinstance(got, (tuple, list)) or len(got) != len(expected):
            return f"expected {len(expected)} results, got {got!r}"
        found = ((i, difference(e, g)) for i, (e, g) in enumerate(zip(expected, got, strict=True)))
        return next((f"result {i}: {text}" for i, text in found if text), "")
    if isinstance(expected, float):
        close = isinstance(got, (int, float)) and math.isclose(expected, got, rel_tol=1e-4, abs_tol=1e-6)
        return "" if close else f"expected {expected:.4f}, got {got!r}"
    if isinstance(expected, bool):
        return "" if isinstance(got, (bool, int)) and bool(got) == expected else f"expected {expected}, got {got!r}"
    return "" if expected == got else f"expected {expected!r}, got {got!r}"


def _tensor_difference(expected: Tensor, got: Any) -> str:
    if not isinstance(got, Tensor):
        return f"expected a tensor, got {type(got).__name__}"
    if got.shape != expected.shape:
        reason = "; two axes may have changed places" if sorted(got.shape) == sorted(expected.shape) else ""
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}{reason}"
    if expected.dtype == torch.bool and got.dtype != torch.bool:
        return f"expected True and False (dtype bool), got {got.dtype}"
    unequal = ~torch.isclose(expected.double(), got.double(), **CLOSE, equal_nan=True)
    if not unequal.any():
        return ""
    place = tuple(unequal.nonzero()[0].tolist())
    values = f"at {place} expected {_number(expected[place])}, got {_number(got[place])}"
    return f"{int(unequal.sum())} of {unequal.numel()} numbers differ; {values}"


def _number(value: Tensor) -> str:
    return f"{value.item():.4f}" if value.is_floating_point() else str(value.item())


def describe(case: Case) -> str:
    """The arguments of a case in a few words: shapes of tensors, values of everything else."""
    return ", ".join(f"{name} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else f"{name}={x!r}" for name, x in case.items())
