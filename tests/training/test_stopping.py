"""Stopping: what the first and the second signal do, and the command that goes on."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from semmim_mini.config import Config, DataConfig, TaskConfig
from semmim_mini.errors import UserError
from semmim_mini.training import stopping
from semmim_mini.training.stopping import GracefulStop, agreed, how_to_go_on, losing_workers


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks(number):
    before, run = signal.getsignal(number), SimpleNamespace(stop_requested=False)
    with GracefulStop(run):
        send(number)
        assert run.stop_requested
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_acts_at_once():
    run = SimpleNamespace(stop_requested=False)
    with GracefulStop(run):
        send(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_second_sigterm_is_the_same_one_passed_on():
    run = SimpleNamespace(stop_requested=False)
    with GracefulStop(run):
        send(signal.SIGTERM)
        send(signal.SIGTERM)
    assert run.stop_requested


@pytest.mark.parametrize("asked", [True, False])
def test_one_process_agrees_with_itself(asked):
    assert agreed(asked, torch.device("cpu")) is asked


SIGNALLED = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.\nmore")
BROKEN = [ConnectionResetError(104, "Connection reset by peer"), ConnectionRefusedError(111, "Connection refused"), EOFError()]


@pytest.mark.parametrize("error", [SIGNALLED, *BROKEN], ids=lambda error: type(error).__name__)
def test_a_lost_worker_is_told_with_the_remedy(error, monkeypatch):
    monkeypatch.setattr(stopping, "SIGNAL_ARRIVES", 0.01)
    with pytest.raises(UserError) as told, losing_workers(Config(data=DataConfig(workers=2)), Path("runs/a")):
        raise error
    reason = {RuntimeError: "DataLoader worker (pid 7) is killed by signal: Killed.", EOFError: "EOFError"}.get(type(error), str(error))
    assert f"a process that prepares batches was killed, most often because memory ran out ({reason})" in str(told.value)
    assert "lower data.workers=2 or data.batch_size" in str(told.value) and how_to_go_on(Config(), Path("runs/a")) in str(told.value)
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes"), *BROKEN], ids=lambda error: type(error).__name__)
def test_without_workers_none_is_lost(error):
    with pytest.raises(type(error)) as raised, losing_workers(Config(data=DataConfig(workers=0)), Path("runs/a")):
        raise error
    assert raised.value is error


def test_the_signal_of_a_death_does_not_cut_into_the_message():
    def late(number, frame):
        arrived.append(number)
        raise SIGNALLED

    arrived, before = [], signal.signal(signal.SIGALRM, late)
    config = Config(data=DataConfig(workers=1))
    try:
        with pytest.raises(UserError, match=r"was killed, .* \(\[Errno 104\]"), losing_workers(config, Path("runs/a")):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            raise BROKEN[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert arrived == [signal.SIGALRM]


@pytest.mark.parametrize(
    ("task", "command"),
    [
        ("pretrain", "semmim-mini pretrain --out runs/a --resume"),
        ("retrieval", "semmim-mini finetune retrieval --out runs/a --resume"),
        ("vqa", "semmim-mini finetune vqa --out runs/a --resume"),
    ],
)
def test_the_command_names_the_task(task, command):
    assert how_to_go_on(replace(Config(), task=TaskConfig(name=task)), Path("runs/a")) == command


def test_the_command_can_be_pasted():
    from semmim_mini.cli import build_parser

    command = how_to_go_on(Config(), Path("my runs/a"))
    assert command == "semmim-mini pretrain --out 'my runs/a' --resume"
    import shlex

    assert build_parser().parse_args(shlex.split(command)[1:]).out == Path("my runs/a")
