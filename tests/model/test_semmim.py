"""The whole model: what student and teacher share and do not, and what a step may remember."""

import pytest
import torch


def test_the_teacher_starts_as_the_student_and_is_never_trained(make_model):
    model = make_model()
    for (name, ours), theirs in zip(model.student.named_parameters(), model.teacher.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours is not theirs, name
        assert ours.requires_grad and not theirs.requires_grad, name
    assert not any(name.startswith("teacher") for name, _ in model.trainable())


def test_the_teacher_drops_nothing_out_while_the_student_trains(make_model):
    model = make_model("text.dropout=0.5")
    for mode in (True, False, True):
        assert model.train(mode) is model
        assert all(module.training is mode for module in model.student.modules())
        assert not any(module.training for module in model.teacher.modules())
    ids, words = torch.randint(5, 30, (2, 6)), torch.ones(2, 6, dtype=torch.bool)
    assert torch.equal(model.teacher.text(ids, words), model.teacher.text(ids, words))
    assert not torch.equal(model.student.text(ids, words), model.student.text(ids, words))


def test_the_teachers_heads_are_shared_as_the_students_are(make_model):
    shared, two = make_model("space.shared=true"), make_model("space.shared=false")
    assert shared.teacher.space.cls is shared.teacher.space.patch
    assert two.teacher.space.cls is not two.teacher.space.patch


def test_the_teacher_follows_by_the_formula(make_model):
    model = make_model()
    for parameter in model.student.parameters():
        torch.nn.init.normal_(parameter)
    before = [p.clone() for p in model.teacher.parameters()]
    model.update_teacher(0.9)
    for old, new, student in zip(before, model.teacher.parameters(), model.student.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * student)


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_the_ends_of_momentum_copy_or_keep(make_model, momentum):
    model = make_model()
    torch.nn.init.normal_(model.student.image.cls)
    before = model.teacher.image.cls.clone()
    model.update_teacher(momentum)
    torch.testing.assert_close(model.teacher.image.cls, before if momentum else model.student.image.cls.detach())


def test_projections_have_length_one(make_model):
    model = make_model()
    image, text = model.student.project_image(torch.randn(2, 5, 16)), model.student.project_text(torch.randn(3, 12))
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2, 5))
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize(("raw", "used"), [(0.07, 0.07), (-3.0, 0.001), (0.0, 0.001), (9.0, 0.5)])
def test_the_temperature_stays_in_its_range(make_model, raw, used):
    model = make_model()
    model.temperature.data.fill_(raw)
    model.keep_temperature()
    assert model.itc_temperature().item() == pytest.approx(used)
    model.itc_temperature().backward()
    assert model.temperature.grad.item() == 1.0  # on its border, too: a clamp would have none there, and the temperature would stay


@pytest.mark.parametrize(("kept", "raw", "used"), [("0.07", 3.0, 0.07), ("[0.05, 0.5]", 0.01, 0.05)])
def test_the_range_of_the_temperature_is_a_setting(make_model, kept, raw, used):
    model = make_model(f"losses.temperature={kept}")
    model.temperature.data.fill_(raw)
    model.keep_temperature()
    assert model.itc_temperature().item() == pytest.approx(used)


def test_a_temperature_outside_its_range_begins_at_the_border(make_model):
    assert make_model().itc_temperature().item() == pytest.approx(0.07)
    assert make_model("losses.temperature=[0.1, 0.5]").itc_temperature().item() == pytest.approx(0.1)


def test_heads_are_built_only_where_they_are_used(make_model):
    codes, pixels, tokens = (make_model(f"losses.mim_target={t}") for t in ("codes", "pixels", "tokens"))
    assert codes.pixel_head is None and codes.token_head is None and codes.codebook.shape == (0, 192)
    assert pixels.pixel_head.out_features == 192 and pixels.token_head is None
    assert tokens.token_head.out_features == 5 and tokens.codebook.shape == (5, 192)
    assert make_model("losses.caption.weight=0").decoder is None and codes.decoder is not None


def test_a_frozen_text_encoder_does_not_move(make_model):
    model = make_model("text.pretrained=somewhere", "text.freeze=true")
    names = [name for name, _ in model.trainable()]
    assert not any(name.startswith("student.text.") for name in names)
    assert any(name.startswith("student.text_projection") for name in names)


# Memory ---------------------------------------------------------------------------------------------------------------


def rows(*numbers: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.tensor(numbers)
    return ids.float()[:, None].expand(-1, 10).clone(), -ids.float()[:, None].expand(-1, 10).clone(), ids


def test_memory_starts_empty_and_shows_written_places_only(make_model):
    memory = make_model("losses.queue=5").memory
    assert [len(x) for x in memory.pairs()] == [0, 0, 0] and len(memory.directions()) == 0
    memory.add_pairs(*rows(1, 2, 3))
    assert memory.pairs()[2].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "sizes",
    [[1] * 12, [2] * 7, [3] * 5, [4] * 4, [5] * 3, [7] * 3, [7, 2, 1, 2, 11, 3, 4, 1], [2, 6, 1, 1, 3]],
    ids=str,
)
def test_memory_keeps_the_newest_of_batches_of_any_size(make_model, sizes):
    memory = make_model("losses.queue=5", "teacher.cls_queue=5").memory
    written = []
    for size in sizes:
        numbers = list(range(len(written), len(written) + size))
        memory.add_pairs(*rows(*numbers))
        memory.add_directions(rows(*numbers)[0][:, :8])
        written += numbers
        image, text, ids = memory.pairs()
        assert sorted(ids.tolist()) == sorted(written[-5:])
        # The three stay side by side: row i of each is the same pair.
        assert torch.equal(image[:, 0], ids.float()) and torch.equal(text[:, 0], -ids.float())
        assert sorted(memory.directions()[:, 0].tolist()) == sorted(written[-5:])


def test_a_memory_of_no_places_remembers_nothing(make_model):
    memory = make_model("losses.queue=0", "teacher.cls_queue=0").memory
    memory.add_pairs(*rows(1, 2))
    memory.add_directions(torch.zeros(2, 8))
    assert [len(x) for x in memory.pairs()] == [0, 0, 0] and len(memory.directions()) == 0


def test_memory_travels_with_the_checkpoint(make_model):
    one, other = make_model(), make_model()
    one.memory.add_pairs(*rows(1, 2, 3))
    one.memory.cls_center.fill_(0.3)
    other.load_state_dict(one.state_dict())
    assert other.memory.pairs()[2].tolist() == [1, 2, 3] and (other.memory.cls_center == 0.3).all()
