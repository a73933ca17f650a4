"""Stopping: what the first and the second signal do, and the command that goes on."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from semmim_mini.config import Config, TaskConfig
from semmim_mini.training.stopping import GracefulStop, agreed, how_to_go_on


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
