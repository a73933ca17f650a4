"""FLOPs by formula and FLOPs by torch's counter are the same number."""

import pytest
import torch

from semmim_mini.bench.meters import flops
from semmim_mini.bench.parts import parts_of_a_step
from semmim_mini.config import override
from semmim_mini.plan.arithmetic import arithmetic
from semmim_mini.plan.duration import flops_of_step
from semmim_mini.plan.layers import ImageLayer, TextLayer, Work, product
from semmim_mini.plan.measured import bench_of
from semmim_mini.plan.sizes import sizes_of
from semmim_mini.presets import preset

# Small, and no two sizes alike, so that a mix-up of two cannot pass.
SMALL = (
    *("data.batch_size=3", "data.resolution=24", "image.width=24", "image.depth=3", "image.inject_from=1", "image.heads=2"),
    *("text.width=20", "text.heads=2", "text.depth=2", "text.fusion_depth=3", "data.max_length=9", "data.vocab_size=50"),
    *("space.prototypes=14", "space.hidden=18", "space.bottleneck=10", "space.projection=12", "teacher.cls_queue=7"),
)


def small(*settings: str):
    return override(preset("tiny"), [*SMALL, *settings])


def test_a_product_and_its_gradients_by_hand():
    work = product(rows=5, inputs=3, outputs=2)
    assert (work.forward, work.backward) == (60, 120)
    assert (work.frozen().forward, work.frozen().backward) == (60, 60)
    assert (Work(fused=4).forward, Work(fused=4).backward) == (4, 10)  # two products, then five
    assert (work + Work(constant=1)) * 2 == Work(product=120, constant=2)


def test_layers_by_hand():
    # b=1, s=2, d=3, h=5: 2·2·(4·9 + 2·15) of products; attention 4·2·2·3.
    assert ImageLayer(3, 5).work(1, 2) == Work(product=264, fused=48) == TextLayer(3, 5, 1).work(1, 2)
    # Four text tokens: keys and values 2·4·18, attention 4·2·4·3 more.
    assert ImageLayer(3, 5).work(1, 2, 4) == Work(product=264 + 144, fused=48 + 96)
    assert ImageLayer(3, 5, gated=True).work(1, 2, 4) == Work(product=264 + 144 + 72, fused=48 + 96)  # query and out of its own
    assert TextLayer(3, 5, 1, cross=True).work(1, 2, 4) == Work(product=264 + 72 + 144 + 48 + 96)
    assert ImageLayer(3, 5).anew(1, 2) == Work(again=264 + 48 - 2 * 2 * 15)


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["losses.queue=40", "losses.itc_keys=teacher", "losses.alpha_ramp=0.0", "teacher.balance=center"],
        ["losses.student_passes=two", "image.injection=gated", "run.checkpoint_activations=true"],
        ["image.form=clip", "run.checkpoint_activations=true", "teacher.per_image=0.5", "masking.relevance=query"],
        ["masking.strategy=attention", "losses.mim_target=tokens", "space.shared=false"],
        ["masking.relevance=itc", "losses.mim_target=pixels", "losses.mim_student_text=false", "losses.mim_target_text=false"],
        ["image.pretrained=x", "image.freeze=2", "masking.strategy=block"],
        ["losses.itm.weight=0", "losses.caption.weight=0", "masking.relevance=cross", "losses.consensus.weight=0"],
        ["losses.mim.weight=0", "losses.mlm.weight=0", "losses.student_passes=two", "text.width=24"],
        ["image.isolation=mask", "losses.student_passes=two"],
        ["image.readout=3", "text.readout=2"],
        ["image.readout=1", "losses.student_passes=two", "image.isolation=none"],
        ["losses.consensus.weight=0", "losses.student_passes=two"],
        ["losses.mim.weight=0", "losses.consensus.weight=0", "losses.mlm.weight=0", "losses.itm.weight=0"],
        ["losses.itc.weight=0", "losses.mim.weight=0", "losses.consensus.weight=0", "losses.mlm.weight=0", "losses.itm.weight=0"],
    ],
    ids=lambda settings: settings[0] if settings else "all terms",
)
def test_a_whole_step_equals_torchs_counter(settings):
    config = small(*settings)
    assert flops_of_step(sizes_of(config)) == flops(bench_of(config).full_step)


def test_a_step_of_tiny_equals_torchs_counter():
    config = override(preset("tiny"), ["data.batch_size=4"])
    assert flops_of_step(sizes_of(config)) == flops(bench_of(config).full_step)


def test_every_part_equals_torchs_counter():
    config = small("losses.queue=40")
    bench, found = bench_of(config), arithmetic(sizes_of(config))
    parts = {name: flops(part) for name, part in parts_of_a_step(bench).items() if name in found}
    assert {"teacher, forward", "clean student", "masked student", "ITC", "fusion: ITM, MLM", "mask"} <= set(parts)
    for name, counted in parts.items():
        # `bench` cuts the words off from the text encoder: of all parts only this one computes a little less alone.
        tolerance = 0.02 if name == "masked student" else 1e-9
        assert sum(found[name].values()) == pytest.approx(counted, rel=tolerance), name


def test_a_frozen_text_encoder_costs_no_gradient():
    config = small("text.pretrained=x", "text.freeze=true")
    assert arithmetic(sizes_of(config))["text encoder"]["backward"] == 0
    # What reads its features has a gradient less to compute here and there, which the formulas pass over.
    assert flops_of_step(sizes_of(config)) == pytest.approx(flops(bench_of(config).full_step), rel=0.02)


def test_masks_that_are_drawn_by_sample_cost_what_they_cost_on_average():
    config = small("data.batch_size=64", "masking.ratio=[0.2, 0.8]", "masking.masked_share=0.5")
    sizes = sizes_of(config)
    counts = [int(bench_mask(config, seed).sum()) for seed in range(8)]
    assert sizes.masked_patches == pytest.approx(sum(counts) / len(counts), rel=0.1)


def bench_mask(config, seed: int) -> torch.Tensor:
    from semmim_mini.objectives.masking import hide_highest, mask_counts

    draws = torch.rand(config.data.batch_size, 2, generator=torch.Generator().manual_seed(seed))
    counts = mask_counts(config.n_patches, config.masking.ratio, config.masking.masked_share, draws)
    return hide_highest(torch.rand(config.data.batch_size, config.n_patches), counts)


def test_micro_batches_and_gpus_share_one_step():
    whole = small("data.batch_size=12")
    split = small("data.batch_size=12", "run.accumulate=2")
    queueless = flops_of_step(sizes_of(whole))
    # Contrast alone depends on how many pairs meet; here it is a thousandth of a step.
    assert flops_of_step(sizes_of(split, gpus=3)) == pytest.approx(queueless, rel=2e-3)
    assert sizes_of(split, gpus=3).b == 2
