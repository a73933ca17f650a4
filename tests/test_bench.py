"""The measuring, not the measurements: how long things take is for no test to say."""

import gc
import math

import pytest
import torch

from semmim_mini.bench import growth, measure
from semmim_mini.bench.growth import grow, scaled
from semmim_mini.bench.meters import flops, matrix_product_rate, median_seconds, peak_bytes
from semmim_mini.bench.parts import Workbench, batch_like, last_plan, parts_of_a_step
from semmim_mini.bench.table import as_table

CPU = torch.device("cpu")
MIB = 2**20
FLOATS = MIB // 4  # of fp32 in one MiB


def test_peak_counts_what_is_alive_at_once():
    def candidate():
        first = torch.zeros(FLOATS)
        second = first + 1
        del first
        third = second * 2  # the first has made room for it
        return second, third

    assert peak_bytes(candidate, CPU) == 2 * MIB


def test_peak_leaves_out_what_was_there_before():
    before = torch.zeros(8 * FLOATS)
    assert peak_bytes(lambda: before.add_(1), CPU) == 0
    assert peak_bytes(lambda: before[:FLOATS].view(-1, 2), CPU) == 0
    assert peak_bytes(lambda: before.sum(), CPU) == 4


def test_a_view_keeps_its_whole_storage_alive():
    def candidate():
        tail = torch.zeros(FLOATS)[-1:]
        gc.collect()
        return tail, torch.zeros(FLOATS)

    assert peak_bytes(candidate, CPU) == 2 * MIB


def test_peak_sees_what_autograd_keeps():
    weight = torch.ones(FLOATS, requires_grad=True)

    def candidate():
        (weight * 2).square().sum().backward()

    # Alive at the peak: the product that `square` saved, and gradients on the way back; far from the sum of all tensors made.
    assert 3 * MIB <= peak_bytes(candidate, CPU) <= 5 * MIB


def test_flops_of_a_product_and_its_gradients_by_hand():
    left, right = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7, requires_grad=True)
    product = 2 * 3 * 5 * 7
    assert flops(lambda: left @ right) == product
    assert flops(lambda: (left @ right).sum().backward()) == 3 * product  # one product for each gradient


def test_candidates_take_turns():
    order = []
    seconds = median_seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, repeats=2, warm_up=1)
    assert order == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"} and min(seconds.values()) >= 0


def test_the_matrix_product_has_a_rate():
    assert matrix_product_rate(CPU, torch.float32, repeats=1) > 0


@pytest.mark.parametrize(
    ("axis", "factor", "size"),
    [("n", 2, 9), ("n", 0.5, 1), ("k", 2, 12), ("b", 2, 8), ("b", 0.5, 2), ("depth", 2, 4), ("depth", 0.5, 1), ("queue", 2, 16)],
)
def test_scaled_changes_one_size(tiny, axis, factor, size):
    # 16 px in patches of 8 are 2 × 2; twice the patches would be 2.8 × 2.8, and 3 × 3 is nearest.
    config, reached = scaled(tiny(), axis, factor)
    sizes = {"n": config.n_patches, "k": config.space.prototypes, "b": config.data.batch_size, "depth": config.image.depth}
    sizes["queue"] = config.losses.queue
    assert reached == size == sizes.pop(axis)
    assert sizes == {name: value for name, value in {"n": 4, "k": 6, "b": 4, "depth": 2, "queue": 8}.items() if name != axis}


def test_a_doubled_batch_takes_the_queue_along(tiny):
    config, size = scaled(tiny("losses.queue=4"), "b", 2)
    assert size == 8 and config.losses.queue == 8
    assert scaled(tiny("losses.queue=0"), "b", 2)[0].losses.queue == 0


def test_a_batch_of_another_size_has_other_pictures(tiny, make_batch):
    batch = batch_like(make_batch(tiny()), 7, 24)
    assert batch.images.shape == (2, 7, 3, 24, 24)
    assert batch.image_ids.tolist() == list(range(7))  # all different: matching needs negatives
    assert batch.input_ids[4].equal(batch.input_ids[0]) and batch.captions[4] == batch.captions[0]


