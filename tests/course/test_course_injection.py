"""Notebook 06: the right answer passes, typical wrong ones are told their mistake, and pictures have the numbers that they claim."""

import math

import pytest
import torch
import torch.nn.functional as F
from checker_tests import *  # noqa: F403 (the tests that all checkers have to pass)

from semmim_mini.course import injection
from semmim_mini.course.injection import check_allowed, check_guesser, check_reach, check_text_attention, squared
from semmim_mini.course.injection_pictures import isolation_matrices, leak_tables, reach_product, word_share_maps
from semmim_mini.course.pictures import png
from semmim_mini.course.quoting_pictures import cost_bars, gate_curves, quoting_bars, shortcut_bars
from semmim_mini.figures.style import WIDTH

# The answers ----------------------------------------------------------------------------------------------------------


def attend(query, key, value, text_key, text_value, words, image_open=True, forbidden=-torch.inf, flip=False):
    scores = torch.cat([query @ key.mT, query @ text_key.mT], dim=-1) / math.sqrt(query.shape[-1])
    allowed = torch.cat([torch.full((len(words), key.shape[2]), image_open), words], dim=1)
    allowed = allowed.flip(1) if flip else allowed
    scores = torch.where(allowed[:, None, None], scores, forbidden)
    return F.softmax(scores, dim=-1) @ torch.cat([value, text_value], dim=2)


def one_at_a_time(query, key, value, text_key, text_value, words):
    """Each picture by itself with its real words only."""
    rows = []
    for i, real in enumerate(words):
        keys, values = (torch.cat([a[i], b[i][:, real]], dim=1) for a, b in ((key, text_key), (value, text_value)))
        rows.append(F.scaled_dot_product_attention(query[i], keys, values))
    return torch.stack(rows)


def allow(words, queries, hide_from_cls):
    allowed = torch.ones(len(words), queries, queries + words.shape[1], dtype=torch.bool)
    allowed[:, :, queries:] &= words[:, None]
    if hide_from_cls:
        allowed[:, 0, queries:] = False
    return allowed


def allow_but(change):
    """`allow` for an encoder that hides nothing, then `change(allowed, queries)` where [CLS] should be shielded."""

    def student(words, queries, hide_from_cls):
        allowed = allow(words, queries, False)
        if hide_from_cls:
            change(allowed, queries)
        return allowed

    return student


def reach_by_sets(allowed, layers):
    queries, keys = allowed.shape
    known = [set() for _ in range(queries)] + [{word} for word in range(keys - queries)]
    for _ in range(layers):
        known = [set().union(*(known[k] for k in range(keys) if allowed[q, k])) for q in range(queries)] + known[queries:]
    return torch.tensor([[word in row for word in range(keys - queries)] for row in known[:queries]])


def reach_by_power(allowed, layers):
    image, words = allowed[:, : len(allowed)].float(), allowed[:, len(allowed) :].float()
    return torch.zeros_like(words).bool() if layers == 0 else torch.linalg.matrix_power(image, layers - 1) @ words > 0


def guess(targets):
    mean = targets.mean(dim=0).clamp_min(1e-12)
    return -(mean * mean.log()).sum()


NUMBER = 6
RIGHT = [
    (check_text_attention, attend),
    (check_text_attention, one_at_a_time),
    (check_allowed, allow),
    (check_reach, reach_by_sets),
    (check_reach, reach_by_power),
    (check_guesser, guess),
]
WRONG = [
    (check_text_attention, lambda q, k, v, tk, tv, w: attend(q, k, v, tk, tv, w | True), "padding is let in"),
    (check_text_attention, lambda q, k, v, tk, tv, w: attend(q, k, v, tk, tv, w, forbidden=0.0), "a score of 0 is no ban"),
    (check_text_attention, lambda q, k, v, tk, tv, w: F.scaled_dot_product_attention(q, k, v), "the words are not read"),
    (
        check_text_attention,
        lambda q, k, v, tk, tv, w: F.scaled_dot_product_attention(q, k, v)
        + F.scaled_dot_product_attention(q, tk, tv, attn_mask=w[:, None, None]),
        "two units of attention",
    ),
    (check_text_attention, lambda q, k, v, tk, tv, w: attend(q, k, v, tk, tv, w, flip=True), "[0-9]+ numbers differ"),
    (check_allowed, lambda w, q, hide: allow(w | True, q, hide), "padding is let in"),
    (check_allowed, allow_but(lambda a, q: a[:, :, q:].fill_(False)), "hidden from all patches"),
    (check_allowed, allow_but(lambda a, q: a[:, :, q].fill_(False)), "the wrong axis"),
    (check_allowed, allow_but(lambda a, q: a[:, 0].fill_(False)), "The image block stays True"),
    (check_allowed, allow_but(lambda a, q: a[:, -1, q:].fill_(False)), r"\[CLS\] comes first"),
    (check_allowed, lambda w, q, hide: torch.cat([allow(w, q, hide), w.new_ones(len(w), w.shape[1], q + w.shape[1])], 1), "no questions"),
    (check_allowed, lambda w, q, hide: allow(w, q, hide).float(), "dtype bool"),
    (check_reach, lambda a, n: reach_by_sets(a, n + 1), "one layer too many"),
    (check_reach, lambda a, n: reach_by_power(a, max(n - 1, 0)), "one layer too few"),
    (check_reach, lambda a, n: a[:, len(a) :], "`layers` is not used"),
    (check_reach, lambda a, n: a[:, len(a) :] if n else a[:, len(a) :] & False, "only what a query reads itself"),
    (check_reach, lambda a, n: reach_by_power(torch.cat([a[:, : len(a)].T, a[:, len(a) :]], 1), n), "the wrong way"),
    (check_reach, lambda a, n: reach_by_sets(a, n).float(), "dtype bool"),
    (check_guesser, lambda t: torch.stack([guess(row[None]) for row in t]).mean(), "the mean of the entropies"),
    (check_guesser, lambda t: -(t.mean(0) * t.mean(0).log()).sum(), "0 · ln 0"),
    (check_guesser, lambda t: torch.tensor(float(t.shape[1])).log(), "ln k"),
    (check_guesser, lambda t: guess(t) / torch.tensor(2.0).log(), "bits"),
    (check_guesser, lambda t: guess(t).item(), "expected a tensor, got float"),
]  # fmt: skip
LISTS = (
    (check_text_attention, injection.TEXT_ATTENTION_MISTAKES),
    (check_allowed, injection.ALLOWED_MISTAKES),
    (check_reach, injection.REACH_MISTAKES),
    (check_guesser, injection.GUESSER_MISTAKES),
)


