"""Collapse: counts on a space made by hand, both ends of collapse in a real one, and the course over a run."""

import math
from types import SimpleNamespace

import pytest
import torch

from semmim_mini.instruments.collapse import codes_over_the_run, collapse


def made_by_hand(config, patches, cls, targets):
    """A step whose patches and [CLS] are logits as they stand, and whose targets are given."""
    space = SimpleNamespace(patch=lambda tokens: tokens, cls=SimpleNamespace(score=lambda directions: directions))
    tokens = torch.cat([torch.zeros(len(patches), 1, patches.shape[-1]), patches], dim=1)
    return SimpleNamespace(
        config=config,
        model=SimpleNamespace(teacher=SimpleNamespace(space=space)),
        teach=lambda batch, plan: SimpleNamespace(patches=tokens, cls_directions=torch.stack([cls, cls.flip(-1)])),
        patch_targets=lambda shown, mask, plan, out: targets,
    )


def rows(*best: int) -> torch.Tensor:
    return torch.eye(6)[list(best)]


def test_prototypes_in_use_by_hand(tiny):
    patches = torch.stack([rows(0, 0, 1, 2), rows(2, 1, 0, 0)])
    found = collapse(made_by_hand(tiny(), patches, rows(4, 4), rows(0, 0, 1, 1, 2, 2, 2, 2)), [None])
    assert (found["prototypes"], found["prototypes_used"], found["prototypes_used_cls"]) == (6, 3, 1)


def test_prototypes_add_up_over_batches(tiny):
    patches = iter([rows(0, 0, 0, 0)[None], rows(5, 5, 0, 0)[None]])
    step = made_by_hand(tiny(), rows(0, 0, 0, 0)[None], rows(1), rows(0, 0, 0, 0))
    first = step.teach
    step.teach = lambda batch, plan: SimpleNamespace(patches=torch.cat([torch.zeros(1, 1, 6), next(patches)], dim=1),
                                                     cls_directions=first(batch, plan).cls_directions)  # fmt: skip
    assert collapse(step, [None, None])["prototypes_used"] == 2


def test_entropy_and_variance_by_hand(tiny):
    # The first image: two patches on code 0, two on code 1. The second: every patch undecided between all six.
    targets = torch.cat([rows(0, 0, 1, 1), torch.full((4, 6), 1 / 6)])
    found = collapse(made_by_hand(tiny(), torch.stack([rows(0, 0, 1, 1)] * 2), rows(0, 1), targets), [None])
    assert found["teacher_entropy"] == pytest.approx(math.log(6) / 2) and found["max_entropy"] == pytest.approx(math.log(6))
    # Each of codes 0 and 1 is (1, 1, 0, 0) over the patches: 4 · (1/2)² / 3 = 1/3. The flat image has none.
    assert found["target_variance_across_patches"] == pytest.approx((1 / 3 + 1 / 3 + 0) / 2)


def test_one_code_for_everything_in_a_real_space(make_step, look):
    step = make_step()
    space = step.model.teacher.space.patch
    space.prototypes.data[:] = space.prototypes[0].clone()
    found = collapse(step, look(6))
    assert found["prototypes_used"] == found["prototypes_used_cls"] == 1
    assert found["teacher_entropy"] == pytest.approx(found["max_entropy"], abs=1e-4)
    assert found["target_variance_across_patches"] == pytest.approx(0, abs=1e-6)


def test_a_healthy_space_lies_between_the_ends(make_step, look):
    found = collapse(make_step(), look(10, batch=5))
    assert 0 < found["teacher_entropy"] < found["max_entropy"] and 1 < found["prototypes_used"] <= 6
    assert found["target_variance_across_patches"] > 0


def test_the_course_over_a_run_by_hand():
    # Twenty steps count patch codes, so a window is two: early is the second tenth, late the last.
    records = [{"step": 0}] * 30 + [{"patch_prototypes_used": float(i)} for i in range(20)]
    assert codes_over_the_run(records) == {"patch_codes_per_batch_early": 2.5, "patch_codes_per_batch_late": 18.5}


def test_patches_and_cls_may_start_at_different_steps():
    records = [{"cls_prototypes_used": 4.0}] * 10 + [{"cls_prototypes_used": 8.0, "patch_prototypes_used": 2.0}] * 10
    found = codes_over_the_run(records, share=0.25)
    assert found["cls_codes_per_batch_early"] == 4 and found["cls_codes_per_batch_late"] == 8
    assert found["patch_codes_per_batch_early"] == found["patch_codes_per_batch_late"] == 2


def test_a_run_of_one_step_is_early_and_late_at_once():
    assert codes_over_the_run([{"patch_prototypes_used": 3.0}]) == {"patch_codes_per_batch_early": 3, "patch_codes_per_batch_late": 3}


def test_a_run_without_codes_has_no_course():
    assert codes_over_the_run([{"step": 0, "loss": {"itc": 1.0}}]) == {} == codes_over_the_run([])
