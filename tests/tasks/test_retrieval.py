"""Retrieval: recalls against a naive twin, ties that count against the model, and features in the captions' order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair
from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.data.views import CenterView
from semmim_mini.tasks.retrieval import encode_pairs, evaluate_retrieval, recalls, text_features


def naive_recalls(queries, keys, query_ids, key_ids) -> dict[str, float]:
    """Rank every right answer behind all wrong ones of at least its score; the best right one counts."""
    ranks = []
    for query, own in zip(queries, query_ids.tolist(), strict=True):
        scores = [(query @ key).item() for key in keys]
        right = [score for score, other in zip(scores, key_ids.tolist(), strict=True) if other == own]
        wrong = [score for score, other in zip(scores, key_ids.tolist(), strict=True) if other != own]
        ranks.append(1 + min(sum(w >= r for w in wrong) for r in right) if right else 1 + len(wrong))
    found = {f"r{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
    return found | {"median_rank": sorted(ranks)[(len(ranks) - 1) // 2]}


def test_by_hand():
    # Query 0 is nearest to its own key. Query 1 finds one wrong key before its own.
    queries, keys = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    found = recalls(queries, keys, torch.tensor([7, 9]), torch.tensor([7, 9]))
    assert found == {"r1": 0.5, "r5": 1.0, "r10": 1.0, "median_rank": 1.0}


def test_any_of_several_captions_is_right():
    # Captions 1 and 2 belong to image 5; the second of them is nearest of all.
    keys = torch.tensor([[0.9, 0.0], [0.1, 0.0], [1.0, 0.0]])
    found = recalls(torch.tensor([[1.0, 0.0]]), keys, torch.tensor([5]), torch.tensor([4, 5, 5]))
    assert found["r1"] == 1.0


def test_own_captions_do_not_push_each_other_down():
    # Five captions tie for the first place; all are right, so the rank is 1.
    found = recalls(torch.ones(1, 2), torch.ones(5, 2), torch.tensor([3]), torch.full((5,), 3))
    assert found["r1"] == 1.0 and found["median_rank"] == 1


def test_a_constant_model_is_never_right():
    found = recalls(torch.ones(20, 4), torch.ones(20, 4), torch.arange(20), torch.arange(20))
    assert found == {"r1": 0.0, "r5": 0.0, "r10": 0.0, "median_rank": 20.0}


def test_a_model_of_nan_is_never_right():
    broken = torch.full((20, 4), float("nan"))
    assert recalls(broken, torch.ones(20, 4), torch.arange(20), torch.arange(20))["r10"] == 0
    assert recalls(torch.ones(20, 4), broken, torch.arange(20), torch.arange(20))["r10"] == 0


@given(st.integers(1, 25), st.integers(1, 25), st.integers(1, 12), st.booleans(), st.integers(0, 99), st.integers(1, 30))
def test_equals_the_naive_twin_in_blocks_of_any_size(q, s, kinds, coarse, seed, block):
    draw = torch.Generator().manual_seed(seed)
    queries, keys = torch.randn(q, 3, generator=draw), torch.randn(s, 3, generator=draw)
    if coarse:  # whole numbers: exact products and many ties
        queries, keys = queries.round(), keys.round()
    query_ids, key_ids = torch.randint(kinds, (q,), generator=draw), torch.randint(kinds, (s,), generator=draw)
    found = recalls(queries, keys, query_ids, key_ids, block)
    assert found == pytest.approx(naive_recalls(queries, keys, query_ids, key_ids))


# With a model ---------------------------------------------------------------------------------------------------------


class FivePairs:
    """Pictures of 16 px, each with as many captions as its number says, of different lengths."""

    name = "five pairs"

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Pair:
        pixels = torch.randint(256, (3, 16, 16), generator=torch.Generator().manual_seed(index), dtype=torch.uint8)
        return Pair(tv_tensors.Image(pixels), self.captions(index), image_id=100 + index, name=f"pair {index}")

    def captions(self, index: int) -> tuple[str, ...]:
        return tuple(" ".join(["red", "dog", "bus", "sun", "cat"][index:] * (i + 1)) for i in range(index + 1))


@pytest.fixture
def tokenizer():
    pairs = FivePairs()
    return train_wordpiece([caption for i in range(5) for caption in pairs.captions(i)], 40)


@pytest.fixture
def model(tiny, tokenizer):
    from semmim_mini.model.semmim import SemMIM

    model = SemMIM(tiny(), len(tokenizer)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def test_text_features_keep_the_order_of_the_captions(model, tokenizer):
    captions = ["red dog bus sun cat red dog", "cat", "dog bus sun", "sun"]
    together = text_features(model.student, tokenizer, captions, 8, batch=2)
    for caption, feature in zip(captions, together, strict=True):
        ids, words = tokenize(tokenizer, [caption], 8)
        torch.testing.assert_close(feature, model.student.project_text(model.student.text(ids, words)[:, 0])[0].detach())


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_every_image_comes_with_all_its_captions(model, tokenizer, batch):
    pairs = FivePairs()
    found = encode_pairs(model.student, tokenizer, pairs, 16, 8, batch=batch)
    assert found["image_ids"].tolist() == [100, 101, 102, 103, 104]
    assert found["text_ids"].tolist() == [100 + i for i in range(5) for _ in range(i + 1)]
    view = CenterView(16)(pairs[3])[0]
    torch.testing.assert_close(found["image"][3], model.student.project_image(model.student.image(view[None])[:, 0])[0].detach())
    assert encode_pairs(model.student, tokenizer, pairs, 16, 8, limit=2)["text_ids"].tolist() == [100, 101, 101]


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_reports_both_directions_and_leaves_the_model_as_it_was(model, tokenizer, training):
    model.train(training)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    found = evaluate_retrieval(model, tokenizer, FivePairs(), limit=4)
    assert model.training == training and all(torch.equal(x, before[name]) for name, x in model.state_dict().items())
    assert (found["n_images"], found["n_texts"], found["chance_r1"]) == (4, 10, 0.25)
    for direction in ("image_to_text", "text_to_image"):
        assert 0 <= found[direction]["r1"] <= found[direction]["r5"] <= found[direction]["r10"] <= 1
