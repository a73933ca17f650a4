"""Probes: votes by hand and against a naive twin and scikit-learn, what can and cannot be told apart, and nothing that leaks."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair, SceneObject, SceneTruth
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.objectives.masked_image import patch_pixels
from semmim_mini.tasks import probes
from semmim_mini.tasks.probes import (
    Samples,
    cls_samples,
    describe,
    evaluate_probes,
    knn_accuracy,
    layer_tokens,
    linear_probe,
    patch_samples,
    pixel_tokens,
    probe,
)

# k-NN -----------------------------------------------------------------------------------------------------------------


def angles(*degrees: float) -> torch.Tensor:
    return torch.tensor([[math.cos(math.radians(x)), math.sin(math.radians(x))] for x in degrees])


def test_the_nearest_decides_by_hand():
    train, labels = angles(0, 90), torch.tensor([0, 1])
    assert knn_accuracy(train, labels, angles(10, 80, 80), torch.tensor([0, 1, 0]), k=1) == pytest.approx(2 / 3)


def test_votes_are_weighted_by_similarity():
    # One neighbour of label 0 at 0°, two of label 1 at 60°: e^(1/0.07) against 2·e^(0.5/0.07), that is e^7.1 = 1,265 against 2.
    train, labels = angles(0, 60, -60), torch.tensor([0, 1, 1])
    assert knn_accuracy(train, labels, angles(0), torch.tensor([0]), k=3) == 1
    # Nearly unweighted, the majority of the three wins.
    assert knn_accuracy(train, labels, angles(0), torch.tensor([1]), k=3, temperature=100.0) == 1


def test_only_directions_count():
    train, labels = torch.tensor([[1.0, 0], [0, 100.0]]), torch.tensor([0, 1])
    assert knn_accuracy(train, labels, torch.tensor([[30.0, 10.0]]), torch.tensor([0]), k=2) == 1


def test_a_tie_is_an_error():
    assert knn_accuracy(angles(-45, 45), torch.tensor([0, 1]), angles(0, 0), torch.tensor([0, 1]), k=2) == 0


def test_nan_is_an_error_and_a_label_without_neighbours_too():
    nan = torch.full((3, 2), float("nan"))
    assert knn_accuracy(nan, torch.tensor([0, 1, 0]), nan, torch.tensor([0, 1, 0]), k=2) == 0
    assert knn_accuracy(angles(0, 10), torch.tensor([0, 1]), angles(0), torch.tensor([2]), k=2) == 0


@pytest.mark.parametrize("k", [0, 4])
def test_as_many_neighbours_as_there_are(k):
    with pytest.raises(UserError, match=f"k={k} neighbours cannot be had of 3 training features"):
        knn_accuracy(angles(0, 1, 2), torch.tensor([0, 1, 2]), angles(0), torch.tensor([0]), k=k)


def naive_knn(train, labels, test, test_labels, k, temperature) -> float:
    right = 0
    for feature, own in zip(test, test_labels.tolist(), strict=True):
        cosines = [torch.cosine_similarity(feature, other, dim=0).item() for other in train]
        votes: dict[int, float] = {}
        for cosine, label in sorted(zip(cosines, labels.tolist(), strict=True), reverse=True)[:k]:
            votes[label] = votes.get(label, 0) + math.exp(cosine / temperature)
        right += max(votes, key=votes.get) == own
    return right / len(test)


@given(st.integers(2, 20), st.integers(1, 12), st.integers(1, 5), st.integers(1, 20), st.integers(0, 99), st.integers(1, 9))
def test_equals_the_naive_twin_in_blocks_of_any_size(s, t, kinds, k, seed, block):
    draw = torch.Generator().manual_seed(seed)
    train, test = torch.randn(s, 4, generator=draw), torch.randn(t, 4, generator=draw)
    labels, test_labels = torch.randint(kinds, (s,), generator=draw), torch.randint(kinds, (t,), generator=draw)
    k = min(k, s)
    found = knn_accuracy(train, labels, test, test_labels, k, block=block)
    assert found == pytest.approx(naive_knn(train, labels, test, test_labels, k, 0.07))


def test_equals_scikit_learn():
    draw = torch.Generator().manual_seed(3)
    train, test = torch.randn(200, 6, generator=draw), torch.randn(80, 6, generator=draw)
    labels, test_labels = torch.randint(4, (200,), generator=draw), torch.randint(4, (80,), generator=draw)
    twin = KNeighborsClassifier(15, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)).fit(train, labels)
    assert knn_accuracy(train, labels, test, test_labels, k=15) == pytest.approx(twin.score(test, test_labels))


# Linear ---------------------------------------------------------------------------------------------------------------


def clouds(s: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds in five dimensions, `apart` deviations from each other in the first, whose scale is a thousandth of the others'."""
    draw = np.random.default_rng(seed)
    labels = np.arange(s) % 2
    features = draw.normal(size=(s, 5)) * [0.001, 1, 1, 1, 1]
    features[:, 0] += 0.001 * apart * labels
    return features.astype(np.float32), labels


