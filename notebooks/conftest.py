"""What nbval leaves open when pytest runs the notebooks. Its options stand in pyproject.toml; tests/notebooks reads the files themselves.

| nbval by itself | here |
| --- | --- |
| kernels see GPUs, threads and networks, as it happens | they have the environment that made the committed outputs |
| a kernel that died is waited for until the cell's time is over | the cell fails at once and says so |
| after a cell that failed, all others fail, too | they are skipped, and name the cell |
| a notebook may take as long as it likes | more than the minutes that it states is an error |
"""

import os
import re
import time
from queue import Empty
from unittest import mock

import pytest

from semmim_mini.course.execute import ENVIRONMENT

STATED = re.compile(r"runs in (?:about )?(\d+) minutes? on (?:a |one )?CPU", re.IGNORECASE)
SLACK = 3.0  # times the stated minutes: coverage is measured, and another process has the second core
START = 30.0  # seconds that importing may take besides


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    if not hasattr(item, "cell_num"):  # a test, no cell
        return (yield)
    with mock.patch.dict(os.environ, ENVIRONMENT):  # for the kernel that the first cell starts, and for no test of this process
        result = yield
    kernel = item.parent.kernel
    if "await_reply" not in vars(kernel):
        kernel.await_reply = lambda msg_id, timeout=None: await_reply(kernel, msg_id, timeout)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if not hasattr(item, "cell_num"):
        return (yield)
    notebook, began = item.parent, time.monotonic()
    if hasattr(notebook, "broken"):
        pytest.skip(f"cell {notebook.broken} of this notebook failed")
    try:
        result = yield
    except Exception as error:
        if "outputs differ" not in str(error):  # then the cell did run, and the next ones can
            notebook.broken = item.cell_num
        raise
    notebook.seconds = getattr(notebook, "seconds", 0.0) + time.monotonic() - began
    check_time(notebook)
    return result


def await_reply(kernel, msg_id: str, timeout: float | None) -> None:
    """`RunningKernel.await_reply` that looks after the kernel every second."""
    end = time.monotonic() + (timeout or float("inf"))
    while True:
        try:
            message = kernel.get_message("shell", timeout=1)
        except Empty:
            if not kernel.is_alive():
                raise RuntimeError("the kernel died while it ran this cell; is there enough memory?") from None
            if time.monotonic() > end:
                raise
            continue
        if message["parent_header"].get("msg_id") == msg_id:
            return


def check_time(notebook) -> None:
    """A notebook says in its first cell how long it runs; students plan with that."""
    stated = STATED.search(notebook.nb.cells[0].source)
    seconds = getattr(notebook, "seconds", 0.0)
    if stated and seconds > START + SLACK * 60 * int(stated[1]):
        raise AssertionError(f"this notebook ran for {seconds:.0f} s and states {stated[1]} minutes; make it shorter, or state more")
