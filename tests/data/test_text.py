"""Tokens and hidden words."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from semmim_mini.data.text import (
    IGNORE,
    Vocabulary,
    load_tokenizer,
    mask_tokens,
    save_tokenizer,
    token_mask_of_spans,
    tokenize,
    train_wordpiece,
)
from semmim_mini.errors import UserError

CAPTIONS = ["a red bus on the street", "two dogs and a cat", "A Dog left of the green chair", "three red chairs"]
WORDS = Vocabulary(size=100, mask=4, special=(0, 1, 2, 3, 4))


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(CAPTIONS * 3, vocab_size=120)


def rows(*lengths: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions [CLS] 10 11 12 … [SEP] [PAD] … with that many words."""
    ids = torch.zeros(len(lengths), length, dtype=torch.long)
    for row, words in zip(ids, lengths, strict=True):
        row[0], row[1 : 1 + words], row[1 + words] = 2, torch.arange(10, 10 + words), 3
    return ids, ids != 0


def test_special_tokens_have_berts_places(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [0, 1, 2, 3, 4]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 4)
    ids = tokenizer("A RED bus")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "a", "red", "bus", "[SEP]"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a red bus"
    assert tokenizer.convert_ids_to_tokens(tokenizer("é木")["input_ids"])[-2] == "[UNK]"  # no character of any caption


def test_the_same_captions_give_the_same_vocabulary(tokenizer):
    for _ in range(5):  # the trainer's hash tables differ each time, even within a process
        assert train_wordpiece(iter(CAPTIONS * 3), vocab_size=120).get_vocab() == tokenizer.get_vocab()
    assert len(tokenizer) <= 120 and sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_a_vocabulary_is_cut_at_its_size():
    small = train_wordpiece(CAPTIONS * 3, vocab_size=60)
    assert len(small) == 60 and len(small.tokenize("a red bus on the street")) > 6


def test_vocabularies_that_cannot_be_trained():
    with pytest.raises(UserError, match=r"no captions"):
        train_wordpiece([], 100)
    with pytest.raises(UserError, match=r"data.vocab_size=10 is too small"):
        train_wordpiece(CAPTIONS, 10)


def test_a_saved_tokenizer_loads_without_a_network(tokenizer, tmp_path):
    save_tokenizer(tokenizer, tmp_path / "tok")
    loaded = load_tokenizer(tmp_path / "tok")
    assert loaded(CAPTIONS)["input_ids"] == tokenizer(CAPTIONS)["input_ids"] and loaded.mask_token_id == 4
    assert not [f for f in (tmp_path / "tok").iterdir() if f.name.startswith(".")]  # the draft is gone
    save_tokenizer(loaded, tmp_path / "tok")  # over the old one


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff\xfe", b'{"model": {"type": "WordPiece", "vocab": {"a": -1}}}'])
def test_a_damaged_tokenizer_is_one_clear_error(tokenizer, tmp_path, content):
    save_tokenizer(tokenizer, tmp_path / "tok")
    (tmp_path / "tok" / "tokenizer.json").write_bytes(content)
    with pytest.raises(UserError, match=r"tok' cannot be loaded"):
        load_tokenizer(tmp_path / "tok")


def save_changed(tokenizer, folder, file="tokenizer_config.json", **changes) -> None:
    """A tokenizer with a file, its tokenizer_config.json, that says something else."""
    save_tokenizer(tokenizer, folder)
    path = folder / file
    path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | changes))


