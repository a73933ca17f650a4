"""Decoding: equal to transformers' own, to a search through everything, and to a distribution worked out by hand."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertLMHeadModel

from semmim_mini.data.text import SPECIAL, train_wordpiece
from semmim_mini.errors import UserError
from semmim_mini.model.text_encoder import CaptionDecoder
from semmim_mini.tasks.decoding import Decoding, Special, generate, nucleus, obey, repeated

WIDTH = 12
LETTERS = "abcdefghij"
END = SPECIAL.index("[SEP]")
NEVER = [SPECIAL.index(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[MASK]")]
SPECIALS = Special(SPECIAL.index("[CLS]"), END, 0, NEVER)


def words_of(letters: str):
    """A tokenizer whose words are single letters."""
    return train_wordpiece([" ".join(letters)], 2 * len(letters) + len(SPECIAL))


def make_decoder(tiny, vocab: int, seed: int = 0, loud: float = 0.6, image_width: int = WIDTH) -> CaptionDecoder:
    """Weights large enough for captions that depend on the image; [SEP] likely enough for captions of all lengths."""
    torch.manual_seed(seed)
    decoder = CaptionDecoder(tiny("text.decoder_depth=2").text, vocab, image_width, 8)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=loud)
        decoder.head.predictions.bias.normal_(std=0.5)
    return decoder.eval()


@pytest.fixture(scope="module")
def tokenizer():
    return words_of(LETTERS)


def log_probability(decoder, ids, image, seen=None) -> torch.Tensor:
    """Of whole captions, from one pass over all their words."""
    real = ids != 0
    log_probs = decoder(ids, real, image, seen).log_softmax(dim=-1)
    chosen = log_probs[:, :-1].gather(2, ids[:, 1:, None]).squeeze(2)
    return (chosen * real[:, 1:]).sum(dim=1)


# The same as transformers -----------------------------------------------------------------------------------------------


def twin_of(decoder: CaptionDecoder) -> BertLMHeadModel:
    """transformers' own decoder with the weights of ours; its width is the image's, so that no map stands between."""
    twin = BertLMHeadModel(decoder.bert.config).eval()
    twin.bert.load_state_dict(decoder.bert.state_dict())
    twin.cls.load_state_dict(decoder.head.state_dict())
    return twin


def transformers_ids(twin, image, decoding: Decoding, seen=None) -> torch.Tensor:
    ids = twin.generate(
        torch.full((len(image), 1), SPECIALS.start),
        encoder_hidden_states=image,
        encoder_attention_mask=None if seen is None else seen.long(),
        do_sample=False,
        use_cache=False,  # all words anew at each step; theirs does not fit a BERT with cross-attention anyway
        num_beams=decoding.beams if decoding.method == "beam" else 1,
        max_length=decoding.max_length,
        min_length=max(decoding.min_length - 1, 0),  # theirs counts without [SEP]
        no_repeat_ngram_size=decoding.no_repeat,
        length_penalty=decoding.length_penalty,
        suppress_tokens=NEVER,
        eos_token_id=END,
        pad_token_id=0,
    )
    over = (ids == END).cumsum(dim=1) > (ids == END).int()
    return ids.masked_fill(over, 0)  # theirs pads with [SEP] where the id of [PAD] is 0


RULES = (
    {},
    {"min_length": 6},
    {"no_repeat": 2, "max_length": 20},
    {"no_repeat": 1, "max_length": 20},
    {"no_repeat": 0, "min_length": 0},
    {"length_penalty": 0.0},
    {"length_penalty": 1.3, "min_length": 5, "no_repeat": 2},
    {"length_penalty": -1.0, "max_length": 7},
)


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("method", [{"method": "greedy"}, {"beams": 2}, {"beams": 5}], ids=str)
def test_equals_transformers(tiny, tokenizer, method, rules):
    decoding = Decoding(**({"max_length": 12} | method | rules))
    lengths = Counter()
    for seed in range(3):
        decoder = make_decoder(tiny, len(tokenizer), seed)
        image = torch.randn(4, 5, WIDTH)
        expected = transformers_ids(twin_of(decoder), image, decoding)
        found = generate(decoder, image, tokenizer, decoding)
        assert found.ids.tolist() == expected.tolist()
        lengths.update((found.ids != 0).sum(dim=1).tolist())
    assert len(lengths) > 1  # captions that all have one length would prove little


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_equals_transformers_where_not_all_states_are_there(tiny, tokenizer, method):
    decoder, image = make_decoder(tiny, len(tokenizer)), torch.randn(4, 5, WIDTH)
    seen = torch.arange(5) < torch.tensor([[5], [1], [3], [2]])
    decoding = Decoding(method, max_length=12)
    found = generate(decoder, image, tokenizer, decoding, seen)
    assert found.ids.tolist() == transformers_ids(twin_of(decoder), image, decoding, seen).tolist()
    assert found.ids.tolist() != generate(decoder, image, tokenizer, decoding).ids.tolist()
    garbage = torch.where(seen[..., None], image, 9.0)
    assert torch.equal(generate(decoder, garbage, tokenizer, decoding, seen).ids, found.ids)


# The same as a search through everything --------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_enough_beams_find_the_best_of_all_captions(tiny, seed, penalty):
    # Four pieces (a, b, ##a, ##b), at most three in a caption: 4 + 16 + 64 captions, and 64 beams let none of them fall.
    tokenizer = words_of("ab")
    words = range(len(SPECIAL), len(tokenizer))
    assert len(words) == 4
    decoder, image = make_decoder(tiny, len(tokenizer), seed), torch.randn(2, 5, WIDTH)
    captions = [[*c, END] for n in (1, 2) for c in itertools.product(words, repeat=n)]
    captions += [[*c, last] for c in itertools.product(words, repeat=2) for last in words]  # cut off at max_length
    every = torch.zeros(len(captions), 4, dtype=torch.long)
    for row, caption in zip(every, captions, strict=True):
        row[: 1 + len(caption)] = torch.tensor([SPECIALS.start, *caption])
    found = generate(decoder, image, tokenizer, Decoding(beams=64, max_length=4, no_repeat=0, length_penalty=penalty))
    for i in range(2):
        total = log_probability(decoder, every, image[i : i + 1].expand(len(every), -1, -1))
        rank = total / torch.tensor([len(caption) for caption in captions]) ** penalty
        best = int(rank.argmax())
        assert found.ids[i, : 1 + len(captions[best])].tolist() == [SPECIALS.start, *captions[best]]
        torch.testing.assert_close(found.scores[i], total[best])


# By hand ----------------------------------------------------------------------------------------------------------------


def test_an_ngram_is_not_completed_twice():
    # "a b c a b": of two, "b" may only be followed by something else than "c", of three, "a b" too; of one, all words are out.
    tokens = torch.tensor([[0, 1, 2, 0, 1]])
    assert repeated(tokens, 2, 4)[0].tolist() == repeated(tokens, 3, 4)[0].tolist() == [False, False, True, False]
    assert repeated(tokens, 1, 4)[0].tolist() == [True, True, True, False]
    assert not repeated(tokens, 0, 4).any() and not repeated(tokens, 6, 4).any()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(1, 4))
def test_repeated_words_are_those_a_naive_search_finds(tokens, n):
    grams = {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}
    last = tuple(tokens[len(tokens) - n + 1 :]) if len(tokens) >= n else None
    expected = [last is not None and (*last, word) in grams for word in range(4)]
    assert repeated(torch.tensor([tokens]), n, 4)[0].tolist() == expected


def test_where_the_rules_leave_nothing_the_caption_ends():
    vocab = len(SPECIAL) + 2
    log_probs, tokens = torch.zeros(1, vocab).log_softmax(dim=-1), torch.tensor([[SPECIALS.start, 5, 6]])
    allowed = obey(log_probs, tokens, SPECIALS, Decoding(no_repeat=1, min_length=10))[0] > -math.inf
    assert allowed.nonzero().squeeze(1).tolist() == [END]
    allowed = obey(log_probs, tokens[:, :2], SPECIALS, Decoding(no_repeat=1, min_length=10))[0] > -math.inf
    assert allowed.nonzero().squeeze(1).tolist() == [6]


def drawn(shares: list[float], top_p: float, temperature: float = 1.0, count: int = 20_000) -> list[float]:
    """How often each word is drawn."""
    log_probs = torch.tensor(shares).log().expand(count, -1)
    choose = nucleus(Decoding("nucleus", top_p=top_p, temperature=temperature), count, torch.Generator().manual_seed(0))
    return (torch.bincount(choose(log_probs, 1), minlength=len(shares)) / count).tolist()


@pytest.mark.parametrize(
    ("top_p", "temperature", "expected"),
    [
        (1.0, 1.0, [0.1, 0.5, 0.1, 0.3]),
        (0.6, 1.0, [0.0, 5 / 8, 0.0, 3 / 8]),  # 0.5 does not reach 0.6, 0.5 + 0.3 does
        (0.5, 1.0, [0.0, 1.0, 0.0, 0.0]),
        (0.01, 1.0, [0.0, 1.0, 0.0, 0.0]),  # the likeliest word is always there
        (0.6, 0.5, [0.0, 1.0, 0.0, 0.0]),  # squares 1 : 25 : 1 : 9, and 25/36 reaches 0.6
        (0.9, 0.5, [0.0, 25 / 34, 0.0, 9 / 34]),
    ],
)
def test_nucleus_by_hand(top_p, temperature, expected):
    found = drawn([0.1, 0.5, 0.1, 0.3], top_p, temperature)
    assert found == pytest.approx(expected, abs=0.015)
    assert all(f == 0 for f, e in zip(found, expected, strict=True) if e == 0)


def test_a_word_that_may_not_come_is_never_drawn():
    assert drawn([0.5, 0.0, 0.5], 1.0)[1] == 0


# What every method promises ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus"])
@pytest.mark.parametrize("seed", range(3))
def test_rules_and_scores(tiny, tokenizer, method, seed):
    decoder, image = make_decoder(tiny, len(tokenizer), seed, image_width=7), torch.randn(8, 5, 7)
    with torch.no_grad():
        decoder.head.predictions.bias[NEVER] += 3.0  # a decoder that would love to write [UNK]
    decoding = Decoding(method, max_length=9, min_length=5, no_repeat=2)
    ids, scores, texts = generate(decoder, image, tokenizer, decoding, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(scores, log_probability(decoder, ids, image).detach(), atol=1e-4, rtol=1e-4)
    assert ids.shape[1] <= 9
    for row, text in zip(ids.tolist(), texts, strict=True):
        written = row[1 : row.index(0)] if 0 in row else row[1:]
        assert row[0] == SPECIALS.start and not set(written) & set(NEVER)
        assert END not in written[:-1] and not any(row[1 + len(written) :])  # [SEP] is last, then only padding
        assert len(written) + 1 >= 5 and (written[-1] == END or len(written) + 1 == 9)
        pairs = list(itertools.pairwise(written))
        assert len(pairs) == len(set(pairs))
        assert text == tokenizer.decode([word for word in written if word != END])


@pytest.mark.parametrize("method", ["greedy", "beam", "nucleus"])
def test_a_caption_does_not_depend_on_its_neighbours(tiny, tokenizer, method):
    decoder, image = make_decoder(tiny, len(tokenizer)), torch.randn(6, 5, WIDTH)
    decoding = Decoding(method, max_length=10)
    draw = lambda: torch.Generator().manual_seed(5)  # noqa: E731
    together = generate(decoder, image, tokenizer, decoding, generator=draw())
    fewer = generate(decoder, image[:3], tokenizer, decoding, generator=draw())
    assert fewer.texts == together.texts[:3] and len(set(together.texts)) > 1
    torch.testing.assert_close(fewer.scores, together.scores[:3])


def test_nucleus_is_as_random_as_its_seed_says(tiny, tokenizer):
    decoder, image = make_decoder(tiny, len(tokenizer)), torch.randn(6, 5, WIDTH)
    one, same, other = (
        generate(decoder, image, tokenizer, Decoding("nucleus"), generator=torch.Generator().manual_seed(seed)).texts for seed in (1, 1, 2)
    )
    assert one == same != other


def test_nucleus_of_almost_nothing_is_greedy(tiny, tokenizer):
    decoder, image = make_decoder(tiny, len(tokenizer)), torch.randn(6, 5, WIDTH)
    narrow = generate(decoder, image, tokenizer, Decoding("nucleus", top_p=1e-6))
    assert torch.equal(narrow.ids, generate(decoder, image, tokenizer, Decoding("greedy")).ids)


def test_one_beam_is_greedy(tiny, tokenizer):
    decoder, image = make_decoder(tiny, len(tokenizer)), torch.randn(6, 5, WIDTH)
    one, greedy = (generate(decoder, image, tokenizer, decoding) for decoding in (Decoding(beams=1), Decoding("greedy")))
    assert one.texts == greedy.texts
    torch.testing.assert_close(one.scores, greedy.scores)


@pytest.mark.parametrize("training", [True, False])
def test_a_decoder_writes_without_dropout_and_stays_as_it_was(tiny, tokenizer, training):
    config = tiny("text.dropout=0.5").text
    decoder, image = CaptionDecoder(config, len(tokenizer), WIDTH, 8).train(training), torch.randn(3, 5, WIDTH)
    one, other = (generate(decoder, image, tokenizer, Decoding()) for _ in range(2))
    assert torch.equal(one.scores, other.scores) and all(module.training is training for module in decoder.modules())


# Errors -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "beams"}, "decoding.method='beams' is impossible: choose one of greedy, beam, nucleus"),
        ({"beams": 0}, "decoding.beams=0"),
        ({"beams": 2.5}, "decoding.beams=2.5 is impossible: needs a value of type int"),
        ({"beams": True}, "decoding.beams=True"),
        ({"top_p": 0.0}, "decoding.top_p=0.0"),
        ({"top_p": 1.1}, "decoding.top_p=1.1"),
        ({"top_p": math.nan}, "decoding.top_p=nan"),
        ({"temperature": 0}, "decoding.temperature=0 .*greedy"),
        ({"max_length": 2}, "decoding.max_length=2"),
        ({"min_length": 30}, "decoding.min_length=30 .*max_length=24"),
        ({"no_repeat": -1}, "decoding.no_repeat=-1"),
        ({"length_penalty": math.inf}, "decoding.length_penalty=inf"),
    ],
)
def test_impossible_values_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        Decoding(**values)


def test_captions_longer_than_the_decoders_positions_are_refused(tiny, tokenizer):
    decoder = make_decoder(tiny, len(tokenizer))
    with pytest.raises(UserError, match=r"decoding\.max_length=65 is too long: this decoder has 64 positions"):
        generate(decoder, torch.randn(1, 5, WIDTH), tokenizer, Decoding(max_length=65))
