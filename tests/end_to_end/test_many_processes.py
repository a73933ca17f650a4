"""Two processes compute what one does at the same global batch: losses of every step, and the weights they end in."""

import json

import pytest
import torch
from safetensors.torch import load_file
from small_runs import changed, metrics, settings, start, train

from semmim_mini.errors import UserError
from semmim_mini.training import checkpoint

LAUNCH = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "semmim_mini.cli", "pretrain")


@pytest.fixture(scope="module")
def pair(small, photos, tmp_path_factory):
    """The folders of the same run by one process, here, and by two."""
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two") / "run"
    typed = settings({"data.source": f"flickr8k:{photos}", "run.steps": 4})
    process = start(*LAUNCH, "--out", str(two), *(word for setting in typed for word in ("--set", setting)))
    train(changed(small, "run.steps=4"), one)
    said, errors = process.communicate(timeout=180)
    assert process.returncode == 0, errors[-3000:]
    assert "2 process(es)" in said and said.count("training 4 steps") == 1  # one of them speaks
    return one, two


def test_losses_agree_step_by_step(pair):
    one, two = map(metrics, pair)
    assert len(one) == len(two) == 4
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], abs=1e-4)
        assert together["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-3)


def test_metrics_are_of_the_whole_batch(pair):
    for alone, together in zip(*map(metrics, pair), strict=True):
        for name in ("itc_accuracy", "itc_keys", "masked_share", "patch_entropy", "cls_entropy", "patch_prototypes_used"):
            assert together[name] == pytest.approx(alone[name], abs=1e-3), name


def test_weights_agree(pair):
    one, two = (load_file(checkpoint.find(folder) / "model.safetensors") for folder in pair)
    assert one.keys() == two.keys()
    for name in one:
        # Adam divides by the gradient's own size, so a gradient near zero turns a rounding error into part of a step (lr = 1e-3).
        torch.testing.assert_close(
            two[name].float(), one[name].float(), atol=5e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_main_process_reports(pair):
    report = json.loads((pair[1] / "report.json").read_text(encoding="utf-8"))
    assert report["retrieval"]["n_images"] == 8 and report["run"]["steps"] == 4


def test_one_process_can_go_on_where_two_stopped(small, pair, tmp_path):
    import shutil

    shutil.copytree(pair[1], tmp_path / "run")
    with pytest.raises(UserError, match=r"run\.steps: 4 → 6"):
        train(small, tmp_path / "run", resume=True)
    assert train(changed(small, "run.steps=4"), tmp_path / "run", resume=True).steps == 4
