"""Curves for TensorBoard: every number under its name, once, through stops and resumes."""

import sys

import pytest

from semmim_mini.errors import UserError
from semmim_mini.training.tensorboard import FOLDER, Curves, require_tensorboard, scalars

RECORD = {
    "step": 3,
    "loss": {"itc": 1.5, "mim": 2.0},
    "chance": {"itc": 2.5, "mim": 3.0},
    "grad_norm": 0.5,
    "lr_factor": 0.25,
    "momentum": 0.9,
    "random_mask": True,
    "images_per_second": 12.0,
}


def test_names_by_hand():
    assert scalars(RECORD, lr=0.5) == {
        "loss/itc": 1.5,
        "loss/mim": 2.0,
        "chance/itc": 2.5,
        "chance/mim": 3.0,
        "health/grad_norm": 0.5,
        "plan/lr": 0.125,
        "plan/momentum": 0.9,
        "plan/random_mask": 1.0,
        "speed/images_per_second": 12.0,
    }


def read(folder):
    """{curve: [(step, value)]} as TensorBoard shows it: what was purged is not there."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / FOLDER), purge_orphaned_data=True)
    events.Reload()
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}, events


def write(folder, config, start: int, steps: range, loss: float) -> None:
    curves = Curves(folder, start, config)
    for step in steps:
        curves.add(RECORD | {"step": step, "loss": {"itc": loss}, "chance": {"itc": 2.5}})
    curves.close()


def test_a_resumed_run_goes_on_with_the_curve(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    write(tmp_path, tiny(), 0, range(4), loss=1.0)
    write(tmp_path, tiny(), 2, range(2, 5), loss=2.0)  # resumed from the checkpoint of step 2
    found, _ = read(tmp_path)
    assert found["loss/itc"] == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]
    assert [step for step, _ in found["plan/lr"]] == [0, 1, 2, 3, 4]


def test_a_loss_and_its_chance_share_a_picture(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    write(tmp_path, tiny("losses.mlm.weight=0"), 0, range(1), loss=1.0)
    _, events = read(tmp_path)
    layout = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    assert b"loss/itc" in layout and b"chance/itc" in layout and b"loss/mlm" not in layout


def test_without_the_package_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r'run\.tensorboard=true needs the package tensorboard: pip install "semmim-mini\[full\]"'):
        require_tensorboard()
