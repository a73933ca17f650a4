"""Agreement of codes with objects: a perfect dictionary, no dictionary, and the two references beside a run."""

import numpy as np
import pytest
import torch

from semmim_mini.instruments import semantics as instrument
from semmim_mini.instruments.semantics import alike_across_images, ami, ami_within, concept_labels, patch_codes, semantics, untrained


def test_a_perfect_dictionary_whatever_its_numbers():
    labels = np.repeat(np.arange(5), 20)
    assert ami(labels, labels) == pytest.approx(1)
    assert ami(labels, np.array([40, 7, 0, 3, 12])[labels]) == pytest.approx(1)


def test_shuffled_codes_are_worth_nothing_however_many_there_are():
    rng, labels = np.random.default_rng(0), np.repeat(np.arange(5), 400)
    assert abs(ami(labels, rng.permutation(labels))) < 0.01
    assert abs(ami(labels, rng.integers(500, size=2000))) < 0.03  # where NMI without adjustment would be far from 0


def test_one_code_for_everything_is_worth_nothing():
    assert ami(np.repeat(np.arange(5), 20), np.zeros(100)) == pytest.approx(0)


def test_concepts_are_numbered_over_the_data_set(look):
    # dog cat | cat owl | owl car: a thing has one number wherever it stands, grass is 0.
    labels = concept_labels(look(3, batch=2), 8)
    assert labels.reshape(3, 4).tolist() == [[1, 2, 0, 0], [2, 3, 0, 0], [3, 4, 0, 0]]


def test_codes_are_of_text_free_patches_in_order(make_step, look):
    model, (batch,) = make_step().model, look(5)
    space, clean = model.teacher.space.patch, model.teacher.image(batch.images[0])[:, 1:]
    assert patch_codes(model.teacher, [batch]).tolist() == space(clean).argmax(dim=-1).flatten().tolist()
    assert np.array_equal(patch_codes(model.teacher, look(5, batch=2)), patch_codes(model.teacher, [batch]))


def test_plain_colours_need_no_learning(make_step, look):
    # Six colours and six clusters: k-means on pixels is the perfect dictionary, and the reference says so.
    found = semantics(make_step().model, look(10))
    assert found["ami_pixel_kmeans"] == found["ami_within_pixel_kmeans"] == found["alike_across_pixel_kmeans"] == pytest.approx(1)
    assert found["n_patches"] == 40


def test_codes_that_know_the_picture_only(make_step, look, monkeypatch):
    # A code that says which picture it is: worth nothing within one, and nowhere else to be met.
    batches = look(10)
    monkeypatch.setattr(instrument, "patch_codes", lambda encoders, batches: np.arange(40) // 4)
    found = semantics(make_step().model, batches)
    assert found["ami"] == found["ami_picture_number"]
    assert found["ami_within"] == pytest.approx(0) and found["alike_across"] == 0


def test_codes_that_group_and_do_not_name(make_step, look, monkeypatch):
    batches = look(10)
    labels, picture = concept_labels(batches, 8), np.arange(40) // 4
    monkeypatch.setattr(instrument, "patch_codes", lambda encoders, batches: np.where(labels > 0, labels, 50) + 100 * picture)
    found = semantics(make_step().model, batches)
    assert found["ami_within"] == pytest.approx(1) and found["alike_across"] == 0 and 0 < found["ami"] < 1


def test_codes_that_name(make_step, look, monkeypatch):
    batches = look(10)
    monkeypatch.setattr(instrument, "patch_codes", lambda encoders, batches: concept_labels(batches, 8))
    found = semantics(make_step().model, batches)
    assert found["ami"] == found["ami_within"] == found["alike_across"] == pytest.approx(1)
    # Of the other pictures' 18 object patches, 3 or 4 show what this one shows: 20 of them, five kinds, two in each picture.
    assert found["alike_across_chance"] == pytest.approx(1 / 6, abs=0.01)


def test_within_a_picture_is_a_mean_over_pictures():
    labels, codes = np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.array([3, 3, 4, 4, 5, 5, 5, 5])
    assert ami_within(labels, codes, np.arange(8) // 4) == pytest.approx((1 + 0) / 2)


def test_alike_across_images_by_hand():
    # Patch 0 (concept 1) meets patches 2 and 3 of the other image, of which one is alike: 1/2. Patch 1 has no partner. Patches 2 and 3
    # both meet patch 0: 1 and 0.
    answer, concept, image = torch.tensor([5, 6, 5, 5]), torch.tensor([1, 1, 1, 2]), torch.tensor([0, 0, 1, 1])
    assert alike_across_images(answer, concept, image) == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_one_answer_for_all_is_alike_by_chance():
    concept, image = torch.arange(6).repeat(4), torch.arange(4).repeat_interleave(6)
    assert alike_across_images(torch.zeros(24, dtype=torch.long), concept, image) == pytest.approx(1 / 6)
    assert alike_across_images(concept, concept, image) == pytest.approx(1.0)


def test_the_untrained_network_is_a_fresh_one_with_placed_prototypes(make_step, look):
    model, batches = make_step().model, look(5)
    before = torch.get_rng_state()
    one, other = untrained(model, batches), untrained(model, batches)
    assert torch.equal(torch.get_rng_state(), before)  # measuring a run changes nothing in it
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.image.patchify.weight, model.teacher.image.patchify.weight)
    assert len(set(patch_codes(one, batches).tolist())) > 1
    # Prototypes lie where patches land: patches have one near by.
    nearest = one.space.patch.score(instrument.patch_directions(one, batches)).amax(dim=-1)
    assert nearest.mean() > 0.9