def test_a_vocabulary_that_lacks_its_own_piece_for_the_unknown_fails_when_loaded(tokenizer, tmp_path):
    """Not at the first caption with a word that nobody has seen, which may be an hour later."""
    save_tokenizer(tokenizer, tmp_path / "tok")
    stored = json.loads((tmp_path / "tok" / "tokenizer.json").read_text())
    del stored["model"]["vocab"]["[UNK]"]
    (tmp_path / "tok" / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(UserError, match=r"cannot be loaded \(WordPiece error: Missing \[UNK\]"):
        load_tokenizer(tmp_path / "tok")


def test_an_empty_special_token_is_a_missing_one(tokenizer, tmp_path):
    save_changed(tokenizer, tmp_path / "tok", pad_token="")
    with pytest.raises(UserError, match=r"has no pad_token; choose one of the BERT family"):
        load_tokenizer(tmp_path / "tok")


LONG = {"id": 5, "content": "x" * 201, "special": True, "normalized": False, "single_word": False, "lstrip": False, "rstrip": False}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer_config.json", {"mask_token": "x" * 201}),
        ("tokenizer_config.json", {"mask_token": {"content": "x" * 201, "__type": "AddedToken"}}),
        ("tokenizer_config.json", {"extra_special_tokens": ["x", "x" * 201]}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"5": LONG}}),
        ("tokenizer.json", {"added_tokens": [LONG]}),
        ("special_tokens_map.json", {"sep_token": "x" * 201}),
        ("added_tokens.json", {"x" * 201: 5}),
    ],
)
def test_a_token_without_end_is_refused_before_it_is_built(tokenizer, tmp_path, file, changes):
    save_changed(tokenizer, tmp_path / "tok", file, **changes)
    with pytest.raises(UserError, match=rf"adds in {file} a token of 201 characters; take one whose tokens have at most 200"):
        load_tokenizer(tmp_path / "tok")


@pytest.mark.parametrize("changes", [{"mask_token": "x" * 200}, {"special_tokens_map_file": "x" * 999, "chat_template": "x" * 999}])
def test_long_texts_that_are_no_tokens_may_stand_beside_them(tokenizer, tmp_path, changes):
    save_changed(tokenizer, tmp_path / "tok", **changes)
    assert load_tokenizer(tmp_path / "tok")("a")


def test_a_panic_of_the_tokenizers_own_code_is_one_clear_error(monkeypatch):
    """What Rust panics with is no Exception."""

    class PanicException(BaseException): ...

    def panic(*_, **__):
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr("semmim_mini.data.text.AutoTokenizer.from_pretrained", panic)
    with pytest.raises(UserError, match=r"'x' cannot be loaded \(called `Option::unwrap"):
        load_tokenizer("x")


