"""Attention masks: from the encoder itself, and what they let through."""

from dataclasses import replace

import numpy as np
import pytest

from semmim_mini.config import ImageConfig, override
from semmim_mini.figures.attention import allowed_matrix, cls_leak, isolation_masks, small_encoder

CONFIG = ImageConfig()


def test_fork_leaks_exactly_nothing_and_the_others_do():
    assert cls_leak(CONFIG, "fork", 2) == 0.0
    assert cls_leak(CONFIG, "none", 2) > 0.01
    assert cls_leak(CONFIG, "mask", 2) > 0.01


def test_a_mask_is_tight_for_one_layer_only():
    assert cls_leak(CONFIG, "mask", 1) == 0.0
    assert cls_leak(CONFIG, "none", 1) > 0.01


def test_layers_that_are_held_in_the_run_are_no_matter_here():
    assert cls_leak(replace(CONFIG, depth=12, inject_from=10, pretrained="x", freeze=10, remember=100), "mask", 1) == 0.0
    assert cls_leak(replace(CONFIG, readout=2), "mask", 1) == 0.0


@pytest.mark.parametrize("isolation", ["none", "mask", "fork"])
def test_matrices_by_hand(isolation):
    allowed = allowed_matrix(small_encoder(CONFIG, isolation, 2), words=5)
    expected = np.ones((10, 16), dtype=bool)
    expected[:, 15] = False  # padding
    if isolation == "mask":
        expected[0, 10:] = False  # [CLS] sees no word
    np.testing.assert_array_equal(allowed, expected)


@pytest.mark.parametrize(("injection", "words"), [("append", 5), ("gated", 8)])
def test_the_figure_tells_the_leaks(config, check, injection, words):
    drawn = isolation_masks(override(config, [f"image.injection={injection}"]), words)
    check(drawn)
    assert drawn.number["leak_fork"] == drawn.number["leak_fork_one_layer"] == drawn.number["leak_mask_one_layer"] == 0.0
    assert drawn.number["leak_none"] > 0 and drawn.number["leak_mask"] > 0
    assert len(drawn.figure.axes) == 4
