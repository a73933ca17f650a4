"""Retrieval: recalls against a naive twin, ties that count against the model, and features in the captions' order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from semmim_mini.data.pairs import Pair
from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.tasks.reranking import Reranker
from semmim_mini.tasks.retrieval import chance, encode_pairs, evaluate_retrieval, ranks, recalls, text_features


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


# Chance, folds and re-ranking -----------------------------------------------------------------------------------------


def test_chance_by_hand():
    # One right among four: a quarter, always among the first five; half of the orders have it in the first two places.
    assert chance([1, 1], 4) == pytest.approx({"r1": 0.25, "r5": 1.0, "r10": 1.0, "median_rank": 2.0})
    # Two right among four: 1/2 at first; only one order in six of (wrong, wrong) comes without one in two.
    assert chance([2], 4)["r1"] == pytest.approx(0.5)


def test_chance_is_what_random_features_give():
    torch.manual_seed(0)
    own = [1, 2, 5, 5, 1, 3]
    ids = torch.tensor([i for i, count in enumerate(own) for _ in range(count)])
    found = [recalls(torch.randn(6, 8), torch.randn(17, 8), torch.arange(6), ids) for _ in range(500)]
    for k in ("r1", "r5", "r10"):
        assert sum(x[k] for x in found) / 500 == pytest.approx(chance(own, 17)[k], abs=0.03)


def test_folds_are_galleries_of_their_own(model, tokenizer):
    pairs = FivePairs()
    found = evaluate_retrieval(model, tokenizer, pairs, fold=2, rerank=3)

    class Part:
        name = "part"

        def __init__(self, first):
            self.first = first

        def __len__(self):
            return 2

        def __getitem__(self, i):
            return pairs[self.first + i]

    parts = [evaluate_retrieval(model, tokenizer, Part(first), rerank=3) for first in (0, 2)]  # image 4 is left over
    assert found["folds"] == 2 and found["n_images"] == 2 and found["n_texts"] == (3 + 7) / 2
    for way in ("image_to_text", "text_to_image"):
        for place in (lambda x: x, lambda x: x["reranked"], lambda x: x["reranked"]["by_match_alone"], lambda x: x["chance"]):
            expected = {key: (place(parts[0])[way][key] + place(parts[1])[way][key]) / 2 for key in ("r1", "r5", "median_rank")}
            assert {key: place(found)[way][key] for key in expected} == pytest.approx(expected)


def match_alone(monkeypatch, odds):
    """Let ITM say `odds[image, text]` of every pair."""
    monkeypatch.setattr(Reranker, "match", lambda self, image, text: odds[image, text])


OWN = torch.tensor([i for i in range(5) for _ in range(i + 1)])  # FivePairs: the image of each caption


def test_a_perfect_matcher_is_right_wherever_a_right_answer_is_a_candidate(model, tokenizer, monkeypatch):
    match_alone(monkeypatch, 1e4 * (torch.arange(5)[:, None] == OWN).float())
    found = evaluate_retrieval(model, tokenizer, FivePairs(), rerank=2)
    sides = encode_pairs(model.student, tokenizer, FivePairs(), 16, 8)
    before = ranks(sides["text"], sides["image"], sides["text_ids"], sides["image_ids"])
    assert 0 < (before <= 2).float().mean() < 1  # or nothing is tested here
    assert found["text_to_image"]["r1"] == (before <= 1).float().mean()
    assert found["reranked"]["text_to_image"]["r1"] == (before <= 2).float().mean()
    everything = evaluate_retrieval(model, tokenizer, FivePairs(), rerank=99)["reranked"]
    assert everything["image_to_text"]["r1"] == everything["text_to_image"]["r1"] == 1 and everything["pairs"] == 75


def test_with_everything_a_candidate_match_alone_is_the_full_ranking(model, tokenizer, monkeypatch):
    odds = torch.randn(5, 15)
    match_alone(monkeypatch, odds)
    found = evaluate_retrieval(model, tokenizer, FivePairs(), rerank=15)["reranked"]["by_match_alone"]
    eye = torch.eye(15)  # similarities are the odds themselves
    assert found["image_to_text"] == recalls(odds, eye, torch.arange(5), OWN)
    assert found["text_to_image"] == recalls(odds.T, eye[:5, :5], OWN, torch.arange(5))


def test_the_new_order_is_log_odds_plus_the_itc_logit(model, tokenizer, monkeypatch):
    match_alone(monkeypatch, torch.zeros(5, 15))  # a matcher that knows nothing leaves ITC's order as it was
    found = evaluate_retrieval(model, tokenizer, FivePairs(), rerank=15)
    for way in ("image_to_text", "text_to_image"):
        assert found["reranked"][way] == found[way]
    assert found["reranked"]["by_match_alone"]["text_to_image"]["r1"] == 0  # all tie


def test_wrong_numbers_are_refused_before_any_work(model, tokenizer):
    with pytest.raises(UserError, match="fold=6"):
        evaluate_retrieval(model, tokenizer, FivePairs(), fold=6)
    with pytest.raises(UserError, match="rerank=-1"):
        evaluate_retrieval(model, tokenizer, FivePairs(), rerank=-1)
