"""Re-ranking: candidates and ranks against naive twins, pairs read once, and images read with all their texts at once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_retrieval import FivePairs, model, tokenizer  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode

from semmim_mini.errors import UserError
from semmim_mini.tasks.reranking import Candidates, Reranker, Shelf, match_odds, nearest, one_image, pairs_of_both, reranked
from semmim_mini.tasks.retrieval import encode_pairs, ranks

NAN = float("nan")


def test_candidates_by_hand():
    keys = torch.tensor([[0.1], [0.9], [-0.5], [0.3]])
    found = nearest(torch.tensor([[1.0], [-1.0]]), keys, torch.tensor([7, 8]), torch.tensor([5, 7, 8, 9]), 2)
    assert found.index.tolist() == [[1, 3], [2, 0]]
    torch.testing.assert_close(found.similarity, torch.tensor([[0.9, 0.3], [0.5, -0.1]]), rtol=0, atol=0)
    assert found.right.tolist() == [[True, False], [True, False]]


def test_of_equals_the_wrong_ones_are_taken_first_then_the_early_ones():
    found = nearest(torch.ones(1, 1), torch.ones(5, 1), torch.tensor([3]), torch.tensor([3, 4, 3, 4, 4]), 4)
    assert found.index.tolist() == [[1, 3, 4, 0]]


def test_minus_zero_is_zero():
    found = nearest(torch.ones(1, 1), torch.tensor([[0.0], [-0.0]]), torch.tensor([0]), torch.tensor([0, 1]), 2)
    assert found.index.tolist() == [[1, 0]]


def test_nan_counts_against_the_model():
    found = nearest(torch.ones(1, 1), torch.tensor([[NAN], [NAN], [1.0]]), torch.tensor([0]), torch.tensor([0, 1, 2]), 3)
    assert found.index.tolist() == [[1, 2, 0]]


def naive_nearest(queries, keys, query_ids, key_ids, c):
    rows = []
    for query, own in zip(queries, query_ids.tolist(), strict=True):
        order = sorted(range(len(keys)), key=lambda j: (-(query @ keys[j]).item(), key_ids[j].item() == own, j))
        rows.append(order[:c])
    return rows


sizes = dict(q=st.integers(1, 12), s=st.integers(1, 40), kinds=st.integers(1, 9), seed=st.integers(0, 999), block=st.integers(1, 7))


@given(**sizes, c=st.integers(1, 45))
def test_candidates_equal_the_naive_twin_in_blocks_of_any_size(q, s, kinds, seed, block, c):
    queries, keys, query_ids, key_ids = _coarse(q, s, kinds, seed)
    found = nearest(queries, keys, query_ids, key_ids, c, block)
    assert found.index.tolist() == naive_nearest(queries, keys, query_ids, key_ids, c)
    assert torch.equal(found.similarity, (queries @ keys.T).gather(1, found.index))
    assert torch.equal(found.right, query_ids[:, None] == key_ids[found.index])


def _coarse(q, s, kinds, seed):
    """Whole numbers: exact products and many ties."""
    draw = torch.Generator().manual_seed(seed)
    queries, keys = torch.randn(q, 3, generator=draw).round(), torch.randn(s, 3, generator=draw).round()
    return queries, keys, torch.randint(kinds, (q,), generator=draw), torch.randint(kinds, (s,), generator=draw)


class Largest(TorchDispatchMode):
    """Notes the most numbers that any result of an operation has."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, torch.Tensor):
                self.numbers = max(self.numbers, x.numel())
        return result


@pytest.mark.parametrize("rank", [False, True])
@pytest.mark.parametrize("block", [4, 8])
def test_no_more_than_a_block_is_in_memory(block, rank):
    queries, keys = torch.randn(40, 2), torch.randn(1500, 2)
    sides = queries, keys, torch.arange(40), torch.arange(1500)
    with Largest() as largest:
        ranks(*sides, block) if rank else nearest(*sides, 8, block)
    room = block * (8 * block + 8)  # a block, and the c best so far
    assert block * 8 * block <= largest.numbers <= max(room, 2 * 1500)  # at the least, so that the measure measures
    assert largest.numbers < 40 * 1500 / 10


# New order ----------------------------------------------------------------------------------------------------------------


def test_new_ranks_by_hand():
    right = torch.tensor([[False, True, False], [True, True, False], [False, False, False], [True, False, False]])
    scores = torch.tensor([[1.0, 5.0, 2.0], [1.0, 3.0, 4.0], [1.0, 2.0, 3.0], [2.0, 2.0, 1.0]])
    candidates = Candidates(torch.zeros(4, 3, dtype=torch.long), torch.zeros(4, 3), right)
    # First now; one wrong before the better of two; not among the candidates, stays; a tie counts against the model.
    assert reranked(torch.tensor([9, 9, 9, 9]), candidates, scores).tolist() == [1, 2, 9, 2]


def test_scores_of_nan_put_right_answers_last():
    candidates = Candidates(torch.zeros(1, 3, dtype=torch.long), torch.zeros(1, 3), torch.tensor([[True, False, False]]))
    assert reranked(torch.tensor([1]), candidates, torch.full((1, 3), NAN)).tolist() == [3]
    assert reranked(torch.tensor([1]), candidates, torch.tensor([[1.0, NAN, 0.0]])).tolist() == [2]