def test_tokenizers_that_do_not_do(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty.*cannot be loaded.*tokenizer.json"):
        load_tokenizer(tmp_path / "empty")
    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    save_tokenizer(plain, tmp_path / "plain")
    with pytest.raises(UserError, match=r"has no .*mask_token"):
        load_tokenizer(tmp_path / "plain")


def test_batches_are_padded_to_their_longest_and_cut_at_the_limit(tokenizer):
    ids, attention = tokenize(tokenizer, ["a bus", "a red bus on the street"], max_length=24)
    assert ids.shape == (2, 8) and attention.dtype == torch.bool and attention.sum(1).tolist() == [4, 8]
    assert (ids[0, 4:] == 0).all()
    ids, attention = tokenize(tokenizer, ["a red bus on the street"], max_length=4)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["[CLS]", "a", "red", "[SEP]"] and attention.all()


def test_spans_mark_the_tokens_that_name_an_object(tokenizer):
    caption = "two dogs and a cat"
    ids, _ = tokenize(tokenizer, [caption], 24)
    named = token_mask_of_spans(tokenizer, caption, [(4, 8), (15, 18)], 24)
    assert named.shape == ids[0].shape and named.dtype == torch.bool
    marked = tokenizer.decode(ids[0][named])
    assert marked == "dogs cat"
    assert token_mask_of_spans(tokenizer, caption, [], 24).sum() == 0
    assert token_mask_of_spans(tokenizer, caption, [(0, 100)], 24).tolist() == [False] + [True] * (len(ids[0]) - 2) + [False]
    assert len(token_mask_of_spans(tokenizer, caption, [(15, 18)], 4)) == 4  # the cat is cut off


def test_a_token_that_only_touches_a_span_is_not_marked(tokenizer):
    assert tokenizer.tokenize("dogs#cat#dogs") == ["dogs", "[UNK]", "cat", "[UNK]", "dogs"]
    named = token_mask_of_spans(tokenizer, "dogs#cat#dogs", [(5, 8)], 24)
    assert named.tolist() == [False, False, False, True, False, False, False]


def test_a_word_in_pieces_is_marked_whole(tokenizer):
    pieces = tokenizer.tokenize("chairstreet")
    assert len(pieces) > 1
    assert token_mask_of_spans(tokenizer, "a chairstreet", [(2, 13)], 24).sum() == len(pieces)


def test_masking_by_hand():
    ids, attention = rows(4, length=8)  # [CLS] 10 11 12 13 [SEP] [PAD] [PAD]
    uniform = torch.full((1, 3, 8), 0.99)
    uniform[0, 0, [2, 4]] = 0.1  # 50 % of four words: these two come first
    uniform[0, 1, [2, 4]] = torch.tensor([0.79, 0.89])  # one becomes [MASK], one another piece …
    uniform[0, 2, 4] = 0.0  # … the first that is no special token
    masked, labels = mask_tokens(ids, attention, WORDS, share=0.5, uniform=uniform)
    assert masked.tolist() == [[2, 10, 4, 12, 5, 3, 0, 0]]
    assert labels.tolist() == [[IGNORE, IGNORE, 11, IGNORE, 13, IGNORE, IGNORE, IGNORE]]


def test_what_is_hidden_becomes_mask_piece_or_itself_eight_one_one():
    ids, attention = rows(*[40] * 500, length=45)
    masked, labels = mask_tokens(ids, attention, WORDS, 0.15, torch.Generator().manual_seed(0))
    hidden = labels != IGNORE
    assert hidden.sum().item() == 500 * 6  # round(0.15 · 40) in each
    became, was = masked[hidden], labels[hidden]
    assert (became == 4).float().mean().item() == pytest.approx(0.8, abs=0.025)
    assert (became == was).float().mean().item() == pytest.approx(0.1 + 0.1 / 95, abs=0.02)  # a piece may be the same one
    pieces = became[(became != 4) & (became != was)]
    assert pieces.min() >= 5 and pieces.max() > 90 and pieces.unique().numel() > 80
    assert torch.equal(masked[~hidden], ids[~hidden]) and torch.equal(was, ids[hidden])
    places = hidden.float().mean(dim=0)[1:41]
    assert places.min() > 0.09 and places.max() < 0.22  # every place is as likely


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_every_caption_with_words_hides_at_least_one_and_nothing_special(lengths, share, seed):
    ids, attention = rows(*lengths, length=16)
    masked, labels = mask_tokens(ids, attention, WORDS, share, torch.Generator().manual_seed(seed))
    hidden = labels != IGNORE
    expected = [min(n, max(1, torch.tensor(n * share).round().int().item())) for n in lengths]
    assert hidden.sum(dim=1).tolist() == expected
    assert not (hidden & ((ids < 5) | ~attention)).any()
    assert not ((masked != ids) & (masked < 4)).any()  # neither [PAD], [UNK], [CLS] nor [SEP] is ever put in


def test_a_mask_does_not_depend_on_the_batch_around_it():
    uniform = torch.rand(3, 3, 24, generator=torch.Generator().manual_seed(1))
    ids, attention = rows(7, 3, 20, length=24)
    together = mask_tokens(ids, attention, WORDS, 0.3, uniform=uniform)
    alone = mask_tokens(ids[:1, :9], attention[:1, :9], WORDS, 0.3, uniform=uniform[:1])
    assert torch.equal(together[0][:1, :9], alone[0]) and torch.equal(together[1][:1, :9], alone[1])


def test_vocabulary_of_a_tokenizer(tokenizer):
    assert Vocabulary.of(tokenizer) == Vocabulary(len(tokenizer), 4, (0, 1, 2, 3, 4))
