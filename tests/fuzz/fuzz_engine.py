r"""A reader is fed with broken input: what comes back must be a result or the documented error.

    seed input ─► 1 to 4 mutations, drawn by (seed, target, number) ─► reader ─► result
                                                                             ├──► documented error, short and printable
                                                                             └──► anything else: a finding

Input `number` of a target is the same on every machine, whatever was fed before it.
"""

import contextlib
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from semmim_mini.errors import UserError

LONGEST_MESSAGE = 2_000  # characters; whoever reads it has a terminal before them
LONGEST_INPUT = 2**20  # bytes; a larger one tests patience, not readers
MEGABYTE = 2**20

Mutation = Callable[[random.Random, bytes], bytes]


@dataclass(frozen=True)
class Target:
    """One reader.

    Args:
        seeds: valid inputs, as the code's own writers or the collections have them.
        mutate: breaks an input a little.
        read: puts an input where the reader looks for it, calls the reader, and looks at all that it gives.
        errors: what the reader may raise.
        cost: of an input, in that of a quick one (a millisecond); a quick look takes so many times fewer.
    """

    name: str
    seeds: tuple[bytes, ...]
    mutate: Mutation
    read: Callable[[bytes], object]
    errors: tuple[type[Exception], ...] = (UserError,)
    cost: int = 1

    def input(self, seed: int, number: int) -> bytes:
        draw = random.Random(f"{seed}/{self.name}/{number}")
        data = draw.choice(self.seeds)
        for _ in range(draw.choice((1, 1, 2, 4))):
            data = self.mutate(draw, data)[:LONGEST_INPUT]
        return data


class TooSlow(BaseException):
    """Not an Exception: readers that turn all of these into theirs must not swallow it."""


@dataclass
class Finding:
    number: int
    reason: str
    data: bytes


@dataclass
class Tally:
    """What became of a target's inputs."""

    name: str
    inputs: int = 0
    results: int = 0
    refusals: int = 0
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, -1)  # seconds, number of the input
    growth: int = 0  # bytes by which the process's peak of memory rose
    findings: list[Finding] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.name:22} {self.inputs:>8,} inputs {self.results:>8,} results {self.refusals:>8,} refused {len(self.findings):>4} "
            f"other  {self.inputs / max(self.seconds, 1e-9):>7,.0f}/s  slowest {self.slowest[0]:.3f} s (input {self.slowest[1]})  "
            f"peak +{self.growth / MEGABYTE:.0f} MiB"
        )


def outcome(target: Target, data: bytes) -> str:
    """ "result" or "refused"; anything else is returned as what went wrong."""
    try:
        target.read(data)
    except KeyboardInterrupt:
        raise
    except target.errors as error:
        return _unfit(str(error)) or "refused"
    except TooSlow:
        return "still not done when the time was up"
    except BaseException as error:
        return f"{type(error).__module__}.{type(error).__name__}: {str(error)[:300]!r}"
    return "result"


def _unfit(message: str) -> str:
    """What makes a message unfit for people, if anything does."""
    if not 0 < len(message) <= LONGEST_MESSAGE:
        return f"a message of {len(message):,} characters, beginning with {message[:200]!r}"
    try:
        message.encode("utf-8")
    except UnicodeEncodeError:
        return f"a message that cannot be printed: {message[:200]!r}"
    return ""


def fuzz(target: Target, inputs: int, seed: int = 0, seconds: float | None = None, memory: int | None = None) -> Tally:
    """Feed `target` with its first `inputs` inputs.

    Args:
        seconds, memory: that one input may take, and bytes by which it may raise the process's peak; None for no such check.
    """
    tally = Tally(target.name)
    for data in target.seeds:
        if (found := outcome(target, data)) != "result":
            tally.findings.append(Finding(-1, f"a valid input gives no result, but {found}", data))
    first = peak()
    for number in range(inputs):
        data, before, began = target.input(seed, number), peak(), time.perf_counter()
        with _limited(seconds):
            found = outcome(target, data)
        took, grew = time.perf_counter() - began, peak() - before
        tally.slowest = max(tally.slowest, (took, number))
        tally.inputs, tally.seconds = tally.inputs + 1, tally.seconds + took
        tally.results, tally.refusals = tally.results + (found == "result"), tally.refusals + (found == "refused")
        if seconds is not None and took > seconds:
            found = f"took {took:.1f} s"
        elif memory is not None and grew > memory:
            found = f"took {grew / MEGABYTE:,.0f} MiB of memory"
        if found not in ("result", "refused"):
            tally.findings.append(Finding(number, found, data))
    tally.growth = peak() - first
    return tally


def peak() -> int:
    """Bytes, the most main memory that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Ends what takes longer, as far as it runs in Python."""
    if seconds is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_slow(*_) -> None:
    raise TooSlow


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path