def test_what_a_plane_parts_is_found_whatever_its_scale():
    found = linear_probe(*clouds(200, 8.0), *clouds(100, 8.0, seed=1))
    assert found["accuracy"] == 1 and found["converged"] == 1


def test_noise_is_chance():
    found = linear_probe(*clouds(300, 0.0), *clouds(400, 0.0, seed=1))
    assert found["accuracy"] == pytest.approx(0.5, abs=0.08)  # three deviations of a share of 400


def test_a_plane_cannot_part_a_checkerboard_and_neighbours_can():
    draw = np.random.default_rng(0)
    corners = draw.integers(0, 2, size=(400, 2))
    features = (3 * (2 * corners - 1) + 0.1 * draw.normal(size=(400, 2))).astype(np.float32)
    labels = corners[:, 0] ^ corners[:, 1]
    halves = features[:200], labels[:200], features[200:], labels[200:]
    assert linear_probe(*halves)["accuracy"] < 0.8
    assert knn_accuracy(*(torch.from_numpy(x) for x in halves), k=5) == 1


def test_the_last_fit_is_scikit_learn_s_with_all_training_features_and_their_scale():
    train, labels = clouds(120, 1.0)
    test, test_labels = clouds(300, 1.0, seed=1)
    found = linear_probe(train, labels, test, test_labels, strengths=(0.1,))
    scale = StandardScaler().fit(train)
    twin = LogisticRegression(C=0.1).fit(scale.transform(train), labels)
    assert found["accuracy"] == pytest.approx(twin.score(scale.transform(test), test_labels))


def test_the_strength_is_chosen_without_the_test_features():
    train, labels = clouds(100, 1.5)
    one = linear_probe(train, labels, *clouds(50, 1.5, seed=1))
    other = linear_probe(train, labels, *clouds(50, -1.5, seed=2))
    assert {k: one[k] for k in ("strength", "accuracy_held_back")} == {k: other[k] for k in ("strength", "accuracy_held_back")}
    assert one["accuracy"] > 0.5 > other["accuracy"]


def test_patches_of_one_picture_stay_together_when_the_strength_is_chosen():
    """Twenty pictures of ten equal patches, labels by chance: a division through pictures would find every held-back patch again."""
    draw = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    features, labels = draw.normal(size=(20, 50)).astype(np.float32)[groups], draw.integers(0, 2, 20)[groups]
    apart = linear_probe(features, labels, features, labels, groups=groups)
    through = linear_probe(features, labels, features, labels)
    assert through["accuracy_held_back"] == 1 and apart["accuracy_held_back"] < 0.9


def test_what_cannot_be_probed():
    features, labels = clouds(20, 1.0)
    with pytest.raises(UserError, match="needs 2 labels or more"):
        linear_probe(features, np.zeros(20, int), features, labels)
    with pytest.raises(UserError, match="of 2 pictures or more"):
        linear_probe(features, labels, features, labels, groups=np.zeros(20, int))
    with pytest.raises(UserError, match="not finite"):
        linear_probe(np.full_like(features, np.nan), labels, features, labels)
    with pytest.raises(UserError, match="too few to choose a strength"):
        linear_probe(features[:2], labels[:2], features, labels)


def test_an_early_stop_is_reported():
    assert linear_probe(*clouds(100, 3.0), *clouds(10, 3.0), strengths=(100.0,), max_iter=1)["converged"] == 0


# Features -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tiny):
    return SemMIM(tiny(), 30).eval()


