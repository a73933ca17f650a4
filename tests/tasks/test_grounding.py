"""Word → region: scores by hand and against a naive twin, ties that count against the map, Grad-CAM against finite differences."""

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.pairs import Mention, Pair, SceneObject, SceneTruth
from semmim_mini.data.scenes import SceneDataset
from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.instruments.held_out import held_out_batches
from semmim_mini.model.semmim import SemMIM
from semmim_mini.model.text_encoder import listening
from semmim_mini.tasks import grounding
from semmim_mini.tasks.grounding import (
    Scores,
    best_row,
    centre_score,
    content,
    evaluate_grounding,
    gradcam,
    of_words,
    random_score,
    score,
    score_batches,
    word_maps,
    words_of,
)

# Scores ---------------------------------------------------------------------------------------------------------------


def scored(values, target) -> tuple[float, float]:
    pointing, iou = score(torch.tensor([values]), torch.tensor([target]).bool())
    return pointing.item(), iou.item()


@pytest.mark.parametrize(
    ("values", "target", "expected"),
    [
        ([0.9, 0.1, 0.2, 0.3], [1, 0, 0, 0], (1, 1)),
        ([0.1, 0.9, 0.2, 0.3], [1, 0, 0, 0], (0, 0)),
        ([0.9, 0.8, 0.1, 0.3], [1, 0, 0, 1], (1, 1 / 3)),  # the two highest are 0 and 1, the mask 0 and 3: one of three
        ([0.8, 0.9, 0.1, 0.3], [1, 0, 0, 1], (0, 1 / 3)),
        ([1.0, 0.0, 0.0, 1.0], [1, 0, 0, 1], (1, 1)),  # ties on the object do no harm
        ([1.0, 1.0, 0.0, 0.0], [1, 0, 0, 0], (0, 0)),  # one patch off it reaches the maximum, too
        ([5.0, 5.0, 5.0, 5.0], [1, 0, 0, 0], (0, 0)),
        ([5.0, 5.0, 5.0, 5.0], [1, 1, 0, 1], (0, 0.5)),  # three of four drawn, the wrong one first: two of four
        ([float("nan")] * 4, [1, 1, 0, 1], (0, 0.5)),
        ([float("nan"), 0.1, 0.2, 0.3], [1, 0, 0, 0], (0, 0)),
        ([-0.2, -0.9, -0.8, -0.7], [1, 0, 0, 0], (1, 1)),  # cosines may be negative
    ],
)
def test_scores_by_hand(values, target, expected):
    assert scored(values, target) == pytest.approx(expected)


def naive(values, target) -> tuple[float, float]:
    on, off = ([v for v, t in zip(values, target, strict=True) if t == kind] for kind in (True, False))
    m = sum(target)
    drawn = sorted(range(len(values)), key=lambda i: (-values[i], target[i]))[:m]
    both = sum(target[i] for i in drawn)
    return float(not off or max(on) > max(off)), both / (2 * m - both)


@given(st.integers(1, 12), st.integers(1, 3), st.integers(0, 999))
def test_scores_equal_a_naive_twin(n, coarse, seed):
    draw = torch.Generator().manual_seed(seed)
    maps, target = torch.randint(-coarse, coarse + 1, (2, 3, 4, n), generator=draw).float(), torch.rand(4, n, generator=draw) < 0.5
    target[:, 0] = True
    pointing, iou = score(maps, target)
    assert pointing.shape == iou.shape == (2, 3, 4)
    for layer, head, w in torch.cartesian_prod(*(torch.arange(x) for x in (2, 3, 4))).tolist():
        expected = naive(maps[layer, head, w].tolist(), target[w].tolist())
        assert (pointing[layer, head, w].item(), iou[layer, head, w].item()) == pytest.approx(expected)


