"""Pictures of notebook 13: the numbers that they claim, worked out by hand."""

import numpy as np
import pytest

from semmim_mini.config import override
from semmim_mini.course.full_scale_pictures import (
    beginnings,
    first_hour,
    memory_of_choices,
    parts_of_presets,
    shard_bytes,
    two_orders,
    who_compares,
)
from semmim_mini.course.pictures import png
from semmim_mini.data.shard_index import PLACE
from semmim_mini.figures.style import WIDTH
from semmim_mini.plan import Wanted, make_plan
from semmim_mini.presets import preset
from semmim_mini.training.schedules import plan_at


def assert_drawn(drawn) -> None:
    assert drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def texts(drawn) -> str:
    """All words of a figure."""
    found = [*drawn.figure.texts, *(text for axes in drawn.figure.axes for text in axes.texts)]
    return "\n".join(text.get_text() for text in found)


def test_parts_add_up():
    drawn = parts_of_presets({"one": {"image": 3_000_000, "text": 1_000_000}, "two": {"image": 500_000}})
    assert drawn.number == {"one": 4_000_000.0, "two": 500_000.0}
    assert "75\u00a0%" in texts(drawn) and "4.0 million" in texts(drawn) and "100\u00a0%" in texts(drawn)
    assert_drawn(drawn)


def test_memory_is_what_plan_says():
    plan = make_plan(preset("mini"), Wanted(gpus=1))
    drawn = memory_of_choices({"mini": plan}, {"24 GB": 24})
    assert drawn.number["mini"] == plan["memory"]["total"] / 2**30
    assert "24 GB" in texts(drawn)
    assert_drawn(drawn)


def test_bytes_of_a_shard(tmp_path):
    # Header 0–512, a picture of 600 (padded to 1024), header, 100 bytes of captions: they begin at 512 + 1024 + 512.
    places, shard = np.array([(512, 600, 100, 0)], PLACE), tmp_path / "train-000000.tar"
    shard.write_bytes(bytes(4096))
    drawn = shard_bytes(places, shard)
    assert drawn.number == {"bytes": 4096.0, "picture_share": 600 / 2148, "samples": 1.0}
    assert "1 samples of train-000000.tar" in texts(drawn)
    assert_drawn(drawn)


def test_files_of_a_batch_by_hand():
    # Files of pairs 0 1, 2 3, 4 5. In order, a batch of two touches one file; 0 2, 4 1, 3 5 touch two each.
    drawn = two_orders({"in order": range(6), "jumping": (0, 2, 4, 1, 3, 5)}, [2, 2, 2], batch=2)
    assert drawn.number == {"in order": 1.0, "jumping": 2.0}
    assert_drawn(drawn)


def test_wrong_captions_of_an_image():
    drawn = who_compares(b=12, world=3)
    assert drawn.number == {"alone": 3.0, "gathered": 11.0}
    assert_drawn(drawn)


def test_beginnings_are_those_of_the_plan():
    config, ends = preset("base"), beginnings(preset("base"))
    for name, told in (("masks are random", "random_mask"), ("prototypes stand still", "prototypes_frozen")):
        assert [getattr(plan_at(config, ends[name] + i), told) for i in (-1, 0)] == [True, False]
    assert plan_at(config, ends["soft targets of ITC grow"]).alpha == config.losses.alpha
    assert plan_at(config, ends["the teacher's temperature rises"]).teacher_temperature == config.teacher.temperature
    assert plan_at(config, ends["the rate rises"]).lr_factor == pytest.approx(1, abs=1e-3)


def test_minutes_of_the_first_hour():
    config = override(preset("base"), ["run.steps=1000", "optim.warmup=0.1"])
    drawn = first_hour(config, seconds=6.0)
    assert drawn.number["the rate rises"] == pytest.approx(10)  # 100 steps of 6 seconds
    assert "10 min" in texts(drawn) and "60 minutes" in texts(drawn)
    assert_drawn(drawn)
