"""Captioning: captions in the order of the images, references that know nothing, and a results file."""

import json

import pytest
import torch
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair
from semmim_mini.data.text import train_wordpiece
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.tasks import captioning
from semmim_mini.tasks.caption_scores import score_captions
from semmim_mini.tasks.captioning import best_constant, caption_images, compare, evaluate_captioning, shuffled
from semmim_mini.tasks.decoding import Decoding, generate

TEXTS = [
    ("a red dog runs", "the dog is red"),
    ("a blue bus on the road",),
    ("two cats on a mat", "cats sleep", "a mat with two cats"),
    ("a red bus on the road", "a bus"),
    ("the sun over a road",),
]


class FivePairs:
    """Pictures of 16 px with one to three captions."""

    name = "five pairs"

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Pair:
        pixels = torch.randint(256, (3, 16, 16), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        return Pair(tv_tensors.Image(pixels), TEXTS[index], image_id=100 + index, name=f"pair {index}")

    def captions(self, index: int) -> tuple[str, ...]:
        return TEXTS[index]


REFERENCES = {100 + i: list(texts) for i, texts in enumerate(TEXTS)}


@pytest.fixture
def tokenizer():
    return train_wordpiece([caption for texts in TEXTS for caption in texts], 120)


@pytest.fixture
def model(tiny, tokenizer):
    from semmim_mini.model.semmim import SemMIM

    model = SemMIM(tiny("data.max_length=10", "text.dropout=0.1"), len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def pixels_of(pairs) -> torch.Tensor:
    return torch.stack([CenterView(16)(pairs[i]).pixels for i in range(len(pairs))])


# Captions ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("training", [True, False])
def test_captions_come_in_the_order_of_the_images(model, tokenizer, batch, training):
    images, decoding = pixels_of(FivePairs()), Decoding(max_length=10)
    found = caption_images(model.train(training), tokenizer, images, decoding, batch=batch)
    assert model.training is training and model.decoder.training is training and not model.teacher.training
    with torch.no_grad():
        tokens = model.eval().student.image(images)  # clean, the student's, without any text
    assert found == generate(model.decoder, tokens, tokenizer, decoding).texts
    assert len(set(found)) > 1


def test_the_length_is_the_models_unless_said_otherwise(model, tokenizer):
    images = pixels_of(FivePairs())
    assert caption_images(model, tokenizer, images) == caption_images(model, tokenizer, images, Decoding(max_length=10))
    assert caption_images(model, tokenizer, images[:0]) == []


# References that know nothing -------------------------------------------------------------------------------------------


def test_each_image_gets_the_caption_of_the_one_before():
    assert shuffled({7: "a", 3: "b", 9: "c"}) == {7: "c", 3: "a", 9: "b"}


def test_the_constant_is_the_best_of_all_references():
    found = best_constant(REFERENCES)
    every = {text: score_captions(dict.fromkeys(REFERENCES, text), REFERENCES)["cider"] for texts in TEXTS for text in texts}
    assert found["cider"] == max(every.values()) and every[found["caption"]] == max(every.values())


def test_the_constant_is_near_the_best_where_only_a_few_are_tried(monkeypatch):
    monkeypatch.setattr(captioning, "CANDIDATES", 3)
    every = sorted(score_captions(dict.fromkeys(REFERENCES, text), REFERENCES)["cider"] for texts in TEXTS for text in texts)
    assert best_constant(REFERENCES)["cider"] > every[len(every) // 2]


def test_a_model_that_looks_stands_above_both():
    found = compare({image: texts[0] for image, texts in REFERENCES.items()}, REFERENCES)
    assert found["scores"]["cider"] > 2 * max(found["shuffled"]["cider"], found["constant"]["cider"])
    assert found["distinct"] == 1.0 and (found["n_images"], found["n_references"]) == (5, 9)
    assert found["mean_words"] == pytest.approx((4 + 6 + 5 + 6 + 5) / 5)
    assert found["mean_words_references"] == pytest.approx((4 + 4 + 6 + 5 + 2 + 5 + 6 + 2 + 5) / 9)


def test_a_model_that_says_one_thing_equals_its_shuffle():
    found = compare(dict.fromkeys(REFERENCES, "a bus on the road"), REFERENCES)
    assert found["scores"] == found["shuffled"] and found["distinct"] == 0.2


# With a model -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [2, 64])
def test_evaluation_scores_every_caption_against_its_references(model, tokenizer, tmp_path, batch):
    before = {name: x.clone() for name, x in model.state_dict().items()}
    file = tmp_path / "results.json"
    found = evaluate_captioning(model, tokenizer, FivePairs(), limit=4, results=file, batch=batch)
    captions = dict(zip(range(100, 104), caption_images(model, tokenizer, pixels_of(FivePairs())[:4]), strict=True))
    assert {entry["image_id"]: entry["caption"] for entry in json.loads(file.read_text())} == captions
    references = {image: REFERENCES[image] for image in captions}
    assert found == compare(captions, references) | {"pairs": "five pairs", "decoding": found["decoding"]}
    assert found["decoding"]["max_length"] == 10 and (found["n_images"], found["n_references"]) == (4, 8)
    assert set(found["scores"]) == set(found["shuffled"]) == set(found["constant"]) - {"caption"}
    json.dumps(found)
    assert all(torch.equal(x, before[name]) for name, x in model.state_dict().items())


def test_errors_come_before_the_work(model, tiny, tokenizer, monkeypatch):
    from semmim_mini.model.semmim import SemMIM

    bare = SemMIM(tiny("losses.caption.weight=0"), len(tokenizer))
    for ask in (
        lambda: evaluate_captioning(bare, tokenizer, FivePairs()),
        lambda: caption_images(bare, tokenizer, torch.zeros(1, 3, 16, 16)),
    ):
        with pytest.raises(UserError, match=r"no caption decoder.*losses\.caption\.weight above 0.*semmim-mini finetune captioning"):
            ask()
    with pytest.raises(UserError, match="captions of 1 image cannot be scored"):
        evaluate_captioning(model, tokenizer, FivePairs(), limit=1)
