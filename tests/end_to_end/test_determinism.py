"""The same configuration is the same run: to the bit with the same number of threads, to rounding with another number.

| what is changed | metrics.jsonl and weights |
| --- | --- |
| another process, another hash seed, workers, random states of the user's program | the same bits |
| two threads in place of one | the same up to the order of additions, which training makes larger with every step |
"""

import random

import numpy as np
import pytest
import torch
from small_runs import TERMS, changed, metrics, start, tensors, train

from semmim_mini.config import to_yaml
from semmim_mini.training import step as step_module
from semmim_mini.training.masks import Masker

# A user's program: its random states are anywhere when training begins, and it trains more than once.
PROGRAM = """
import random, sys
from pathlib import Path
import numpy as np
import torch
from semmim_mini.config import from_yaml, override
from semmim_mini.training.loop import Training

config, folder = from_yaml(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
for workers in (0, 1):
    random.seed(workers + 5), np.random.seed(workers + 6), torch.manual_seed(workers + 7)
    Training(override(config, [f"data.workers={workers}"]), folder / str(workers)).run()
"""
# Relative, of a loss, over the six steps of a run; the largest seen was 2e-7.
THREADS = 1e-5


def require_same_bits(one, other) -> None:
    assert metrics(one) == metrics(other) and len(metrics(one)) == 6
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys() and [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.fixture(scope="module")
def whole(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    train(small, folder)
    return folder


def test_another_process_writes_the_same_bits(small, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "12345")  # of the new process: sets and dictionaries of strings in another order
    (tmp_path / "config.yaml").write_text(to_yaml(small), encoding="utf-8")
    process = start("-c", PROGRAM, str(tmp_path / "config.yaml"), str(tmp_path / "runs"))
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    for workers in "01":
        require_same_bits(tmp_path / "runs" / workers, whole)


def test_random_states_of_the_users_program_change_nothing(small, whole, tmp_path):
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    torch.rand(7)
    train(small, tmp_path)
    require_same_bits(tmp_path, whole)


def spied(config, folder, monkeypatch) -> tuple[list[dict], list[torch.Tensor], list[torch.Tensor]]:
    """A run's metrics, its masks, and the negatives that it drew."""
    masks, negatives, mask, sample = [], [], Masker.__call__, step_module.sample_negatives
    with monkeypatch.context() as patch:
        patch.setattr(Masker, "__call__", lambda self, *args: masks.append(mask(self, *args)) or masks[-1])
        patch.setattr(step_module, "sample_negatives", lambda *args: negatives.append(sample(*args)) or negatives[-1])
        train(config, folder)
    return metrics(folder), masks, negatives


def test_two_threads_add_in_another_order_and_nothing_else(small, tmp_path, monkeypatch):
    # Random masks and negatives: what a score chooses may differ where two scores are equal up to rounding.
    config = changed(small, "masking.strategy=random", "losses.hard_negatives=1.0")
    one, masks, negatives = spied(config, tmp_path / "one", monkeypatch)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two, other_masks, other_negatives = spied(config, tmp_path / "two", monkeypatch)
    finally:
        torch.set_num_threads(threads)
    assert len(masks) == 6 and all(map(torch.equal, masks, other_masks))
    assert len(negatives) == 12 and all(map(torch.equal, negatives, other_negatives))
    for record, other in zip(one, two, strict=True):
        assert record["loss"].keys() == set(TERMS)
        assert other["loss"] == pytest.approx(record["loss"], rel=THREADS)
