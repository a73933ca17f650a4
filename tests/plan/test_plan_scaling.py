"""docs/scaling.md says what `plan` says: its numbers are worked out anew here."""

import re
from pathlib import Path

import pytest

from semmim_mini.config import override
from semmim_mini.plan import Wanted, make_plan
from semmim_mini.presets import preset

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
GIB, GB = 2**30, 1e9


def planned(*settings: str, gpus: int = 8, gpu: str = "a100-80g", images: float = 4e6, epochs: float = 30) -> dict:
    return make_plan(override(preset("base"), list(settings)), Wanted(gpus=gpus, gpu=gpu, images=images, epochs=epochs))


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose heading begins with `first`."""
    (table,) = re.findall(rf"^\| {re.escape(first)} .*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.mark.parametrize(
    ("row", "gpu", "settings"),
    [
        (0, "a100-80g", []),
        (1, "a100-40g", []),
        (2, "a100-40g", ["run.checkpoint_activations=true"]),
        (3, "a100-40g", ["run.accumulate=2"]),
        (4, "h100-80g", []),
    ],
)
def test_one_node(row, gpu, settings):
    _, memory, fits, hours = rows("8 ×")[row][:4]
    found = planned(*settings, gpu=gpu)
    assert memory == f"{found['memory']['total'] / GIB:.1f} GiB"
    assert fits == ("yes" if found["memory"]["fits"] else "no")
    if fits == "yes":
        assert hours.startswith(f"{found['run']['hours']:.0f} hours")


@pytest.mark.parametrize(("row", "gpus", "b"), [(0, 8, 128), (1, 64, 128), (2, 256, 128), (3, 1024, 128), (4, 1024, 16)])
def test_many_gpus(row, gpus, b):
    share, batch, random, gathered, memory = rows("GPUs × b")[row]
    queue = 65_536 if gpus * b <= 65_536 else 0
    found = planned(f"data.batch_size={gpus * b}", f"losses.queue={queue}", gpus=gpus, images=1e9, epochs=1)
    assert share == f"{gpus:,} × {b}" and batch == f"{gpus * b:,}"
    size = found["between_gpus"]["random_numbers_on_host"]
    told, unit = random.split(",")[0].split()
    assert float(told) == pytest.approx(size / {"GB": 1e9, "MB": 1e6}[unit], rel=0.08)
    assert float(random.split(",")[1].split()[0]) == pytest.approx(size / 4 / 220e6, rel=0.06)
    assert float(gathered.split()[0]) == pytest.approx(found["memory"]["gathered_for_itm"] / GB, rel=0.006)
    assert memory == f"{found['memory']['total'] / GIB:.0f} GiB"


@pytest.mark.parametrize(
    ("row", "name", "gpu", "settings"),
    [
        (2, "small", "a100-80g", []),
        (3, "small", "rtx4090", ["run.accumulate=2"]),
        (4, "base", "rtx4090", ["run.checkpoint_activations=true", "run.accumulate=16"]),
    ],
)
def test_one_gpu(row, name, gpu, settings):
    _, flops, memory, time = rows("preset")[row]
    found = make_plan(override(preset(name), settings), Wanted(gpus=1, gpu=gpu))
    assert found["memory"]["fits"] and memory == f"{found['memory']['total'] / GIB:.1f} GiB"
    power = len(str(int(found["run"]["flops"]))) - 1
    assert not flops or flops.startswith(f"{found['run']['flops'] / 10**power:.1f} · 10")
    hours = found["run"]["hours"]
    assert (f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days") in time


def test_figures_in_the_text():
    node, web = planned(), planned("data.batch_size=131072", "losses.queue=0", gpus=1024, images=1e9, epochs=1)
    fourteen = planned(images=14e6)
    for text in (
        f"{node['flops']['per_step'] / 1e12:.0f} TFLOP a step, {node['run']['flops'] / 1e19:.1f} · 10¹⁹ in all",
        f"{round(node['data']['images_per_second_and_node'], -1):,.0f} images/s",
        f"{node['data']['bytes_per_second_and_node'] / 1e6:.0f} MB/s of shards",
        f"{fourteen['run']['hours']:.0f} hours on the node",
        f"{fourteen['data']['shards']:,} shards, {fourteen['data']['bytes'] / 1e12:.1f} TB",
        f"{web['run']['hours']:.1f} hours on 1,024 A100s",
        f"{2 * web['memory']['gathered_for_itm'] / GB:.0f} GB at 1,024 × 128",
        f"{web['between_gpus']['itm_tokens'] / GB:.0f} GB into each GPU",
        f"{web['data']['order_bytes_per_node'] / GB:.0f} GB in a node of 96 workers",
        f"{web['between_gpus']['gradients'] / GB:.2f} GB from each GPU",
    ):
        assert text in PAGE, text


def test_checkpoints_by_hand():
    stands = planned()["memory"]["standing"]
    parts = [(stands["weights"] + stands["teacher"]) / GB, stands["queue, centres"] / GB, stands["optimiser"] / GB]
    assert f"{sum(parts):.1f} GB ({parts[0]:.1f} weights and teacher, {parts[1]:.1f} queue, {parts[2]:.1f} AdamW's averages)" in PAGE
