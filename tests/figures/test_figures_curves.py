"""Curves: the numbers in the titles, and chance lines by hand."""

import math

import numpy as np
import pytest

from semmim_mini.config import override
from semmim_mini.figures.curves import health_curves, loss_curves, running_mean
from semmim_mini.instruments.collapse import codes_over_the_run
from semmim_mini.objectives.matching import CHANCE


def test_every_term_stands_beside_its_chance(records, config, check):
    drawn = loss_curves(records(), config, word_entropy=3.5)
    check(drawn)
    number = drawn.number
    assert number["itm"] == pytest.approx(0.6) and number["itm_chance"] == pytest.approx(CHANCE)
    assert number["itc_chance"] == pytest.approx(math.log(12))  # the queue is full long before the last tenth
    assert number["consensus_chance"] == number["mim_chance"] == pytest.approx(math.log(config.space.prototypes))
    assert number["mlm_chance"] == number["caption_chance"] == pytest.approx(3.5)
    # The last tenth of 50 steps: 3 − s/50 for s = 45 … 49.
    assert number["mlm"] == pytest.approx(3 - 47 / 50)


@pytest.mark.parametrize(("target", "chance"), [("pixels", 1.0), ("tokens", math.log(5))])
def test_chance_of_other_targets(records, config, check, target, chance):
    drawn = loss_curves(records(), override(config, [f"losses.mim_target={target}"]))
    check(drawn)
    assert drawn.number["mim_chance"] == pytest.approx(chance)
    assert drawn.number["mlm_chance"] == pytest.approx(math.log(config.data.vocab_size))


def test_the_chance_of_itc_is_a_curve_while_the_queue_fills(records, config):
    axes = loss_curves(records(20), config).figure.axes[0]
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(dashed.get_ydata()[0], math.log(12))
    filling = [r | {"itc_keys": float(4 + r["step"])} for r in records(20)]
    axes = loss_curves(filling, config).figure.axes[0]
    dashed = next(line for line in axes.lines if line.get_linestyle() == "--")
    np.testing.assert_allclose(dashed.get_ydata(), np.log(4 + np.arange(10, 20)))


def test_the_time_before_a_term_starts_is_shaded(records, config):
    late = override(config, ["losses.itc.start=0.2"])
    plain, shaded = (loss_curves(records(), c).figure.axes[0] for c in (config, late))
    assert len(shaded.patches) == len(plain.patches) + 1
    assert shaded.patches[-1].get_extents().transformed(shaded.transData.inverted()).x1 == pytest.approx(0.2 * config.run.steps)


def test_the_end_of_random_masks_is_marked(records, config):
    texts = [t.get_text().strip() for axes in loss_curves(records(), config).figure.axes for t in axes.texts]
    assert texts.count("guided masks") == 1
    always = [r | {"random_mask": True} for r in records()]
    texts = [t.get_text().strip() for axes in loss_curves(always, config).figure.axes for t in axes.texts]
    assert not any("masks" in text for text in texts)


def test_health_has_the_instruments_numbers(records, config, check):
    drawn = health_curves(records(), config)
    check(drawn)
    assert drawn.number["waiting_share"] == pytest.approx(0.2)
    assert drawn.number["grad_norm_median"] == 2 and drawn.number["images_per_second_median"] == 8
    assert codes_over_the_run(records()).items() <= drawn.number.items()


def test_a_run_without_codes_has_a_health_too(records, config, check):
    bare = [{k: v for k, v in r.items() if not k.startswith(("cls", "patch"))} for r in records()]
    drawn = health_curves(bare, config)
    check(drawn)
    assert len(drawn.figure.axes) == 3


@pytest.mark.parametrize("steps", [1, 2, 11])
def test_short_runs(records, config, check, steps):
    check(loss_curves(records(steps), config))
    check(health_curves(records(steps), config))


def test_running_mean_by_hand():
    np.testing.assert_allclose(running_mean(np.array([0.0, 3.0, 6.0, 3.0]), 3), [1.5, 3, 4, 4.5])