def test_chance_by_hand():
    target, everywhere = torch.tensor([[1, 0, 0, 0]]).bool(), torch.ones(1, 4).bool()
    assert random_score(target, everywhere) == pytest.approx({"pointing": 1 / 4, "iou": 1 / 4})
    # Two of four: none in common 1/6, one 4/6 (IoU 1/3), both 1/6 (IoU 1).
    assert random_score(torch.tensor([[1, 0, 0, 1]]).bool(), everywhere) == pytest.approx({"pointing": 1 / 2, "iou": 4 / 18 + 1 / 6})
    # Of the three patches that show anything, one is named.
    assert random_score(target, torch.tensor([[1, 1, 1, 0]]).bool()) == pytest.approx({"pointing": 1 / 3, "iou": 1 / 3})
    assert random_score(everywhere, everywhere) == pytest.approx({"pointing": 1, "iou": 1})


def test_chance_is_what_random_maps_reach():
    draw = torch.Generator().manual_seed(0)
    target = torch.rand(5, 16, generator=draw) < 0.3
    target[:, 0] = True
    pointing, iou = score(torch.rand(2000, 5, 16, generator=draw), target)
    expected = random_score(target, torch.ones_like(target))
    assert pointing.mean().item() == pytest.approx(expected["pointing"], abs=0.015)
    assert iou.mean().item() == pytest.approx(expected["iou"], abs=0.01)


def test_the_centre_by_hand():
    middle = torch.zeros(1, 9).bool()
    middle[0, 4] = True
    assert centre_score(middle) == {"pointing": 1, "iou": 1}
    assert centre_score(~middle)["pointing"] == 0
    # Two patches a side have no middle; the lower right one stands for it.
    assert [centre_score(row[None])["pointing"] for row in torch.eye(4).bool()] == [0, 0, 0, 1]


def test_the_best_is_chosen_on_one_half_and_reported_on_the_other():
    """Head 1 wins where it is chosen and loses where it is reported; head 2 the other way round."""
    chooses = torch.tensor([True, True, False, False])
    pointing = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]]])
    scores = Scores({"x": pointing}, {"x": pointing / 2}, {"x": torch.ones(1, 3, 4)}, *[torch.ones(4, 1).bool()] * 2, chooses, 0)
    rows = scores.rows("x")
    assert [row["head"] for row in rows] == [1, 2, "mean"]
    assert best_row(rows) == {
        "map": "x", "layer": 1, "head": 1, "validation_pointing": 1, "pointing": 0, "validation_iou": 0.5, "iou": 0, "on_any_object": 1,
    }  # fmt: skip
    assert best_row([row | {"validation_pointing": 0} for row in rows])["head"] == 1  # by IoU where pointing is equal


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "start", "end", "kept"),
    [
        ("see a red dog run", 4, 13, "red dog"),
        ("three dogs", 0, 10, "dogs"),
        ("The dog", 0, 7, "dog"),
        ("dogs", 0, 4, "dogs"),
        ("an a", 0, 2, "an"),  # nothing but an article: kept, there is no other word
        ("another dog", 0, 11, "another dog"),
    ],
)
def test_articles_and_numbers_are_left_out(caption, start, end, kept):
    first, last = content(caption, Mention((0,), start, end))
    assert caption[first:last] == kept


class Painted:
    """Scene i: a dog in patch i mod 4, a cat in the next; the one caption names both, the other the cat alone."""

    name = "painted"

    def __init__(self, size: int = 12, captions=("a red dog and a cat", "there is a cat"), truth: bool = True):
        self.size, self._captions, self.truth = size, captions, truth

    def __len__(self) -> int:
        return self.size

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions

    def __getitem__(self, index: int) -> Pair:
        owner = torch.zeros(4, dtype=torch.long)
        owner[index % 4], owner[(index + 1) % 4] = 1, 2
        owner = owner.reshape(2, 2).repeat_interleave(8, 0).repeat_interleave(8, 1)
        colors = torch.tensor([(30, 160, 50), (220, 30, 30), (40, 60, 200 + index % 50)], dtype=torch.uint8)
        objects = tuple(SceneObject(name, "animal", ("red",), f"{name}_0", (0, 0, 1, 1)) for name in ("dog", "cat"))
        places = [(c.find(words), words, i) for c in self._captions for i, words in enumerate(("a red dog", "a cat")) if words in c]
        mentions = [
            tuple(Mention((i,), at, at + len(words)) for at, words, i in places if c[at : at + len(words)] == words) for c in self._captions
        ]
        truth = SceneTruth(tv_tensors.Mask(owner[None].to(torch.uint8)), objects, tuple(mentions)) if self.truth else None
        return Pair(tv_tensors.Image(colors[owner].permute(2, 0, 1)), self._captions, index, f"painted {index}", truth)


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(Painted().captions(0), 60)


