"""Agreement of codes with objects: a perfect dictionary, no dictionary, and the two references beside a run."""

import numpy as np
import pytest
import torch

from semmim_mini.instruments import semantics as instrument
from semmim_mini.instruments.semantics import ami, concept_labels, patch_codes, semantics, untrained


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
    assert found["ami_pixel_kmeans"] == pytest.approx(1) and found["ami_objects_only_pixel_kmeans"] == pytest.approx(1)
    assert found["n_patches"] == 40


def test_codes_that_are_the_labels_score_one_and_the_background_is_left_out_where_said(make_step, look, monkeypatch):
    batches = look(10)
    labels = concept_labels(batches, 8)
    codes = np.where(labels > 0, labels, np.arange(len(labels)) % 7 + 50)  # right on objects, at odds with itself on grass
    monkeypatch.setattr(instrument, "patch_codes", lambda encoders, batches: codes)
    found = semantics(make_step().model, batches)
    assert found["ami_objects_only"] == pytest.approx(1) and found["ami"] == pytest.approx(ami(labels, codes)) and found["ami"] < 0.9


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
