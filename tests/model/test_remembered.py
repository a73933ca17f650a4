"""What frozen layers said: the same as computing it again, for exactly the pictures that come again."""

import pytest
import torch

from semmim_mini.model.remembered import Remembered

ROOM = 1  # MiB


@pytest.fixture
def asked():
    """`say` with the number of pictures it was asked for in `asked.sizes`."""

    def say(images):
        say.sizes.append(len(images))
        return images.flatten(1)[:, None] * 2

    say.sizes = []
    return say


def test_only_new_pictures_are_computed(asked):
    remembered, images = Remembered(ROOM), torch.randn(4, 3, 2, 2)
    first = remembered(images[:3], asked)
    again = remembered(images[[2, 3, 0]], asked)
    assert asked.sizes == [3, 1] and first.equal(images[:3].flatten(1)[:, None] * 2)
    assert again.equal(images[[2, 3, 0]].flatten(1)[:, None] * 2)
    remembered(images, asked)
    assert asked.sizes == [3, 1]  # nothing was new


def test_a_picture_twice_in_a_batch_is_computed_once(asked):
    image = torch.randn(1, 3, 2, 2)
    assert Remembered(ROOM)(image.expand(3, -1, -1, -1), asked).equal(image.flatten(1)[:, None].expand(3, -1, -1) * 2)
    assert asked.sizes == [1]


def test_one_pixel_makes_another_picture(asked):
    remembered, image = Remembered(ROOM), torch.zeros(1, 3, 2, 2)
    remembered(image, asked)
    changed = image.clone()
    changed[0, 2, 1, 1] = torch.finfo(torch.float32).eps
    remembered(changed, asked)
    remembered(image.flip(-1), asked)  # of one colour: the same picture mirrored
    assert asked.sizes == [1, 1]


def test_when_the_room_is_full_the_rest_is_computed_each_time(asked):
    remembered, images = Remembered(ROOM), torch.randn(3, 3, 200, 200)  # 470 KiB each
    for _ in range(2):
        remembered(images, asked)
    assert asked.sizes == [3, 1] and len(remembered.known) == 2 and 0 <= remembered.room < 2**19


def locked(make_model, *settings: str):
    """A model of whose three image layers the first are held; two are the trunk."""
    return make_model("image.depth=3", "image.inject_from=2", "image.pretrained=somewhere", *settings)


@pytest.mark.parametrize("readout", [0, 3])
@pytest.mark.parametrize("held", [1, 2, 3])
def test_an_encoder_that_remembers_says_and_learns_the_same(held, readout, make_model, make_batch):
    """Held layers above m, too, and what they leave for a readout."""
    gradients = []
    for settings in ((), ("image.remember=1",)):
        model = locked(make_model, f"image.freeze={held}", f"image.readout={readout}", *settings)
        encoder, images = model.student.image, make_batch(model.config).images[0]
        for _ in range(2):
            encoder.zero_grad()
            tokens = encoder(images)
            tokens.square().sum().backward()
        gradients.append((tokens.detach(), {name: x.grad for name, x in encoder.named_parameters() if x.grad is not None}))
    assert sum(layer_calls(encoder, images)) == 3 - held
    (tokens, plain), (remembered, same) = gradients
    assert remembered.equal(tokens) and plain.keys() == same.keys() and all(plain[name].equal(same[name]) for name in plain)
    assert len(encoder.remembered.known) == len(images)


def layer_calls(encoder, images) -> list[int]:
    """How often each layer runs for pictures that were seen before."""
    calls = [0] * len(encoder.layers)

    def count(number):
        return lambda *_: calls.__setitem__(number, calls[number] + 1)

    hooks = [layer.register_forward_hook(count(number)) for number, layer in enumerate(encoder.layers)]
    encoder(images)
    for hook in hooks:
        hook.remove()
    return calls


def test_pictures_that_read_text_hidden_patches_and_evaluation_are_not_remembered(make_model, make_batch):
    model = locked(make_model, "image.freeze=2", "image.remember=1")
    encoder, images = model.student.image, make_batch(model.config).images[0]
    batch = make_batch(model.config)
    encoder(images, torch.ones(len(images), 4, dtype=torch.bool))
    encoder(images, text=encoder.read(model.student.text(batch.input_ids, batch.attention_mask), batch.attention_mask))
    with torch.no_grad():
        encoder(images)
    encoder.eval()(images)
    assert not encoder.remembered.known


def test_a_step_trains_with_it_and_a_checkpoint_knows_nothing_of_it(make_model):
    model = make_model("image.pretrained=somewhere", "image.freeze=1", "image.remember=1")
    assert model.teacher.image.remembered is None and model.student.image.remembered is not None
    assert not [name for name in model.state_dict() if "remembered" in name]