@pytest.fixture
def make(tiny, tokenizer):
    """`make(…)`: a model whose attention is far from even."""

    def make(*settings: str) -> SemMIM:
        torch.manual_seed(0)
        model = SemMIM(tiny("text.fusion_depth=2", "text.decoder_depth=2", "data.max_length=10", *settings), len(tokenizer)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return model

    return make


def look(tokenizer, pairs, batch: int = 64, max_length: int = 10):
    return list(held_out_batches(pairs, tokenizer, resolution=16, max_length=max_length, count=len(pairs), batch=batch))


def test_words_of_painted_scenes(tokenizer):
    (batch,) = look(tokenizer, Painted(3))
    words = words_of(batch, tokenizer, 8, 10)
    assert words.phrases == ["a red dog", "a cat", "a cat", "a red dog", "a cat"]
    assert words.rows.tolist() == [0, 0, 1, 2, 2] and words.places == [0, 1, 0, 0, 1] and words.left_out == 0
    assert words.target.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert words.objects.sum(dim=1).tolist() == [2] * 5
    read = [tokenizer.decode(batch.input_ids[row][mask]) for row, mask in zip(words.rows, words.tokens, strict=True)]
    assert read == ["red dog", "cat", "cat", "red dog", "cat"]


def test_words_beyond_the_caption_s_length_and_unseen_things_are_left_out(tokenizer):
    (batch,) = look(tokenizer, Painted(1), max_length=5)  # [CLS] a red dog [SEP]
    words = words_of(batch, tokenizer, 8, 5)
    assert words.phrases == ["a red dog"] and words.left_out == 1
    batch.object_maps[0] = torch.zeros_like(batch.object_maps[0])
    assert len(words_of(batch, tokenizer, 8, 5)) == 0


def test_words_of_composed_scenes_name_what_is_there():
    scenes = SceneDataset("test", size=12, resolution=32)
    tokenizer = train_wordpiece([caption for i in range(12) for caption in scenes.captions(i)], 400)
    (batch,) = list(held_out_batches(scenes, tokenizer, resolution=32, max_length=24, count=12))
    words = words_of(batch, tokenizer, 8, 24)
    assert len(words) + words.left_out == sum(len(p.truth.mentions[c]) for p, c in zip(batch.pairs, batch.chosen, strict=True))
    assert (words.target & ~words.objects).sum() == 0 and words.target.any(dim=1).all() and words.tokens.any(dim=1).all()
    assert not words.tokens[:, 0].any() and not (words.tokens & ~batch.attention_mask[words.rows]).any()


# Maps -----------------------------------------------------------------------------------------------------------------


def test_the_map_of_a_phrase_is_the_mean_of_its_tokens_and_the_last_head_the_mean_of_all(tokenizer):
    (batch,) = look(tokenizer, Painted(2))
    words, weights = words_of(batch, tokenizer, 8, 10), torch.rand(3, 2, 4, batch.input_ids.shape[1], 5)
    maps = of_words(weights, words)
    assert maps.shape == (3, 5, 3, 5)
    # "[CLS] a red dog and a cat [SEP]": the dog's words stand at 2 and 3, the cat at 6.
    torch.testing.assert_close(maps[:, :4, 0], weights[:, 0, :, 2:4].mean(dim=2))
    torch.testing.assert_close(maps[:, :4, 1], weights[:, 0, :, 6])
    torch.testing.assert_close(maps[:, 4], maps[:, :4].mean(dim=1))


def inputs(model, tokenizer):
    ids, words = tokenize(tokenizer, ["a red dog and a cat", "there is a cat"], 10)
    with torch.no_grad():
        return model.student.text(ids, words), words, model.student.image(torch.randn(2, 3, 16, 16))


def test_gradcam_equals_attention_times_finite_differences(make, tokenizer):
    """One attention weight after the other is made a little larger and smaller; how much surer of a match does that make the model?"""
    model = make()
    text, words, image = (x.double() if x.is_floating_point() else x for x in inputs(model, tokenizer))
    model.double()
    found = gradcam(model, text, words, image)
    with torch.no_grad(), listening(model.fusion, model.fusion.encoder) as heard:
        model.fusion(text, words, image)
    values = model.fusion.image_map(image).detach()
    heads, slopes = model.config.text.heads, []
    for b, head, token, patch in [(0, 0, 0, 1), (0, 1, 2, 0), (0, 0, 6, 3), (1, 1, 4, 2), (1, 0, 1, 0), (0, 1, 3, 3)]:
        attention = model.fusion.encoder.layer[0].crossattention.self
        value = rearrange(attention.value(values).detach(), "b s (h c) -> b h s c", h=heads)[b, head, 1 + patch]

        def logit(step, attention=attention, b=b, head=head, token=token, value=value):
            def bump(module, args, output):
                mixed = rearrange(output[0].clone(), "b l (h c) -> b l h c", h=heads)
                mixed[b, token, head] += step * value
                return rearrange(mixed, "b l h c -> b l (h c)"), *output[1:]

            hook = attention.register_forward_hook(bump)
            try:
                return model.itm_head(model.fusion(text, words, image)[b, 0])[1].item()
            finally:
                hook.remove()

        slope = (logit(1e-5) - logit(-1e-5)) / 2e-5
        slopes.append(slope)
        expected = heard[0][b, head, token, 1 + patch].item() * max(slope, 0)
        assert found[0, b, head, token, patch].item() == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert min(slopes) < -1e-6 and max(slopes) > 1e-6  # both kinds were met


def test_the_last_layer_s_words_do_not_reach_the_logit(make, tokenizer):
    found = gradcam(make(), *inputs(make(), tokenizer))
    assert found[1, :, :, 1:].abs().sum() == 0 and found[1, :, :, 0].abs().sum() > 0 and found[0, :, :, 1:].abs().sum() > 0
    assert (found >= 0).all() and found.shape == (2, 2, 2, inputs(make(), tokenizer)[0].shape[1], 4)


def test_gradcam_works_where_gradients_are_off_and_leaves_none_behind(make, tokenizer):
    model, frozen = make(), make()
    frozen.requires_grad_(False)
    seen = inputs(model, tokenizer)
    with torch.no_grad():
        one = gradcam(model, *seen)
    torch.testing.assert_close(gradcam(frozen, *seen), one)
    assert not one.requires_grad and all(parameter.grad is None for parameter in model.parameters())
    assert all(len(layer.crossattention.self._forward_hooks) == 0 for layer in model.fusion.encoder.layer)


def test_every_map_against_its_definition(make, tokenizer):
    model, (batch,) = make(), look(tokenizer, Painted(3))
    words = words_of(batch, tokenizer, 8, 10)
    maps = word_maps(model, tokenizer, batch, words)
    shapes = {name: tuple(x.shape) for name, x in maps.items()}
    several, one = (2, 3, 5, 4), (1, 1, 5, 4)
    assert shapes == {
        "fusion": several,
        "gradcam": several,
        "decoder_reads": several,
        "decoder_writes": several,
        "phrase": one,
        "words": one,
    }
    with torch.no_grad():
        image, text = model.student.image(batch.images[0]), model.student.text(batch.input_ids, batch.attention_mask)
        written = model.decoder.attention_to_patches(batch.input_ids, batch.attention_mask, image)
        fused = model.fusion.attention_to_patches(text, batch.attention_mask, image)
        # Word 4 is the cat of scene 2: "[CLS] a red dog and a cat", read at 6 and written at 5.
        torch.testing.assert_close(maps["fusion"][:, :2, 4], fused[:, 2, :, 6])
        torch.testing.assert_close(maps["decoder_reads"][:, :2, 4], written[:, 2, :, 6])
        torch.testing.assert_close(maps["decoder_writes"][:, :2, 4], written[:, 2, :, 5])
        patches = model.student.project_image(image[2, 1:])
        torch.testing.assert_close(maps["words"][0, 0, 4], patches @ model.student.project_text(text[2, 6]))
        ids, real = tokenize(tokenizer, ["a cat"], 10)
        torch.testing.assert_close(maps["phrase"][0, 0, 4], patches @ model.student.project_text(model.student.text(ids, real)[0, 0]))


def test_without_a_decoder_its_maps_are_left_out(make, tokenizer):
    model, (batch,) = make("losses.caption.weight=0"), look(tokenizer, Painted(3))
    assert set(word_maps(model, tokenizer, batch, words_of(batch, tokenizer, 8, 10))) == {"fusion", "gradcam", "phrase", "words"}


# The evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_evaluation(make, tokenizer, training):
    model = make().train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = evaluate_grounding(model, tokenizer, Painted(12), limit=10)
    assert model.training == training and all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    # Even scenes read the caption that names both and choose; odd ones name the cat and report.
    assert (found["n_scenes"], found["n_validation"], found["n"], found["n_left_out"]) == (10, 10, 5, 0)
    assert found["chance"] == {"pointing": 0.25, "iou": 0.25} and found["any_object"] == {"pointing": 0.5, "iou": 0.5}
    assert found["best"]["validation_pointing"] == max(row["validation_pointing"] for m in found["maps"].values() for row in m["table"])
    assert [len(found["maps"][name]["table"]) for name in ("fusion", "gradcam", "phrase")] == [6, 6, 1]


def test_the_scores_do_not_depend_on_the_batches(make, tokenizer):
    model = make()
    one, other = (score_batches(model, tokenizer, look(tokenizer, Painted(9), batch)) for batch in (64, 4))
    assert torch.equal(one.target, other.target) and torch.equal(one.chooses, other.chooses)
    for name in one.iou:
        torch.testing.assert_close(one.iou[name], other.iou[name])


@pytest.mark.parametrize(("give", "expected"), [("target", 1.0), ("objects", 0.0), ("nothing", 0.0)])
def test_perfect_blind_and_constant_maps(make, tokenizer, monkeypatch, give, expected):
    """A map that shines on all objects alike finds things, but none that was named; here each tie is one patch off the object."""

    def maps(model, tokenizer, batch, words):
        return {"x": {"target": words.target, "objects": words.objects, "nothing": words.target & False}[give].float()[None, None]}

    monkeypatch.setattr(grounding, "word_maps", maps)
    best = evaluate_grounding(make(), tokenizer, Painted(12))["best"]
    assert (best["pointing"], best["iou"]) == (expected, expected)
    assert best["on_any_object"] == (0 if give == "nothing" else 1)


def test_what_cannot_be_grounded(make, tokenizer):
    model = make().train()
    with pytest.raises(UserError, match="composed scenes only"):
        evaluate_grounding(model, tokenizer, Painted(4, truth=False))
    with pytest.raises(UserError, match="captions name 0 visible objects"):
        evaluate_grounding(model, tokenizer, Painted(4, captions=("there is",)))
    with pytest.raises(UserError, match="use more scenes"):
        evaluate_grounding(model, tokenizer, Painted(1))
    (batch,) = look(tokenizer, Painted(2))
    batch.object_maps[1] = None
    with pytest.raises(UserError, match="painted 1 has no object map"):
        words_of(batch, tokenizer, 8, 10)
    assert model.training