# The pictures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def masks():
    """[CLS] and two patches; one word and padding: open to all, and hidden from [CLS]."""
    return [allow(torch.tensor([[True, False]]), 3, hide)[0] for hide in (False, True)]


def drawn_well(drawn) -> bool:
    return drawn.figure.get_figwidth() == WIDTH and len(png(drawn.figure)) > 1000


def title_and_note(drawn) -> str:
    return " ".join(text.get_text() for text in drawn.figure.texts)


def test_a_mask_made_square_by_hand():
    allowed = torch.tensor([[True, False, True]])  # one query, two words
    assert squared(allowed).tolist() == [[True, False, True], [False, True, False], [False, False, True]]


def test_matrices_count_the_words_open_to_cls(masks):
    drawn = isolation_matrices(*masks, ["bus", "[PAD]"])
    assert drawn.number == {"none": 1, "mask": 0, "fork, for [CLS]": 0, "fork, for patches": 1} and drawn_well(drawn)


def test_the_product_counts_the_ways_of_a_word(masks):
    opened, shielded = masks
    drawn = reach_product(shielded, ["bus", "[PAD]"], word=0)
    assert drawn.number == {"one": 0, "two": 2} and drawn_well(drawn)  # over either patch
    assert reach_product(shielded, ["bus", "[PAD]"], word=1).number == {"one": 0, "two": 0}
    assert reach_product(opened, ["bus", "[PAD]"], word=0).number == {"one": 1, "two": 4}  # directly now or before, or over a patch


def test_leak_tables_name_the_largest_change():
    drawn = leak_tables(
        {"none": torch.tensor([[0.5, 2.0], [0.0, 1.0]]), "mask": torch.tensor([[0.0, 1e-6], [0, 0]]), "fork": torch.zeros(2, 2)}
    )
    assert drawn.number == pytest.approx({"none": 2.0, "mask": 1e-6, "fork": 0.0}) and drawn_well(drawn)
    assert [text.get_text() for text in drawn.figure.axes[1].texts] == ["0", "<0.01", "0", "0"]  # what is not zero never reads as zero
    assert "2.00 under none, <0.01 under mask, 0 under fork" in title_and_note(drawn)


def test_shares_of_attention_by_hand():
    objects = torch.tensor([[True, False, False, False]]).repeat(5, 1)
    shares = {"layer 1": torch.full((5, 4), 0.5), "layer 2": torch.tensor([[0.4, 0.1, 0.1, 0.1]]).repeat(5, 1)}
    drawn = word_share_maps(torch.zeros(5, 3, 16, 16), ["a caption"] * 5, shares, objects, even=0.3, patch=8)
    expected = {"layer 1": 0.5, "layer 2": 0.175, "even": 0.3, "on objects": 0.4, "on background": 0.1}
    assert drawn.number == pytest.approx(expected) and drawn_well(drawn)


def test_quoting_bars_keep_every_number():
    shares = {"crop": 0.5, "caption": 1.0, "picture": 0.1, "chance": 0.05}
    after = {name: shares for name in ("none", "mask", "fork")}
    drawn = quoting_bars({name: shares | {"picture": 0.3} for name in after}, after)
    assert len(drawn.number) == 12 and drawn.number["mask_picture"] == 0.1 and drawn_well(drawn)


@pytest.mark.parametrize(("text_alone", "says"), [(6.5, "text alone 0.50 worse"), (5.5, "text alone 0.50 better")])
def test_shortcut_bars_compare_with_the_guesser(text_alone, says):
    found = {"loss_masked": 5.0, "loss_shuffled_caption": 5.25, "loss_all_masked": text_alone, "loss_marginal": 6.0}
    drawn = shortcut_bars(found | {"loss_all_masked_shuffled_caption": 8.0, "code_survives_caption_swap": 0.8})
    expected = {"as trained": 1.0, "a wrong caption": 0.75, "text alone": 6 - text_alone, "a wrong text alone": -2.0, "survives": 0.8}
    assert drawn.number == pytest.approx(expected) and drawn_well(drawn)
    assert says in title_and_note(drawn)


def test_gate_curves_count_steps_to_half_of_chance():
    drawn = gate_curves([2.0, 0.9, 0.1], [2.0, 1.9, 1.8], [0.0, 0.1, -0.2], chance=2.0)
    assert drawn.number == pytest.approx({"steps_append": 1, "steps_gated": 3, "open": math.tanh(0.2)}) and drawn_well(drawn)


def test_cost_bars_relate_both_readings_to_one():
    drawn = cost_bars({0: (0, 10, 12), 1: (5, 5, 6)})
    assert drawn.number == pytest.approx({"m = 0": 2.2, "m = 1": 1.6}) and drawn_well(drawn)
