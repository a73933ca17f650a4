"""Hours, traffic, shards, and what to do when it does not fit."""

import numpy as np
import pytest

from semmim_mini.config import override
from semmim_mini.data.order import Shuffled
from semmim_mini.data.shard_index import PLACE
from semmim_mini.errors import UserError
from semmim_mini.plan import Wanted, make_plan
from semmim_mini.plan.duration import duration, flops_of_run, flops_of_step, with_steps
from semmim_mini.plan.gpus import GPUS, gpu
from semmim_mini.plan.parameters import trainable
from semmim_mini.plan.sizes import sizes_of
from semmim_mini.plan.traffic import ORDER_BYTES, PLACE_BYTES, SHARD_SIZE, between_gpus, from_disk
from semmim_mini.prepare.job import Settings
from semmim_mini.presets import preset

BASE = preset("base")
ITC_ALONE = [f"losses.{term}.weight=0" for term in ("itm", "mlm", "consensus", "mim", "caption")] + ["masking.relevance=cross"]


def test_hours_by_hand():
    config = override(preset("tiny"), [*ITC_ALONE, "losses.alpha=0", "run.steps=90"])
    step = flops_of_step(sizes_of(config))
    found = duration(config, gpus=1, vocab=2_000, peak=step, utilisation=0.5)  # two seconds a step
    assert found["flops"] == pytest.approx(90 * step)
    assert found["seconds_per_step"] == pytest.approx(2) and found["hours"] == pytest.approx(0.05)
    assert found["images_per_second"] == pytest.approx(config.data.batch_size / 2)


def test_terms_that_join_late_cost_from_then_on():
    late = override(preset("tiny"), [*ITC_ALONE[1:], "losses.itm={weight: 1.0, start: 0.75}", "losses.alpha=0", "run.steps=100"])
    without = flops_of_step(sizes_of(late, step=0))
    with_all = flops_of_step(sizes_of(late))
    assert with_all > without
    assert flops_of_run(late, 1, 2_000) == pytest.approx(75 * without + 25 * with_all)


def test_epochs_become_steps():
    assert with_steps(BASE, 4e6, 30).run.steps == 117_188  # the last one seldom full
    assert with_steps(BASE, None, None) is BASE


@pytest.mark.parametrize(("images", "epochs"), [(4e6, None), (None, 3.0), (0.0, 3.0), (-1.0, 3.0), (float("inf"), 1.0)])
def test_half_a_run_is_none(images, epochs):
    with pytest.raises(UserError, match="give both, each above 0"):
        with_steps(BASE, images, epochs)


@pytest.mark.parametrize("share", [0.0, 1.1, -0.3])
def test_no_machine_reaches_more_than_its_peak(share):
    with pytest.raises(UserError, match="--utilisation"):
        make_plan(BASE, Wanted(utilisation=share))


def test_a_gpu_nobody_knows():
    with pytest.raises(UserError, match="--gpu 'a100' is not known; choose one of t4, v100-32g, a100-40g, a100-80g"):
        gpu("a100")


def test_every_gpu_says_where_its_numbers_come_from():
    for name, card in GPUS.items():
        assert card.source.startswith("NVIDIA"), name
        assert card.fp32 < card.half < 2e15 and card.peak("fp32") == card.fp32 and card.peak("bf16") == card.half


@pytest.mark.parametrize(("gpus", "message"), [(3, "does not divide by 3 GPUs"), (0, "at least 1")])
def test_gpus_that_cannot_share_the_batch(gpus, message):
    with pytest.raises(UserError, match=message):
        make_plan(BASE, Wanted(gpus=gpus))


def test_fine_tuning_is_not_planned():
    with pytest.raises(UserError, match="plan works out pre-training, not task vqa"):
        make_plan(override(BASE, ["task.name=vqa"]), Wanted())


def test_traffic_by_hand():
    sizes = sizes_of(override(preset("tiny"), ["data.batch_size=16"]), gpus=4)
    found = between_gpus(sizes)
    assert found["gradients"] == pytest.approx(2 * 3 / 4 * 4 * trainable(sizes))
    tokens = 4 * 16 * (65 + 24) * 128
    assert found["itm_tokens"] == pytest.approx(3 / 4 * tokens + 2 * 3 / 4 * tokens)
    assert found["itc_features"] == 4 * 2 * 3 * 4 * 64
    assert found["random_numbers_on_host"] == 4 * 2 * 16**2


def test_shards_by_hand():
    sizes = sizes_of(override(preset("tiny"), ["data.workers=3"]), gpus=2)
    found = from_disk(sizes, images=2_500, images_per_second=100, per_node=1)
    assert found["shards"] == 3 and found["bytes"] == 2_500 * 60_000
    assert found["images_per_second_and_node"] == 50 and found["bytes_per_second_and_node"] == 3e6
    assert found["order_bytes_per_node"] == 2_500 * 4 * 3
    assert set(from_disk(sizes, None, 100, 8)) == {"images_per_second_and_node", "bytes_per_second_and_node"}


def test_shards_are_those_of_prepare():
    assert Settings().shard_size == SHARD_SIZE
    assert np.dtype(PLACE).itemsize == PLACE_BYTES
    assert Shuffled(10, seed=0)._epoch(0).element_size() == ORDER_BYTES


def test_what_fits_needs_no_remedy():
    found = make_plan(BASE, Wanted(gpus=8, gpu="a100-80g"))["memory"]
    assert found["fits"] and found["remedies"] == {}


def test_what_does_not_fit_names_remedies_that_do():
    found = make_plan(BASE, Wanted(gpus=8, gpu="a100-40g"))["memory"]
    assert not found["fits"] and found["total"] > found["usable"] > max(found["remedies"].values())
    assert {"run.checkpoint_activations=true", "run.accumulate=2", "data.batch_size=512"} <= set(found["remedies"])
    for settings, size in found["remedies"].items():
        again = make_plan(override(BASE, settings.split()), Wanted(gpus=8, gpu="a100-40g"))["memory"]
        assert again["fits"] and again["total"] == size


def test_where_nothing_helps_that_is_said():
    huge = override(BASE, ["image.width=8192", "image.heads=8"])
    assert make_plan(huge, Wanted(gpus=8, gpu="t4"))["memory"]["remedies"] == {}


def test_an_older_gpu_computes_in_fp16():
    assert make_plan(BASE, Wanted(gpu="v100-32g"))["precision"] == "fp16"
    found = make_plan(override(BASE, ["run.precision=fp32"]), Wanted(gpu="a100-80g"))
    assert found["precision"] == "fp32" and found["gpu"]["peak_flops"] == 19.5e12
