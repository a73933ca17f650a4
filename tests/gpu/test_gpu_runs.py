"""Whole runs on a GPU: every precision, compiled or not, stopped and resumed; and batches that need not be waited for."""

import math

import pytest
import torch
from small_runs import SMALL, changed, make_photos, metrics

from semmim_mini.config import Config, from_dict
from semmim_mini.data.loader import Batch
from semmim_mini.training import checkpoint
from semmim_mini.training.compiling import compile_layers
from semmim_mini.training.logbook import read_metrics
from semmim_mini.training.loop import Training
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Config:
    return changed(from_dict(SMALL), f"data.source=flickr8k:{make_photos(tmp_path_factory.mktemp('photos'))}")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_ends_and_its_losses_are_numbers(small, tmp_path, precision, compiled):
    run = Training(changed(small, f"run.precision={precision}", f"run.compile={compiled}".lower()), tmp_path)
    done = run.run()
    run.close()
    assert done.steps == 6 and done.precision == precision and done.device == torch.cuda.get_device_name()
    for record in read_metrics(tmp_path / "metrics.jsonl"):
        assert len(record["loss"]) == 6 and all(map(math.isfinite, record["loss"].values()))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(small, tmp_path, precision):
    config = changed(small, f"run.precision={precision}", "masking.strategy=random", "losses.hard_negatives=1.0")  # no knife-edge choices
    Training(config, tmp_path / "whole").run()
    Training(config, tmp_path / "parts").run(3)
    Training(config, tmp_path / "parts", resume=True).run()
    for whole, parts in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "parts"), strict=True):
        assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-2)  # a GPU adds in another order each time
    states = [checkpoint.read_state(checkpoint.find(tmp_path / name)) for name in ("whole", "parts")]
    assert states[0]["scaler"] == states[1]["scaler"] and (states[0]["scaler"] is None) == (precision == "fp32")


def test_a_compiled_step_equals_an_eager_one(on_gpu):
    found = []
    for compiled in (False, True):
        model, batch = on_gpu("masking.strategy=random", "losses.hard_negatives=1.0")
        if compiled:
            compile_layers(model)
        out = SemMIMStep(model)(batch, plan_at(model.config, 300), 5)
        sum(out.losses.values()).backward()
        found.append((out.losses, {name: p.grad for name, p in model.trainable() if p.grad is not None}))
    (losses, gradients), (compiled_losses, compiled_gradients) = found
    for name, loss in losses.items():
        torch.testing.assert_close(compiled_losses[name], loss, atol=1e-3, rtol=1e-3)
    for name, gradient in gradients.items():
        torch.testing.assert_close(compiled_gradients[name], gradient, atol=1e-3, rtol=2e-2, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_wait_in_pinned_memory(small, tmp_path, workers):
    run = Training(changed(small, f"data.workers={workers}"), tmp_path)
    batch: Batch = next(iter(run.job.loader(0, 1, 0, 1)))
    tensors = [batch.images, batch.input_ids, batch.attention_mask, batch.mlm_ids, batch.mlm_labels, batch.image_ids]
    assert all(x.is_pinned() for x in tensors)
    there = run._on_device(batch)
    assert there.images.is_cuda and torch.equal(there.images.cpu(), batch.images)
