"""Processes that work on many tasks, with results in the order of the tasks."""

import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from semmim_mini.errors import UserError
from semmim_mini.orphans import end_with_parent

Task, Result = TypeVar("Task"), TypeVar("Result")


class Workers:
    """Use it in a `with`. Leaving it, also by Ctrl-C, waits for what is being worked on and drops what is not yet begun.

    Args:
        count: processes; 0 works in this one.
    """

    def __init__(self, count: int):
        # Fresh processes, as every system has them: a copy of one that has started threads may hang.
        self.pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_start) if count else None
        self.count = count

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """`function`, which stands at the top of a module, of each task. Two tasks for each process are taken in advance, no more."""
        if self.pool is None:
            yield from map(function, tasks)
            return
        pending = deque()
        try:
            for task in tasks:
                pending.append(self.pool.submit(function, task))
                if len(pending) >= 2 * self.count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise UserError("a worker process was killed, perhaps because memory ran out; lower --workers and run it again") from None


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one says when to stop
    warnings.simplefilter("ignore")  # Pillow's on odd metadata, thousands of them
    end_with_parent()