def test_the_last_layer_is_the_encoder_s_output_and_the_first_its_embeddings(model):
    images, encoder = torch.randn(3, 3, 16, 16), model.student.image
    found = layer_tokens(encoder, images, [0, 1, 2])
    torch.testing.assert_close(found[2], encoder(images).detach())
    torch.testing.assert_close(found[0], encoder.norm(encoder.embed(images)).detach())
    torch.testing.assert_close(found[1], encoder.norm(encoder.layers[0](encoder.embed(images))).detach())
    assert not found[2].requires_grad and set(layer_tokens(encoder, images, [1])) == {1}


def test_the_untrained_reference_is_the_network_the_run_began_with(tiny):
    torch.manual_seed(5)
    model = SemMIM(tiny("run.seed=5"), 30).eval()
    images = torch.randn(2, 3, 16, 16)
    at_the_start = model.student.image(images)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    state = torch.get_rng_state()
    found = describe(model, [2])(images)
    torch.testing.assert_close(found["untrained"], at_the_start.detach())
    assert not torch.allclose(found["layer 2"], found["untrained"]) and torch.equal(state, torch.get_rng_state())


def test_colours_and_thumbnails_by_hand():
    images = torch.zeros(1, 3, 16, 16)
    images[0, 0, :8, 8:] = 1.0  # the upper right patch is red
    found = pixel_tokens(images, patch=8)
    assert found["colour"].shape == (1, 5, 3)
    assert found["colour"][0, :, 0].tolist() == [0.25, 0, 1, 0, 0] and found["colour"][0, :, 1:].abs().sum() == 0
    assert found["pixels"][0, 0].reshape(3, 8, 8)[0].tolist() == [[0.0] * 4 + [1.0] * 4] * 4 + [[0.0] * 8] * 4


def test_patches_run_as_the_encoder_reads_them():
    images = torch.randn(2, 3, 16, 24)
    pixels = patch_pixels(images, 8)  # (b, n, pixels of all channels)
    ours = pixel_tokens(images, 8)["pixels"][:, 1:]
    torch.testing.assert_close(ours.sort(dim=-1).values, pixels.sort(dim=-1).values)


# With pictures --------------------------------------------------------------------------------------------------------

THINGS = {"dog": (220, 30, 30), "cat": (40, 60, 220), "owl": (240, 220, 40)}


class Painted:
    """Picture i: grass, thing i in patch i mod 4 and thing i + 1 in the next; the label of the picture is the first."""

    name, classes, templates = "painted", tuple(THINGS), ("a {}",)

    def __init__(self, size: int, first: int = 0):
        self.size, self.first = size, first

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Pair, int]:
        i = self.first + range(self.size)[index]
        names = [list(THINGS)[(i + j) % 3] for j in (0, 1)]
        owner = torch.zeros(4, dtype=torch.long)
        owner[i % 4], owner[(i + 1) % 4] = 1, 2
        owner = owner.reshape(2, 2).repeat_interleave(8, 0).repeat_interleave(8, 1)
        colors = torch.tensor([(30, 160, 50), *(THINGS[name] for name in names)], dtype=torch.uint8)
        objects = tuple(SceneObject(name, "thing", ("red",), f"{name}_0", (0, 0, 1, 1)) for name in names)
        truth = SceneTruth(tv_tensors.Mask(owner[None].to(torch.uint8)), objects, ((),))
        return Pair(tv_tensors.Image(colors[owner].permute(2, 0, 1)), ("?",), i, f"painted {i}", truth), i % 3


class Scenes(Painted):
    """The same as pairs."""

    def __getitem__(self, index: int) -> Pair:
        return super().__getitem__(index)[0]

    def captions(self, index: int):
        return ("?",)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_patches_carry_the_concept_they_show_and_background_is_left_out(model, batch):
    concepts = {"owl": 0}
    found = patch_samples(describe(model, [2]), Scenes(4), concepts, model.config, batch=batch)
    assert concepts == {"owl": 0, "dog": 1, "cat": 2}
    # Patches run row by row; of picture 3 the first thing stands last and the second first.
    assert found.labels.tolist() == [1, 2, 2, 0, 0, 1, 2, 1] and found.pictures.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for row, label in enumerate(found.labels.tolist()):
        colour = torch.tensor(THINGS[{v: k for k, v in concepts.items()}[label]]) / 127.5 - 1
        torch.testing.assert_close(found.features["colour"][row], colour, atol=0.01, rtol=0)
    pixels = torch.stack([probes.CenterView(16)(pair).pixels for pair in Scenes(4)])
    torch.testing.assert_close(found.features["layer 2"][:2], model.student.image(pixels)[0, 1:3].detach())


