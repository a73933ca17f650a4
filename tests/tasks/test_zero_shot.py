"""Zero-shot classification: prompts that read well, ranks by hand and against a naive twin, ties that count against the model."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair
from semmim_mini.data.text import train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.retrieval import text_features
from semmim_mini.tasks.zero_shot import accuracies, average, class_features, encode_labelled, evaluate_zero_shot, fill, make_prompts, ranks

TEMPLATES = ("a {}", "see the {}")


# By hand --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "name", "prompt"),
    [
        ("a photo of a {}", "owl", "a photo of an owl"),
        ("a photo of a {}", "dog", "a photo of a dog"),
        ("a {}", "apple", "an apple"),
        ("a photo of the {}", "owl", "a photo of the owl"),
        ("{}", "owl", "owl"),
        ("umbrella {}", "owl", "umbrella owl"),  # only a word of its own is an article
        ("a photo of a {}", r"\1", r"a photo of a \1"),
    ],
)
def test_prompts(template, name, prompt):
    assert fill(template, name) == prompt


def test_ranks_and_accuracies_by_hand():
    classes = torch.eye(3)
    images = torch.tensor([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    rank = ranks(images, classes, torch.tensor([0, 1, 2, 2]))
    assert rank.tolist() == [1, 2, 3, 1]
    found = accuracies(rank, torch.tensor([0, 1, 2, 2]), n_classes=10)
    # Class 0 is always right, class 1 never, class 2 half of the time; the other seven have no picture and no say.
    assert found == {
        "top1": 0.5, "top5": 1.0, "per_class": 0.5, "chance_top1": 0.1, "chance_top5": 0.5, "majority": 0.5, "n": 4, "n_classes": 10,
    }  # fmt: skip


def test_the_mean_over_classes_does_not_follow_the_commonest():
    labels = torch.tensor([0] * 9 + [1])
    found = accuracies(torch.where(labels == 0, 1, 2), labels, 2)
    assert found["top1"] == found["majority"] == pytest.approx(0.9) and found["per_class"] == 0.5


def test_with_fewer_than_five_classes_top5_is_no_achievement():
    assert accuracies(torch.tensor([3]), torch.tensor([0]), 3)["chance_top5"] == 1


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_a_constant_model_and_a_broken_one_are_never_right(value):
    rank = ranks(torch.full((6, 4), value), torch.ones(6, 4), torch.arange(6))
    assert rank.tolist() == [6] * 6


@given(st.integers(1, 12), st.integers(2, 8), st.booleans(), st.integers(0, 99))
def test_ranks_equal_a_naive_twin(images, classes, coarse, seed):
    draw = torch.Generator().manual_seed(seed)
    pictures, weights = torch.randn(images, 3, generator=draw), torch.randn(classes, 3, generator=draw)
    if coarse:  # whole numbers: exact products and many ties
        pictures, weights = pictures.round(), weights.round()
    labels = torch.randint(classes, (images,), generator=draw)
    for picture, label, found in zip(pictures, labels.tolist(), ranks(pictures, weights, labels).tolist(), strict=True):
        scores = [(picture @ weight).item() for weight in weights]
        assert found == 1 + sum(score >= scores[label] - 1e-6 for i, score in enumerate(scores) if i != label)


def test_the_average_has_length_one_and_is_the_template_s_own_if_there_is_one():
    rows = torch.nn.functional.normalize(torch.randn(3, 5, 4), dim=-1)
    torch.testing.assert_close(average(rows).norm(dim=-1), torch.ones(5))
    torch.testing.assert_close(average(rows[:1]), rows[0])
    torch.testing.assert_close(average(torch.tensor([[[1.0, 0]], [[0, 1.0]]])), torch.full((1, 2), 0.5**0.5))


# With a model ---------------------------------------------------------------------------------------------------------


class Plain:
    """Pictures of one colour; the label is the colour."""

    name, templates = "plain colours", TEMPLATES

    def __init__(self, classes=("red", "green", "owl"), per_class: int = 4):
        self.classes, self.per_class = classes, per_class

    def __len__(self) -> int:
        return self.per_class * len(self.classes)

    def __getitem__(self, index: int) -> tuple[Pair, int]:
        label = range(len(self))[index] % len(self.classes)
        pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
        pixels[label % 3] = 255 - index
        return Pair(tv_tensors.Image(pixels), (self.classes[label],), index, f"picture {index}"), label


@pytest.fixture
def tokenizer():
    return train_wordpiece([fill(template, name) for template in TEMPLATES for name in Plain().classes], 60)


@pytest.fixture
def model(tiny, tokenizer):
    model = SemMIM(tiny("data.max_length=10"), len(tokenizer)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_class_features_are_those_of_the_prompts(model, tokenizer):
    features = class_features(model.student, tokenizer, ("red", "owl"), TEMPLATES, 10)
    assert features.shape == (2, 2, 10)
    own = text_features(model.student, tokenizer, ["a red", "an owl", "see the red", "see the owl"], 10)
    torch.testing.assert_close(features.flatten(0, 1), own)


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_features_and_labels_do_not_depend_on_the_blocks(model, batch):
    whole, labels = encode_labelled(model.student, Plain(), 16)
    found, same = encode_labelled(model.student, Plain(), 16, limit=7, batch=batch)
    torch.testing.assert_close(found, whole[:7])
    assert same.tolist() == labels[:7].tolist() == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation(model, tokenizer, training):
    model.train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = evaluate_zero_shot(model, tokenizer, Plain())
    assert model.training == training and all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert (found["n"], found["n_classes"], found["chance_top1"], found["majority"]) == (12, 3, 1 / 3, pytest.approx(1 / 3))
    assert tuple(found["top1_by_template"]) == TEMPLATES
    for template in TEMPLATES:
        alone = evaluate_zero_shot(model, tokenizer, Plain(), templates=(template,))
        assert alone["top1"] == found["top1_by_template"][template] == alone["top1_by_template"][template]


def test_a_model_that_knows_the_names_is_right(model, tokenizer, monkeypatch):
    """Text and image features that are the class itself: whatever order classes and templates run in, all is right."""
    from semmim_mini.tasks import zero_shot

    names = Plain().classes
    one_hot = torch.eye(3)
    monkeypatch.setattr(zero_shot, "text_features", lambda encoders, tokenizer, prompts, length: torch.stack(
        [one_hot[next(i for i, name in enumerate(names) if name in prompt)] for prompt in prompts]))  # fmt: skip
    monkeypatch.setattr(zero_shot, "image_features", lambda encoders, images: one_hot[images.mean(dim=(2, 3)).argmax(dim=1)])
    assert evaluate_zero_shot(model, tokenizer, Plain())["top1"] == 1
    monkeypatch.setattr(zero_shot, "image_features", lambda encoders, images: one_hot[images.mean(dim=(2, 3)).argmin(dim=1)])
    assert evaluate_zero_shot(model, tokenizer, Plain())["top1"] == 0


def test_what_cannot_be_classified(model, tokenizer):
    with pytest.raises(UserError, match="fewer than 2"):
        evaluate_zero_shot(model, tokenizer, Plain(classes=("red",)))
    with pytest.raises(UserError, match=r"exactly one \{\}"):
        evaluate_zero_shot(model, tokenizer, Plain(), templates=("a photo",))
    with pytest.raises(UserError, match="at least one template"):
        evaluate_zero_shot(model, tokenizer, Plain(), templates=())
    with pytest.raises(UserError, match=r"'see the [a-z]+' has [0-9]+ tokens, more than data.max_length=4"):
        make_prompts(Plain().classes, TEMPLATES, tokenizer, 4)
    model.train()
    with pytest.raises(UserError):
        evaluate_zero_shot(model, tokenizer, Plain(), templates=("see " * 20 + "{}",))
    assert model.training
