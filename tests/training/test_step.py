"""The step: its losses composed by hand, what each switch removes, who is trained, and what is remembered when."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from semmim_mini.model.encoding_space import PrototypeHead
from semmim_mini.objectives.agreement import consensus_loss
from semmim_mini.objectives.contrastive import itc_loss
from semmim_mini.objectives.masked_image import code_loss, patch_pixels, pixel_loss
from semmim_mini.objectives.matching import CHANCE
from semmim_mini.objectives.targets import centred_targets
from semmim_mini.training import step as step_module
from semmim_mini.training.schedules import PRETRAINING_TERMS as TERMS
from semmim_mini.training.schedules import plan_at
from semmim_mini.training.step import SemMIMStep, describe

LATE = 300  # of 400 steps: ramps are over, masks are no longer random


@pytest.fixture
def stage(make_model, make_batch):
    """`stage("losses.…", …)`: (step, batch, plan), with the teacher a little away from the student."""

    def make(*settings: str, at: int = LATE):
        model = make_model(*settings)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        step = SemMIMStep(model)
        return step, make_batch(model.config), plan_at(model.config, at)

    return make


def backward(out, plan) -> None:
    sum(plan.weights[name] * loss for name, loss in out.losses.items()).backward()


def assert_finite(out) -> None:
    for name, value in (*out.losses.items(), *out.metrics.items()):
        assert torch.isfinite(value).all(), name


# Each loss composed by hand from the parts ----------------------------------------------------------------------------


def spy_on_mask(step: SemMIMStep) -> list:
    """The masks that the step draws."""
    drawn, masker = [], step.masker
    step.masker = lambda *args: drawn.append(masker(*args)) or drawn[-1]
    return drawn


@pytest.mark.parametrize(("passes", "view"), [("three", 0), ("two", 1)])
def test_mim_by_hand(stage, passes, view):
    step, batch, plan = stage(f"losses.student_passes={passes}", "teacher.balance=center")
    model, images, words = step.model, batch.images[view], batch.attention_mask
    model.memory.patch_center.normal_()
    masks = spy_on_mask(step)
    loss = step(batch, plan, 5).losses["mim"]

    teacher, student, (mask,) = model.teacher, model.student, masks
    read = teacher.image.read(teacher.text(batch.input_ids, words), words)
    target = teacher.space.patch(teacher.image(images, text=read)[:, 1:])[mask]
    target = centred_targets(target, model.memory.patch_center, plan.teacher_temperature)
    read = student.image.read(student.text(batch.input_ids, words), words)
    codes = student.space.patch(student.image(images, mask, read)[:, 1:])[mask]
    torch.testing.assert_close(loss, code_loss(codes, target, 0.1))


@pytest.mark.parametrize("passes", ["three", "two"])
def test_consensus_by_hand(stage, passes):
    step, batch, plan = stage(f"losses.student_passes={passes}", "teacher.balance=center")
    model = step.model
    model.memory.cls_center.normal_()
    masks = spy_on_mask(step)
    loss = step(batch, plan, 5).losses["consensus"]

    teacher = torch.stack([model.teacher.space.cls(model.teacher.image(view)[:, 0]) for view in batch.images])
    second = model.student.image(batch.images[1], masks[0] if passes == "two" else None)  # text-free either way
    student = torch.stack([model.student.space.cls(x[:, 0]) for x in (model.student.image(batch.images[0]), second)])
    target = centred_targets(teacher, model.memory.cls_center, plan.teacher_temperature)
    torch.testing.assert_close(loss, consensus_loss(student, target, 0.1))


def test_itc_by_hand(stage):
    step, batch, plan = stage("losses.alpha=0.4", "losses.itc_keys=teacher")
    model, ids = step.model, batch.image_ids
    model.memory.add_pairs(*torch.nn.functional.normalize(torch.randn(2, 3, 10), dim=-1), torch.tensor([0, 50, 51]))
    loss = step(batch, plan, 5).losses["itc"]

    def features(net):
        image, text = net.image(batch.images[0])[:, 0], net.text(batch.input_ids, batch.attention_mask)[:, 0]
        return net.project_image(image), net.project_text(text)

    (image, text), (t_image, t_text) = features(model.student), features(model.teacher)
    queue = model.memory.pairs()
    image_keys, text_keys = torch.cat([t_image, queue[0]]), torch.cat([t_text, queue[1]])
    key_ids, tau = torch.cat([ids, queue[2]]), model.itc_temperature()
    expected = itc_loss(image, text, image_keys, text_keys, ids, key_ids, tau, 0.4, t_image, t_text, image_keys, text_keys)
    torch.testing.assert_close(loss, expected)


def test_mlm_and_caption_by_hand(stage):
    step, batch, plan = stage()
    model, words = step.model, batch.attention_mask
    out = step(batch, plan, 5)
    image = model.student.image(batch.images[0])
    fused = model.fusion(model.student.text(batch.mlm_ids, words), words, image)
    hidden = batch.mlm_labels != -100
    mlm = torch.nn.functional.cross_entropy(model.mlm_head(fused[hidden]), batch.mlm_labels[hidden])
    torch.testing.assert_close(out.losses["mlm"], mlm)
    logits = model.decoder(batch.input_ids, words, image)[:, :-1]
    labels = batch.input_ids[:, 1:].masked_fill(~words[:, 1:], -100)
    torch.testing.assert_close(out.losses["caption"], torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels))


def test_itm_pairs_are_one_true_to_two_wrong(stage):
    step, batch, plan = stage()
    with torch.no_grad():
        step.model.itm_head.weight.zero_()
        step.model.itm_head.bias.copy_(torch.tensor([2 / 3, 1 / 3]).log())
    assert step(batch, plan, 5).losses["itm"].item() == pytest.approx(CHANCE)


def test_itm_pairs_a_wrong_text_and_a_wrong_image(stage):
    step, batch, _ = stage()
    b = 4
    image = torch.arange(b).float()[:, None, None].expand(b, 5, 16)  # every token holds its row's number
    text = torch.arange(b).float()[:, None, None].expand(b, 8, 12)
    similarity = torch.stack([50 * torch.eye(b).roll(1, dims=1), 50 * torch.eye(b).roll(2, dims=1)])
    texts, masks, images, matched = step.matching_pairs(image, text, batch, similarity, 1.0, torch.Generator().manual_seed(0))
    texts, images = torch.cat(list(texts))[:, 0, 0].long().tolist(), torch.cat(list(images))[:, 0, 0].long().tolist()
    # True pairs; each image with the text most similar to it; each text with the image most similar to it.
    wrong = [(i, (i + 1) % 4) for i in range(4)] + [((i + 2) % 4, i) for i in range(4)]
    assert list(zip(images, texts, strict=True)) == [(i, i) for i in range(4)] + wrong
    assert matched.tolist() == [1] * 4 + [0] * 8
    assert torch.equal(torch.cat(list(masks)), batch.attention_mask[texts])  # a mask travels with its text


@pytest.mark.parametrize("keys", ["teacher", "student"])
def test_wrong_texts_are_drawn_by_image_to_text_and_wrong_images_by_text_to_image(stage, monkeypatch, keys):
    step, batch, plan = stage(f"losses.itc_keys={keys}")
    model, seen, real = step.model, [], step_module.sample_negatives
    monkeypatch.setattr(step_module, "sample_negatives", lambda sim, *rest: seen.append(sim) or real(sim, *rest))
    step(batch, plan, 5)
    net = model.student if keys == "student" else model.teacher
    (image, text), (image_keys, text_keys) = (
        (
            n.project_image(n.image(batch.images[0])[:, 0]),
            n.project_text(n.text(batch.input_ids, batch.attention_mask)[:, 0]),
        )
        for n in (model.student, net)
    )
    tau = model.itc_temperature()
    torch.testing.assert_close(seen[0], image @ text_keys.T / tau)
    torch.testing.assert_close(seen[1], text @ image_keys.T / tau)


def test_pixels_are_those_of_the_masked_view(stage):
    step, batch, plan = stage("losses.mim_target=pixels", "losses.student_passes=two")
    with torch.no_grad():
        step.model.pixel_head.weight.zero_()
        step.model.pixel_head.bias.copy_(torch.arange(192.0) / 96)
    masks = spy_on_mask(step)
    loss = step(batch, plan, 5).losses["mim"]
    pixels = patch_pixels(batch.images[1], 8)[masks[0]]
    torch.testing.assert_close(loss, pixel_loss((torch.arange(192.0) / 96).expand(len(pixels), -1), pixels))


# Switches -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("passes", ["three", "two"])
@pytest.mark.parametrize("term", TERMS)
def test_a_term_that_is_off_is_absent_and_the_others_stay(stage, term, passes):
    step, batch, plan = stage(f"losses.{term}.weight=0", f"losses.student_passes={passes}")
    out = step(batch, plan, 5)
    assert set(out.losses) == set(TERMS) - {term}
    assert_finite(out)


@pytest.mark.parametrize("passes", ["three", "two"])
@pytest.mark.parametrize("term", TERMS)
def test_every_term_can_stand_alone(stage, term, passes):
    step, batch, plan = stage(f"losses.student_passes={passes}")
    plan = replace(plan, weights={term: 1.0})
    out = step(batch, plan, 5)
    assert set(out.losses) == {term}
    assert_finite(out)
    backward(out, plan)


VARIANTS = [
    *(
        (
            f"losses.student_passes={passes}",
            f"image.isolation={isolation}",
            f"image.injection={injection}",
            f"losses.mim_target={target}",
        )
        for passes, isolation, injection, target in product(
            ("three", "two"), ("none", "mask", "fork"), ("append", "gated"), ("codes", "pixels", "tokens")
        )
    ),
    *((f"masking.strategy={s}", f"masking.relevance={r}") for s, r in product(("text_high", "text_low"), ("cross", "query", "itc"))),
    *((f"masking.strategy={s}",) for s in ("random", "block", "attention")),
    *((f"teacher.balance={x}", f"space.shared={y}") for x, y in product(("sinkhorn", "center"), ("true", "false"))),
    *((f"losses.mim_student_text={x}", f"losses.mim_target_text={y}") for x, y in product(("true", "false"), ("true", "false"))),
    ("losses.itc_keys=student", "losses.queue=0", "teacher.cls_queue=0"),
    ("teacher.per_image=0.5",),
    ("text.dropout=0.2", "run.checkpoint_activations=true"),
    ("masking.ratio=[0.1, 1.0]", "masking.masked_share=0.5"),
    ("image.inject_from=0",),
]


@pytest.mark.parametrize("settings", VARIANTS, ids=" ".join)
def test_every_variant_trains(stage, settings):
    step, batch, plan = stage(*settings)
    out = step(batch, plan, 5)
    assert set(out.losses) == set(TERMS)
    assert_finite(out)
    backward(out, plan)
    assert all(torch.isfinite(p.grad).all() for _, p in step.model.trainable() if p.grad is not None)
    step.remember(out.remember)
    assert_finite(step(batch, plan, 6))


def test_one_step_after_another_with_teacher_and_memory(stage):
    step, batch, plan = stage()
    optimizer = torch.optim.AdamW([p for _, p in step.model.trainable()], lr=3e-3)
    losses = []
    for t in range(12):  # the same batch again and again: what can be learned by heart must be
        out = step(batch, plan, t)
        optimizer.zero_grad()
        backward(out, plan)
        optimizer.step()
        step.model.update_teacher(0.9)
        losses.append({name: loss.item() for name, loss in out.losses.items()})
    assert all(losses[-1][name] < losses[0][name] for name in ("mlm", "caption", "itc"))


# Corners --------------------------------------------------------------------------------------------------------------


def test_one_picture_with_many_captions_has_no_negatives(stage):
    step, batch, plan = stage()
    batch.image_ids = torch.zeros(4, dtype=torch.long)
    out = step(batch, plan, 5)
    assert_finite(out)
    backward(out, plan)
    assert all(torch.isfinite(p.grad).all() for _, p in step.model.trainable() if p.grad is not None)


def test_a_batch_of_one_pair(stage, make_batch):
    step, _, plan = stage()
    assert_finite(step(make_batch(step.config, b=1), plan, 5))


def test_a_batch_without_any_hidden_patch_or_word(stage):
    step, batch, plan = stage("masking.masked_share=0.001")
    batch.mlm_labels = torch.full_like(batch.mlm_labels, -100)
    out = step(batch, plan, 5)
    assert out.losses["mim"] == 0 and out.losses["mlm"] == 0
    assert_finite(out)
    backward(out, plan)


def test_autocast_leaves_losses_in_fp32(stage):
    step, batch, plan = stage()
    exact = step(batch, plan, 5).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = step(batch, plan, 5)
    assert_finite(out)
    for name, loss in out.losses.items():
        assert loss.dtype == torch.float32, name
        assert loss.item() == pytest.approx(exact[name].item(), rel=0.2), name


def test_the_teacher_is_asked_only_where_a_loss_reads_it(stage, monkeypatch):
    asked, teach = [], SemMIMStep.teach
    monkeypatch.setattr(SemMIMStep, "teach", lambda self, *args: asked.append(1) or teach(self, *args))
    for settings, terms, expected in (
        (("losses.itc_keys=student", "losses.queue=0", "losses.alpha=0.0"), ("itc", "itm", "mlm", "caption"), 0),
        (("losses.itc_keys=student", "losses.queue=8", "losses.alpha=0.0"), ("itc",), 1),
        (("losses.itc_keys=student", "losses.queue=0", "losses.alpha=0.4"), ("itc",), 1),
        (("losses.itc_keys=teacher", "losses.queue=0", "losses.alpha=0.0"), ("itm",), 1),
        (("losses.itc_keys=student", "losses.queue=0", "losses.alpha=0.0"), ("mim",), 1),
    ):
        step, batch, plan = stage(*settings)
        asked.clear()
        out = step(batch, replace(plan, weights=dict.fromkeys(terms, 1.0)), 5)
        assert len(asked) == expected, (settings, terms)
        assert set(out.losses) == set(terms)
        assert_finite(out)


def test_the_same_seed_gives_the_same_bits(stage):
    step, batch, plan = stage("masking.strategy=random")
    one, two, other = (step(batch, plan, seed).losses for seed in (5, 5, 6))
    assert all(torch.equal(one[name], two[name]) for name in TERMS)
    assert not torch.equal(one["mim"], other["mim"])


# Who is trained -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [(), ("losses.student_passes=two",), ("space.shared=false",), ("image.injection=gated",)], ids=" ".join
)
def test_every_trainable_parameter_gets_a_gradient_and_the_teacher_none(stage, settings):
    step, batch, plan = stage(*settings)
    backward(step(batch, plan, 5), plan)
    assert [name for name, p in step.model.trainable() if p.grad is None] == []
    assert [name for name, p in step.model.teacher.named_parameters() if p.grad is not None] == []


@pytest.mark.parametrize("shared", [True, False])
def test_mim_teaches_the_prototypes_of_cls_only_in_a_shared_space(stage, shared):
    step, batch, plan = stage(f"space.shared={shared}".lower())
    step(batch, plan, 5).losses["mim"].backward()
    space = step.model.student.space
    assert space.patch.prototypes.grad.abs().sum() > 0
    assert (space.cls.prototypes.grad is not None) == shared


def test_mim_teaches_the_text_encoder_through_the_injected_words(stage):
    for injected in (True, False):
        step, batch, plan = stage(f"losses.mim_student_text={injected}".lower())
        step(batch, plan, 5).losses["mim"].backward()
        reached = step.model.student.image.text_map.weight.grad is not None
        assert reached == injected


def test_only_masked_patches_are_projected(stage, monkeypatch):
    rows, direction = [], PrototypeHead.direction
    monkeypatch.setattr(PrototypeHead, "direction", lambda self, x: rows.append(x.shape[:-1].numel()) or direction(self, x))
    step, batch, plan = stage("masking.ratio=0.75", "losses.consensus.weight=0")  # 3 of 4 patches, 4 images
    step(batch, plan, 5)
    assert rows == [12, 12]  # teacher and student; all patches would be 16


# Isolation: swap the captions, look at [CLS] --------------------------------------------------------------------------


@pytest.mark.parametrize("passes", ["three", "two"])
@pytest.mark.parametrize(("isolation", "depth", "same"), [("fork", 3, True), ("mask", 3, False), ("mask", 2, True), ("none", 2, False)])
def test_cls_under_swapped_captions(stage, monkeypatch, isolation, depth, same, passes):
    # m = 1: three layers inject text twice, two inject it once.
    settings = (
        f"image.isolation={isolation}",
        f"image.depth={depth}",
        f"losses.student_passes={passes}",
        "masking.strategy=random",
    )
    step, batch, plan = stage(*settings)
    seen, real = [], step_module.consensus_loss
    monkeypatch.setattr(step_module, "consensus_loss", lambda student, *rest: seen.append((student, *rest)) or real(student, *rest))
    swap = torch.tensor([1, 0, 3, 2])
    swapped = replace(batch, input_ids=batch.input_ids[swap], attention_mask=batch.attention_mask[swap])
    swapped = replace(swapped, mlm_ids=batch.mlm_ids[swap], mlm_labels=batch.mlm_labels[swap])
    step(batch, plan, 5)
    step(swapped, plan, 5)
    (student, target, _), (other_student, other_target, _) = seen
    assert torch.equal(student, other_student) == same and torch.equal(target, other_target) == same


# Memory ---------------------------------------------------------------------------------------------------------------


def test_memory_changes_after_the_step_and_not_during_it(stage):
    step, batch, plan = stage("teacher.balance=center")
    memory = step.model.memory
    before = {name: x.clone() for name, x in memory.state_dict().items()}
    out = step(batch, plan, 5)
    assert all(torch.equal(x, before[name]) for name, x in memory.state_dict().items())
    step.remember(out.remember)
    changed = {name for name, x in memory.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == set(before)


def test_the_teachers_features_are_remembered(stage):
    step, batch, plan = stage("teacher.balance=center")
    model = step.model
    step.remember(step(batch, plan, 5).remember)
    teacher = model.teacher
    cls = torch.stack([teacher.image(view)[:, 0] for view in batch.images])
    image, text, ids = model.memory.pairs()
    torch.testing.assert_close(image, teacher.project_image(cls[0]))
    torch.testing.assert_close(text, teacher.project_text(teacher.text(batch.input_ids, batch.attention_mask)[:, 0]))
    assert torch.equal(ids, batch.image_ids)
    # Both views, image by image; and a tenth of their mean logit in the centre, which started at zero.
    torch.testing.assert_close(model.memory.directions(), teacher.space.cls.direction(cls).transpose(0, 1).reshape(8, -1))
    torch.testing.assert_close(model.memory.cls_center, 0.1 * teacher.space.cls(cls).mean(dim=(0, 1)))


def test_older_directions_join_the_balancing(stage):
    step, batch, plan = stage("teacher.balance=sinkhorn")
    alone = step(batch, plan, 5).losses["consensus"]
    step.model.memory.add_directions(torch.nn.functional.normalize(torch.randn(8, 8), dim=-1))
    assert not torch.equal(step(batch, plan, 5).losses["consensus"], alone)


def test_collapse_instruments_by_hand():
    # Three codes over k = 4: two sure of code 0, one split between 0 and 1.
    target = torch.tensor([[1.0, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0]])
    found = {name: value.item() for name, value in describe(target, "x").items()}
    mean = torch.tensor([2.5 / 3, 0.5 / 3])
    assert found["x_entropy"] == pytest.approx(torch.tensor(2.0).log().item() / 3)
    assert found["x_kl_to_uniform"] == pytest.approx((mean * (4 * mean).log()).sum().item(), rel=1e-4)
    assert found["x_prototypes_used"] == 1
