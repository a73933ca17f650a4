"""Parameter groups: who decays, who learns slowly, and that nobody is forgotten."""

import pytest

from semmim_mini.training.optimizer import build_optimizer, set_rate


def by_name(model, optimizer) -> dict[str, dict]:
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group for group in optimizer.param_groups for p in group["params"]}


def test_every_trainable_parameter_is_in_exactly_one_group(make_model):
    model = make_model()
    optimizer = build_optimizer(model, model.config.optim)
    listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for _, p in model.trainable()) and len(set(listed)) == len(listed)


def test_matrices_decay_and_vectors_do_not(make_model):
    model = make_model("optim.weight_decay=0.02")
    groups = by_name(model, build_optimizer(model, model.config.optim))
    decays = {name: group["weight_decay"] for name, group in groups.items()}
    assert decays["student.image.layers.0.attention.qkv.weight"] == 0.02
    for name in (
        "student.image.layers.0.attention.qkv.bias",
        "student.image.norm.weight",
        "student.image.mask_token",
        "temperature",
    ):
        assert decays[name] == 0, name


def test_a_pretrained_text_encoder_learns_at_its_own_rate(make_model):
    model = make_model("text.pretrained=somewhere", "optim.lr=0.001", "optim.lr_pretrained=0.00001")
    optimizer = build_optimizer(model, model.config.optim)
    set_rate(optimizer, 0.5)
    for name, group in by_name(model, optimizer).items():
        assert group["lr"] == pytest.approx(5e-6 if name.startswith("student.text.") else 5e-4), name


def test_from_scratch_all_learn_alike(make_model):
    model = make_model("optim.lr=0.001")
    optimizer = build_optimizer(model, model.config.optim)
    for factor in (0.1, 1.0):  # each time from the base rate, not from the last one
        set_rate(optimizer, factor)
        assert {group["lr"] for group in optimizer.param_groups} == {0.001 * factor}
