"""A checkpoint into a model of another shape: what is taken, interpolated, left behind and left random."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.transfer import resize_positions, transfer

VOCAB = 30


def tensors(model: SemMIM) -> dict:
    """As a checkpoint holds them: values of their own, and of tied weights one name."""
    tied = "mlm_head.head.predictions.decoder.weight"
    return {name: value.clone() + 0.5 for name, value in model.state_dict().items() if name != tied and value.is_floating_point()}


def test_positions_of_the_same_grid_are_untouched():
    positions = torch.randn(10, 4)
    assert resize_positions(positions, 3) is positions


@given(st.integers(2, 6), st.integers(1, 9))
def test_cls_keeps_its_position_and_a_flat_grid_stays_flat(old, new):
    positions = torch.cat([torch.full((1, 2), 7.0), torch.full((old * old, 2), -3.0)])
    resized = resize_positions(positions, new)
    assert resized.shape == (1 + new * new, 2)
    assert (resized[0] == 7).all()
    torch.testing.assert_close(resized[1:], torch.full((new * new, 2), -3.0))


def test_rows_stay_rows():
    # Patches know their row by one number and their column by another. After doubling the grid they still do.
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    positions = torch.cat([torch.zeros(1, 2), torch.stack([rows, columns], dim=-1).reshape(64, 2)])
    grid = resize_positions(positions, 16)[1:].reshape(16, 16, 2)
    torch.testing.assert_close(grid[:, :1].expand_as(grid)[..., 0], grid[..., 0])
    torch.testing.assert_close(grid[:1].expand_as(grid)[..., 1], grid[..., 1])
    inside = grid[4:12, 0, 0]  # centres of the new patches stand at (i + ½)/2 − ½ of the old
    torch.testing.assert_close(inside, (torch.arange(4.0, 12.0) + 0.5) / 2 - 0.5, atol=0.02, rtol=0)


def test_shrinking_equals_timm():
    resample = pytest.importorskip("timm.layers.pos_embed").resample_abs_pos_embed
    positions = torch.randn(1 + 64, 6)
    for side in (4, 6, 12):
        theirs = resample(positions[None], [side, side], num_prefix_tokens=1)[0]
        torch.testing.assert_close(resize_positions(positions, side), theirs)


def test_the_same_shape_is_taken_whole_except_memory(make_model):
    source, target = make_model(), make_model()
    given_ = tensors(source)
    assert transfer(target, given_) == []
    for name, value in target.state_dict().items():
        if name in given_:
            same = torch.equal(value, given_[name])
            assert same != name.startswith(("memory.", "codebook")) or value.numel() == 0, name
    assert target.mlm_head.head.predictions.decoder.weight is target.student.text.bert.embeddings.word_embeddings.weight


def test_higher_resolution_runs(make_model, make_batch):
    source, target = make_model(), make_model("data.resolution=32")
    assert transfer(target, tensors(source)) == []
    torch.testing.assert_close(target.student.image.positions, resize_positions(source.student.image.positions + 0.5, 4))
    batch = make_batch(target.config)
    assert target.student.image(batch.images[0]).shape == (4, 17, 16)


def test_further_text_positions_stay_random(make_model):
    name = "bert.embeddings.position_embeddings.weight"
    source = make_model()
    assert len(source.student.text.get_parameter(name)) == 64  # never fewer
    for length in (5, 70):
        target = make_model(f"data.max_length={length}")
        before = target.student.text.get_parameter(name).clone()
        transfer(target, tensors(source))
        now, both = target.student.text.get_parameter(name), 64
        assert torch.equal(now[:both], source.student.text.get_parameter(name)[:both] + 0.5)
        assert torch.equal(now[both:], before[both:]) and len(now) == max(length, 64)


def test_a_decoder_that_the_checkpoint_lacks_stays_random_and_is_named(make_model):
    source, target = make_model("losses.caption.weight=0"), make_model()
    before = {name: value.clone() for name, value in target.decoder.state_dict().items()}
    assert transfer(target, tensors(source)) == ["decoder"]
    assert all(torch.equal(value, before[name]) for name, value in target.decoder.state_dict().items())


def test_answers_start_from_captions(make_model):
    source, target = make_model(), make_model("losses.answer.weight=1")
    assert transfer(target, tensors(source)) == []
    theirs = source.decoder.state_dict()
    for name, value in target.answerer.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, theirs[name] + 0.5), name


def test_another_width_is_refused(make_model):
    with pytest.raises(UserError, match=r"student\.image.* has shape .* width, depth, patch size and vocabulary"):
        transfer(make_model("image.width=24"), tensors(make_model()))


def test_prototypes_of_another_number_are_left_behind(make_model):
    source, target = make_model("space.prototypes=6"), make_model("space.prototypes=8")
    before = target.student.space.cls.prototypes.clone()
    assert transfer(target, tensors(source)) == ["student.space", "teacher.space"]
    assert torch.equal(target.student.space.cls.prototypes, before)
    assert torch.equal(target.student.space.cls.mlp[0].weight, tensors(source)["student.space.cls.mlp.0.weight"])