def test_many_patches_are_thinned_out_evenly(model):
    found = patch_samples(describe(model, [2]), Scenes(40), {}, model.config, most=8)
    assert len(found.labels) == len(found.features["layer 2"]) == 8 and found.pictures[0] == 0 and found.pictures[-1] == 39


def test_cls_is_the_first_token(model):
    found = cls_samples(describe(model, [1, 2]), Painted(7), 16, limit=5, batch=2)
    assert set(found.features) == {"layer 1", "layer 2", "untrained", "colour", "pixels"}
    assert found.labels.tolist() == [0, 1, 2, 0, 1] and found.pictures.tolist() == list(range(5))
    pixels = torch.stack([probes.CenterView(16)(Painted(7)[i][0]).pixels for i in range(5)])
    torch.testing.assert_close(found.features["layer 2"], model.student.image(pixels)[:, 0].detach())


def test_probe_by_hand():
    """The label is in the one feature and not in the other; the majority is training's."""
    labels, other = torch.tensor([0, 1] * 30 + [0] * 20), torch.tensor([0, 1, 1, 1] * 10)
    noise = torch.Generator().manual_seed(0)
    train = Samples({"good": torch.eye(2)[labels], "bad": torch.randn(80, 4, generator=noise)}, labels, torch.arange(80))
    test = Samples({"good": torch.eye(2)[other], "bad": torch.randn(40, 4, generator=noise)}, other, torch.arange(100, 140))
    found = probe(train, test, 2, neighbours=(1, 5, 1000))
    assert found["good"]["knn"] == {"k1": 1.0, "k5": 1.0} and found["good"]["linear"]["accuracy"] == 1
    assert found["bad"]["knn"]["k5"] < 0.8 and found["bad"]["linear"]["accuracy"] < 0.8
    assert (found["chance"], found["majority"], found["n_train"], found["n_test"]) == (0.5, 0.25, 80, 40)


def test_the_same_picture_in_both_parts_is_refused():
    one = Samples({"x": torch.randn(6, 2)}, torch.arange(6) % 2, torch.arange(6))
    other = Samples({"x": torch.randn(6, 2)}, torch.arange(6) % 2, torch.arange(5, 11))
    with pytest.raises(UserError, match="1 pictures are in both"):
        probe(one, other, 2)
    with pytest.raises(UserError, match="fewer than 2"):
        probe(one, Samples(other.features, other.labels, torch.arange(6, 12)), 1)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation(model, training):
    model.train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = evaluate_probes(model, Painted(30), Painted(12, 30), (Scenes(30), Scenes(12, 30)), layers=[0, 2])
    assert model.training == training and all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    for part, n_train, n_test in (("cls", 30, 12), ("patches", 60, 24)):
        assert {"layer 0", "layer 2", "untrained", "colour", "pixels", "chance", "majority"} <= set(found[part])
        assert (found[part]["n_train"], found[part]["n_test"], found[part]["n_classes"]) == (n_train, n_test, 3)
        assert set(found[part]["layer 2"]["knn"]) == {"k1", "k5", "k20"}
    # A patch's colour is its concept here.
    assert found["patches"]["colour"]["knn"]["k1"] == 1
    assert "patches" not in evaluate_probes(model, Painted(30), Painted(12, 30))


def test_photos_have_no_patches_to_probe(model):
    class Photos(Scenes):
        def __getitem__(self, index: int) -> Pair:
            pair = super().__getitem__(index)
            return Pair(pair.image, pair.captions, pair.image_id, pair.name)

    with pytest.raises(UserError, match="no object map"):
        evaluate_probes(model, Painted(30), Painted(12, 30), (Photos(30), Photos(12, 30)))


def test_impossible_wishes(model):
    with pytest.raises(UserError, match=r"layers=\[3\]: the image encoder has layers 0 \(embeddings\) to 2"):
        evaluate_probes(model, Painted(30), Painted(12, 30), layers=[3])
    other = Painted(12, 30)
    other.classes = ("dog", "cat")
    with pytest.raises(UserError, match="different classes"):
        evaluate_probes(model, Painted(30), other)
    with pytest.raises(UserError, match="in both the training and the test part"):
        evaluate_probes(model, Painted(30), Painted(12, 20))