@given(**sizes, c=st.integers(1, 45))
def test_ranks_equal_those_of_the_whole_list_written_out(q, s, kinds, seed, block, c):
    """The naive twin: sort candidates by score, the others behind them by similarity; wrong before right among equals."""
    queries, keys, query_ids, key_ids = _coarse(q, s, kinds, seed)
    match = torch.randn(q, s, generator=torch.Generator().manual_seed(seed)).round()
    before, candidates = ranks(queries, keys, query_ids, key_ids, block), nearest(queries, keys, query_ids, key_ids, c, block)
    found = reranked(before, candidates, match.gather(1, candidates.index))
    for i, first in enumerate(naive_nearest(queries, keys, query_ids, key_ids, c)):
        right = (key_ids == query_ids[i]).tolist()
        if not any(right):
            continue
        behind = sorted(set(range(s)) - set(first), key=lambda j: (-(queries[i] @ keys[j]).item(), right[j]))
        order = sorted(first, key=lambda j: (-match[i, j].item(), right[j])) + behind
        place = next(k for k, j in enumerate(order) if right[j])
        assert found[i] == 1 + place  # all before the first right one are wrong


# Matching -----------------------------------------------------------------------------------------------------------------


def test_a_pair_that_both_directions_want_is_read_once():
    of_images, of_texts = torch.tensor([[2, 0], [1, 2]]), torch.tensor([[0], [0], [1]])
    images, texts, both = pairs_of_both(of_images, of_texts)
    assert list(zip(images.tolist(), texts.tolist(), strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
    one, other = both(10 * images + texts)
    assert one.tolist() == [[2, 0], [11, 12]] and other.tolist() == [[0], [1], [12]]


def test_one_image_with_many_texts_is_each_pair_by_itself(make_model, make_batch, tiny):
    model, batch = make_model("text.fusion_depth=2").eval(), make_batch(tiny(), b=5)  # noqa: F811
    text = model.student.text(batch.input_ids, batch.attention_mask)
    image = model.student.image(batch.images[0][:1])
    apart = match_odds(model, text, batch.attention_mask, image.expand(5, -1, -1))
    with one_image(model.fusion):
        together = match_odds(model, text, batch.attention_mask, image.expand(5, -1, -1))
    assert apart.std() > 1e-4
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(match_odds(model, text, batch.attention_mask, image.expand(5, -1, -1)), apart)  # no hook is left


def test_match_odds_are_the_log_odds_of_the_second_label(make_model, make_batch, tiny):
    model, batch = make_model().eval(), make_batch(tiny())  # noqa: F811
    text, image = model.student.text(batch.input_ids, batch.attention_mask), model.student.image(batch.images[0])
    p = model.itm_head(model.fusion(text, batch.attention_mask, image)[:, 0]).softmax(dim=1)[:, 1]
    torch.testing.assert_close(match_odds(model, text, batch.attention_mask, image), p.logit().detach())


def naive_odds(model, tokenizer, pairs):  # noqa: F811
    """Every image with every caption, one pair at a time, nothing kept."""
    from semmim_mini.data.text import tokenize
    from semmim_mini.data.views import CenterView

    captions = [caption for i in range(len(pairs)) for caption in pairs.captions(i)]
    rows = []
    for i in range(len(pairs)):
        image = model.student.image(CenterView(16)(pairs[i]).pixels[None])
        row = []
        for caption in captions:
            ids, words = tokenize(tokenizer, [caption], 8)
            row.append(match_odds(model, model.student.text(ids, words), words, image).item())
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("memory", [2**30, 3_000, 0])
@pytest.mark.parametrize("batch, block", [(3, 4), (128, 64)])
def test_scores_are_the_same_whatever_is_kept(model, tokenizer, memory, batch, block):  # noqa: F811
    pairs = FivePairs()
    reranker = Reranker(model, tokenizer, pairs, 5, memory, batch, block)
    encode_pairs(model.student, tokenizer, pairs, 16, 8, reranker=reranker)
    assert (reranker.images is not None) == (memory > 0) and (reranker.texts is not None) == (memory == 2**30 or block == 64)
    image, text = (x.flatten() for x in torch.meshgrid(torch.arange(5), torch.arange(15), indexing="ij"))
    mixed = torch.randperm(75)[:50]
    found, naive = reranker.match(image[mixed], text[mixed]), naive_odds(model, tokenizer, pairs)
    torch.testing.assert_close(found, naive[image[mixed], text[mixed]], rtol=0.01, atol=0.003)  # 16 bit: three digits
    assert naive.std() > 0.03


def test_nothing_is_encoded_twice_that_is_kept(model, tokenizer):  # noqa: F811
    pairs, seen = FivePairs(), []
    hooks = [part.register_forward_hook(lambda *_: seen.append(1)) for part in (model.student.image.norm, model.student.text)]
    reranker = Reranker(model, tokenizer, pairs, 5)
    encode_pairs(model.student, tokenizer, pairs, 16, 8, reranker=reranker)
    passes = len(seen)
    reranker.match(torch.arange(5), torch.arange(5))
    for hook in hooks:
        hook.remove()
    assert passes == 2 and len(seen) == 2


def test_the_shelf_says_what_it_takes():
    shelf = Shelf(3, 4, 5)
    assert sum(x.numel() * x.element_size() for x in (shelf.tokens, shelf.words)) == Shelf.bytes(3, 4, 5)


def test_a_head_that_was_never_trained_is_refused(make_model):
    with pytest.raises(UserError, match=r"losses\.itm\.weight"):
        Reranker(make_model("losses.itm.weight=0"), None, FivePairs(), 5)
