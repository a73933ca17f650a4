"""Runs that must stop, and what they leave behind: a message that names the cause, and the last good checkpoint."""

import errno
import shutil

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from small_runs import changed, metrics, train

from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint, loop
from semmim_mini.training.step import SemMIMStep


def spoil(monkeypatch, step: int, term: str = "mlm", value: float = float("nan")) -> None:
    """From `step` (counted from 0) on, one loss term is no number."""
    real = SemMIMStep.forward

    def forward(self, batch, plan, seed):
        out = real(self, batch, plan, seed)
        if plan.step >= step:
            out.losses[term] = out.losses[term] * value
        return out

    monkeypatch.setattr(SemMIMStep, "forward", forward)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_term_and_step(value, small, tmp_path, monkeypatch):
    spoil(monkeypatch, step=2, value=value)
    with pytest.raises(loop.Diverged, match=rf"loss term mlm is {value} at step 3; the last checkpoint is intact"):
        train(small, tmp_path)
    assert checkpoint.read_pointer(tmp_path, "last") == "step-000002"
    weights = load_file(checkpoint.find(tmp_path) / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert len(metrics(tmp_path)) == 2
    monkeypatch.undo()
    assert train(small, tmp_path, resume=True).steps == 6


def test_before_anything_is_saved_no_checkpoint_is_promised(small, tmp_path, monkeypatch):
    spoil(monkeypatch, step=0, value=float("nan"))
    with pytest.raises(loop.Diverged, match="loss term mlm is nan at step 1; nothing is saved yet: begin again in a new folder"):
        train(small, tmp_path)


def test_a_gradient_that_is_no_number_stops_before_the_weights(small, tmp_path, monkeypatch):
    real = loop.Training._update

    def update(self, plan, step):
        if step == 2:
            self.model.itm_head.weight.grad.fill_(float("nan"))
        return real(self, plan, step)

    monkeypatch.setattr(loop.Training, "_update", update)
    run = loop.Training(small, tmp_path)
    with pytest.raises(loop.Diverged, match=r"the gradient of step 3 is no finite number; lower optim\.lr"):
        run.run()
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left on device")])
def test_a_full_disk_leaves_the_previous_checkpoint(error, small, tmp_path, monkeypatch):
    train(small, tmp_path, until=2)
    before = {path.name: path.read_bytes() for path in checkpoint.find(tmp_path).glob("*.safetensors")}

    def full(tensors, path):
        open(path, "wb").close()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(UserError, match=r"No space left on device; the last good checkpoint is step-000002"):
            train(small, tmp_path, resume=True)
    assert checkpoint.read_pointer(tmp_path, "last") == "step-000002"
    assert {path.name: path.read_bytes() for path in checkpoint.find(tmp_path).glob("*.safetensors")} == before
    assert not list(tmp_path.rglob("*.tmp"))
    assert train(small, tmp_path, resume=True, until=4).steps == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can compute in fp16")
def test_fp16_needs_a_gpu(small, tmp_path):
    with pytest.raises(UserError, match="needs a GPU; use fp32 or auto"):
        train(changed(small, "run.precision=fp16"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_second_run_in_one_process_may_choose_another_precision(small, tmp_path):
    assert train(changed(small, "run.steps=1"), tmp_path / "fp32").precision == "fp32"
    assert train(changed(small, "run.steps=1", "run.precision=bf16"), tmp_path / "bf16").precision == "bf16"


@pytest.fixture
def damaged(photos, tmp_path):
    """The photos, `damaged(n)` of them cut off in the middle."""

    def make(count: int):
        folder = tmp_path / "flickr8k"
        shutil.copytree(photos, folder)
        for picture in sorted((folder / "Images").iterdir())[:count]:
            picture.write_bytes(picture.read_bytes()[:300])
        return folder

    return make


def test_an_unreadable_picture_is_named_and_the_run_goes_on(small, damaged, tmp_path, capsys):
    config = changed(small, f"data.source=flickr8k:{damaged(1)}", "data.max_bad_share=0.1", "run.steps=4")
    assert train(config, tmp_path / "run").steps == 4  # four batches of eight: every picture has been asked for
    assert "skipped unreadable picture 001.png" in capsys.readouterr().out
    assert np.isfinite([record["loss"]["itc"] for record in metrics(tmp_path / "run")]).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_pictures_stop_the_run(workers, small, damaged, tmp_path):
    config = changed(small, f"data.source=flickr8k:{damaged(6)}", "data.max_bad_share=0.1", "run.steps=4", f"data.workers={workers}")
    with pytest.raises(UserError, match=r"\d of 32 pictures .*data\.max_bad_share"):
        train(config, tmp_path / "run")


def test_missing_pictures_are_counted_before_anything_is_trained(small, photos, tmp_path):
    folder = tmp_path / "flickr8k"
    shutil.copytree(photos, folder)
    for picture in sorted((folder / "Images").iterdir())[:6]:
        picture.unlink()
    with pytest.raises(UserError, match=r"6 of 32 pictures cannot be used, .*'001\.png' \(missing\)"):
        train(changed(small, f"data.source=flickr8k:{folder}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