@pytest.fixture
def bench(tiny, make_batch):
    def make(*settings: str) -> Workbench:
        config = tiny(*settings)
        return Workbench(config, 30, make_batch(config))

    return make


def test_a_full_step_trains_student_and_teacher(bench):
    bench = bench()
    before = {name: p.detach().clone() for name, p in bench.model.named_parameters()}
    bench.full_step()
    moved = {name for name, p in bench.model.named_parameters() if not p.equal(before[name])}
    assert {"student.image.patchify.weight", "teacher.image.patchify.weight", "fusion.encoder.layer.0.output.dense.weight"} <= moved


def test_queues_are_full_from_the_start(bench):
    memory = bench().model.memory
    assert len(memory.pairs()[2]) == 8 and len(memory.directions()) == 8
    torch.testing.assert_close(memory.pairs()[0].norm(dim=-1), torch.ones(8))


@pytest.mark.parametrize("passes", ["two", "three"])
def test_every_part_of_a_step_runs_alone(bench, passes):
    bench = bench(f"losses.student_passes={passes}")
    parts = parts_of_a_step(bench)
    assert {"teacher, forward", "clean student", "masked student", "fusion: ITM, MLM", "optimiser", "teacher, EMA"} <= set(parts)
    for part in parts.values():
        part()


def test_a_masked_pass_teaches_the_student_only(bench):
    bench = bench()
    parts_of_a_step(bench)["masked student"]()
    having = {name.split(".")[0] for name, p in bench.model.named_parameters() if p.grad is not None}
    assert having == {"student"}
    assert bench.model.student.image.mask_token.grad is not None


def test_terms_that_are_off_have_no_part(bench):
    parts = parts_of_a_step(bench("losses.mim.weight=0", "losses.consensus.weight=0", "losses.itm.weight=0"))
    assert not {"mask", "masked student", "prototypes: MIM, consensus"} & set(parts)
    assert "ITC" in parts


def test_the_plan_has_every_term_that_is_used(tiny):
    plan = last_plan(tiny("losses.mim.start=0.9", "losses.mlm.weight=0"))
    assert plan.has("mim") and not plan.has("mlm") and not plan.random_mask


def test_growth_is_told_in_ratios(tiny, make_batch):
    config = tiny()
    rows = grow(config, 30, make_batch(config), "fp32", repeats=1)
    assert set(rows) == {"n", "k", "b", "depth", "queue"}
    assert [row["ideal"] for row in rows["k"]] == [0.5, 1, 2]
    for points in rows.values():
        assert points[1]["time"] == points[1]["memory"] == 1
        assert all(math.isfinite(row["time"]) and row["time"] > 0 for row in points)
    assert rows["b"][2]["memory"] > 1.3 > 0.9 > rows["b"][0]["memory"]  # bytes are counted, not timed: they may be asserted


def test_what_does_not_fit_is_said_and_not_fatal(tiny, make_batch, monkeypatch):
    config, real = tiny(), growth.peak_bytes

    def peak(candidate, device):
        if len(candidate.__self__.batch.image_ids) > 4:
            raise torch.OutOfMemoryError
        return real(candidate, device)

    monkeypatch.setattr(growth, "peak_bytes", peak)
    rows = grow(config, 30, make_batch(config), "fp32", repeats=1)
    assert rows["b"][2]["time"] is None and rows["b"][1]["time"] == 1


def test_accumulation_is_measured_by_the_micro_batch(tiny):
    result = measure(tiny("run.accumulate=2", "data.train_size=8", "data.vocab_size=300", "run.precision=fp32"), repeats=1)
    assert result["sizes"]["b"] == 2
    assert result["full_step"]["peak_bytes"] > 0 and result["standing_bytes"] > 0
    assert result["data"]["two_workers_suffice"] is (result["data"]["two_workers_per_second"] >= result["data"]["step_images_per_second"])
    text = as_table(result)
    assert "optimiser" in text and "ITC alone" in text and "followed operation by operation" in text
