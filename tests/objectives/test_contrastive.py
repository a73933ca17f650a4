"""ITC: chance, both directions and soft targets by hand; the queue against a plain list."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.objectives.contrastive import enqueue, itc_loss

LSE = math.log(math.e + 1)  # log-sum-exp of the logits (1, 0)


def plain(image, text, ids=None, **more):
    """Keys are the batch itself, τ = 1."""
    ids = torch.arange(len(image)) if ids is None else ids
    return itc_loss(image, text, image, text, ids, ids, temperature=1.0, **more).item()


def test_two_pairs_by_hand():
    # Each row's logits are 1 for its own pair and 0 for the other.
    assert plain(torch.eye(2), torch.eye(2)) == pytest.approx(LSE - 1)


def test_chance_is_ln_keys():
    loss = itc_loss(
        *(torch.zeros(3, 4), torch.zeros(3, 4)),
        *(torch.zeros(11, 4), torch.zeros(11, 4)),
        torch.arange(3),
        torch.arange(11),
        temperature=0.07,
    )
    assert loss.item() == pytest.approx(math.log(11))


def test_each_direction_reads_its_own_keys():
    # One query, two keys. The image's logits over text keys are (1, 0), the text's over image keys (−1, 0).
    image = text = torch.tensor([[1.0, 0.0]])
    text_keys, image_keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    loss = itc_loss(image, text, image_keys, text_keys, torch.tensor([7]), torch.tensor([7, 8]), temperature=1.0)
    i2t, t2i = LSE - 1, math.log(1 / math.e + 1) + 1
    assert loss.item() == pytest.approx((i2t + t2i) / 2)


def test_temperature_divides_the_similarities():
    loss = itc_loss(*[torch.eye(2)] * 4, torch.arange(2), torch.arange(2), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(math.e**2 + 1) - 2)


def test_captions_of_the_same_image_are_positives():
    # Both pairs show one image: the truth is (1/2, 1/2), never a negative.
    assert plain(torch.eye(2), torch.eye(2), ids=torch.tensor([5, 5])) == pytest.approx(LSE - 0.5)


def test_a_positive_in_the_queue_counts_too():
    # The second key is a queue row of the same image.
    one = torch.tensor([[1.0, 0.0]])
    keys = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    loss = itc_loss(one, one, keys, keys, torch.tensor([5]), torch.tensor([5, 5]), temperature=1.0)
    assert loss.item() == pytest.approx(LSE - 0.5)


def test_queue_rows_are_negatives():
    # Logits (1, 0) from the batch and 0 from the queue row.
    keys = torch.cat([torch.eye(3)[:2], torch.eye(3)[2:]])
    batch = torch.eye(3)[:2]
    loss = itc_loss(batch, batch, keys, keys, torch.tensor([0, 1]), torch.tensor([0, 1, 9]), temperature=1.0)
    assert loss.item() == pytest.approx(math.log(math.e + 2) - 1)


def test_soft_targets_by_hand():
    # The teacher's belief is softmax(1, 0) = (p, 1 − p); the target 0.4 · belief + 0.6 · truth.
    p = math.e / (math.e + 1)
    eye = torch.eye(2)
    loss = plain(eye, eye, alpha=0.4, teacher_image=eye, teacher_text=eye, teacher_image_keys=eye, teacher_text_keys=eye)
    assert loss == pytest.approx(LSE - (0.4 * p + 0.6))


def test_the_teachers_belief_has_the_same_temperature():
    # At τ = 0.5 and α = 1 belief and logits are both softmax(2, 0): the loss is the entropy of that.
    eye, ids = torch.eye(2), torch.arange(2)
    p = math.exp(2) / (math.exp(2) + 1)
    loss = itc_loss(*[eye] * 4, ids, ids, 0.5, 1.0, *[eye] * 4)
    assert loss.item() == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))


def test_the_teacher_of_each_direction_is_its_own():
    # For i→t the teacher is sure of key 0, for t→i it is sure of key 1; at α = 1 only its belief counts.
    one, keys, sure = torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.tensor([[90.0, 0.0], [0.0, 90.0]])
    loss = itc_loss(
        *(one, one, keys, keys, torch.tensor([0]), torch.tensor([0, 1])),
        temperature=1.0,
        alpha=1.0,
        teacher_image=torch.tensor([[1.0, 0.0]]),
        teacher_text=torch.tensor([[0.0, 1.0]]),
        teacher_image_keys=sure,
        teacher_text_keys=sure,
    )
    assert loss.item() == pytest.approx(((LSE - 1) + LSE) / 2)


def test_without_alpha_no_teacher_is_needed_and_with_it_none_is_trained():
    plain(torch.eye(2), torch.eye(2), alpha=0.0)
    teacher = torch.eye(2).requires_grad_()
    image = torch.eye(2).requires_grad_()
    temperature = torch.tensor(0.5, requires_grad=True)
    ids = torch.arange(2)
    itc_loss(image, image, image, image, ids, ids, temperature, 0.4, *[teacher] * 4).backward()
    assert teacher.grad is None and image.grad.abs().sum() > 0 and temperature.grad.abs() > 0


def test_equals_clips_loss():
    image, text = F.normalize(torch.randn(6, 8), dim=1), F.normalize(torch.randn(6, 8), dim=1)
    logits, labels = image @ text.T / 0.07, torch.arange(6)
    clip = (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
    torch.testing.assert_close(itc_loss(image, text, image, text, labels, labels, 0.07), clip)


@given(st.integers(1, 6), st.lists(st.integers(1, 15), min_size=1, max_size=8))
def test_the_queue_is_a_ring_for_any_batch_size(places, batches):
    """Against a plain list of everything ever written, of which the newest `places` remain."""
    queue, pointer, written = torch.full((places, 2), -1.0), 0, []
    for size in batches:
        rows = torch.arange(len(written), len(written) + size).float()[:, None].expand(size, 2)
        pointer = enqueue(queue, rows, pointer)
        written += rows[:, 0].tolist()
    assert sorted(queue[:, 0].tolist()) == sorted([-1.0] * max(0, places - len(written)) + written[-places:])
    # The pointer names the oldest row, which the next write replaces.
    assert 0 <= pointer < places
    if len(written) >= places:
        assert queue[pointer, 0] == min(queue[:, 0])


def test_a_batch_that_crosses_the_end_goes_on_at_the_start():
    queue = torch.zeros(4, dtype=torch.long)
    assert enqueue(queue, torch.tensor([1, 2, 3]), 0) == 3
    assert enqueue(queue, torch.tensor([4, 5]), 3) == 1
    assert queue.tolist() == [5, 2, 3, 4]


def test_autocast_does_not_round_the_similarities():
    image, text = (F.normalize(torch.randn(6, 16), dim=-1) for _ in range(2))
    ids = torch.arange(6)
    keys = dict(image_keys=image, text_keys=text, ids=ids, key_ids=ids, temperature=0.01)
    keys |= dict(alpha=0.4, teacher_image=image, teacher_text=text, teacher_image_keys=image, teacher_text_keys=text)
    exact = itc_loss(image, text, **keys)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert itc_loss(image, text, **keys).item() == exact.item()
