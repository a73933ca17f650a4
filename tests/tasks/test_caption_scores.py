"""Caption scores: tokens, values worked out by hand, pycocoevalcap's own numbers, and COCO's files."""

import json
import math
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semmim_mini.errors import UserError
from semmim_mini.tasks import caption_scores
from semmim_mini.tasks.caption_files import read_annotations, read_results, write_results
from semmim_mini.tasks.caption_scores import score_captions, tokenize

# What Stanford's tokenizer made of these, with pycocoevalcap's list of punctuation left out.
STANFORD = {
    "A man's dog, who isn't big; it's 3.5 feet (tall)!": "a man 's dog who is n't big it 's 3.5 feet -lrb- tall -rrb-",
    'A "red" bus -- near the dog\'s house...': "a red bus near the dog 's house",
    "they've can't won't cannot gonna": "they 've ca n't wo n't can not gon na",
    "U.S. flag & 50% off @ 3:30 p.m.": "u.s. flag & 50 % off @ 3:30 p.m.",
    "a black-and-white cat/dog": "a black-and-white cat/dog",
    "two  dogs . and a cat .": "two dogs and a cat",
    "$5 bills": "$ 5 bills",
    "rock 'n' roll, the boys' ball": "rock 'n' roll the boys ball",
    "St. Louis Mr. Smith.": "st. louis mr. smith",
    "a dog.A cat": "a dog.a cat",
    "No. 5, etc.": "no. 5 etc.",
    "it is 1,000 ft.": "it is 1,000 ft.",
    "what?! yes!!": "what ?! yes !!",
    "hello—world – ok": "hello world ok",
    "“quoted” ‘text’": "quoted text",
    "u.s.a": "u.s.a",
    "[a] #1 e-mail": "-lsb- a -rsb- # 1 e-mail",
    "": "",
}


@pytest.mark.parametrize(("caption", "expected"), STANFORD.items())
def test_tokens_are_stanfords(caption, expected):
    assert tokenize(caption) == expected


@given(st.text(alphabet="abc ABC.,'-?!\"()0123\n", max_size=40))
def test_tokens_have_no_capitals_and_no_single_punctuation(caption):
    tokens = tokenize(caption)
    assert tokens == tokens.lower() == " ".join(tokens.split())
    assert not set(tokens.split()) & set(".,'-?!\"()")


CAPTIONS = {
    1: "a man riding a wave on top of a surfboard",
    2: "a red bus is parked",
    3: "two dogs play in the snow with a ball",
    4: "a the the the",
    5: "zebra",
}
REFERENCES = {
    1: ["A man rides a wave on a surfboard.", "a surfer on top of a big wave", "man riding a wave"],
    2: ["A red double-decker bus parked on the street.", "a bus is parked by the road"],
    3: ["Two dogs play with a ball in the snow.", "dogs in snow", "two brown dogs playing", "the dogs' ball"],
    4: ["the cat is on the mat"],
    5: ["a zebra eats grass", "zebras"],
}
SCORES = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")


def test_equals_pycocoevalcap_on_a_fixed_set():
    bleu, cider, rouge = (pytest.importorskip(f"pycocoevalcap.{name}.{name}") for name in ("bleu", "cider", "rouge"))
    right = {image: [tokenize(text) for text in texts] for image, texts in REFERENCES.items()}
    written = {image: [CAPTIONS[image]] for image in right}
    expected = [
        *bleu.Bleu(4).compute_score(right, written, verbose=0)[0],
        rouge.Rouge().compute_score(right, written)[0],
        cider.Cider().compute_score(right, written)[0],
    ]
    backwards = dict(reversed(CAPTIONS.items()))  # pairs are made by image, not by place
    found = score_captions(backwards, REFERENCES)
    assert [found[name] for name in SCORES] == pytest.approx(expected)
    assert (found["n_images"], found["n_references"], found["tokenizer"]) == (5, 12, "python")
    assert all(type(found[name]) is float for name in SCORES)


def test_by_hand():
    # Image 1 word for word. Image 2: 'a b' of 'a b c d', so that 6 words of 8 are written.
    found = score_captions({1: "x y z w", 2: "a b"}, {1: ["x y z w"], 2: ["a b c d"]})
    brevity = math.exp(1 - 8 / 6)
    assert [found[f"bleu{n}"] for n in (1, 2, 3, 4)] == pytest.approx([brevity] * 4)  # every n-gram is right: only the length costs
    recall, precision = 2 / 4, 2 / 2
    rouge = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert found["rouge_l"] == pytest.approx((1 + rouge) / 2)
    # All n-grams are equally rare, so weights cancel. Image 2: 2 of 4 words, 1 of 3 pairs, no longer ones; 2 bigrams shorter.
    cosines = [2 / math.sqrt(2 * 4), 1 / math.sqrt(1 * 3), 0, 0]
    second = 10 * sum(cosines) / 4 * math.exp(-(2**2) / (2 * 6**2))
    assert found["cider"] == pytest.approx((10 + second) / 2)


def test_the_best_and_the_worst():
    references = {1: ["a red bus on the road"], 2: ["two dogs in the snow"]}
    perfect = score_captions({1: "A red bus on the road.", 2: "Two dogs in the snow!"}, references)
    assert [perfect[name] for name in SCORES] == pytest.approx([1, 1, 1, 1, 1, 10], abs=1e-6)
    nothing = score_captions({1: "", 2: "xyz"}, references)
    assert [nothing[name] for name in SCORES] == pytest.approx([0] * 6, abs=1e-6)


# Java, where it is ------------------------------------------------------------------------------------------------------

java = pytest.mark.skipif(not shutil.which("java"), reason="no Java here")


@java
def test_the_original_tokenizer_agrees_where_it_is():
    assert caption_scores.tokenize_all({0: list(STANFORD)}, "java") == {0: list(STANFORD.values())}


@pytest.mark.parametrize("has_models", [True, False])
def test_meteor_and_spice_get_references_and_captions_in_this_order(monkeypatch, has_models):
    # The programs themselves need a minute to start.
    class Program:
        def compute_score(self, gts, res):
            assert (gts, res) == ({1: ["a red bus", "bus"], 2: ["the cat"]}, {1: ["a bus"], 2: ["a dog"]})
            return 0.25, [0.5, 0.0]

    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: "/bin/java")
    monkeypatch.setattr("pycocoevalcap.meteor.meteor.Meteor", Program)
    monkeypatch.setattr("pycocoevalcap.spice.spice.Spice", Program)
    monkeypatch.setattr(Path, "glob", lambda *_: iter(["models.jar"] if has_models else []))
    found = score_captions({1: "A bus", 2: "a dog"}, {1: ["A red bus.", "bus"], 2: ["the cat"]}, with_java=True)
    assert found["meteor"] == 0.25 and found.get("spice") == (0.25 if has_models else None)
    assert ("get_stanford_models" in found.get("notes", [""])[0]) != has_models


def test_without_java_a_sentence_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: None)
    found = score_captions(CAPTIONS, REFERENCES, with_java=True)
    assert "meteor" not in found and "spice" not in found and found["cider"] > 0
    assert found["notes"] == ["METEOR and SPICE are Java programs and no Java was found; all other scores are complete without it"]
    with pytest.raises(UserError, match=r"tokenizer='java' needs Java, and none was found; .* take tokenizer='python'"):
        score_captions(CAPTIONS, REFERENCES, tokenizer="java")


def test_a_java_score_that_fails_is_a_note_and_no_end(monkeypatch):
    def broken(*_):
        raise OSError("no memory")

    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: "/bin/java")
    monkeypatch.setattr(caption_scores, "_meteor", broken)
    monkeypatch.setattr(caption_scores, "_spice_lacks", lambda: None)
    monkeypatch.setattr(caption_scores, "_spice", lambda *_: 0.25)
    found = score_captions(CAPTIONS, REFERENCES, with_java=True)
    assert found["spice"] == 0.25 and found["notes"][0].startswith("METEOR failed in Java (OSError: no memory)")


# Errors -----------------------------------------------------------------------------------------------------------------


def test_without_pycocoevalcap_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    with pytest.raises(UserError, match=r'caption scores need pycocoevalcap.*pip install "semmim-mini\[eval\]"'):
        score_captions(CAPTIONS, REFERENCES)


@pytest.mark.parametrize(
    ("captions", "references", "message"),
    [
        ({1: "a"}, {1: ["a"], 7: ["b"]}, "1 images have no caption, image 7 first"),
        ({1: "a", 8: "b"}, {1: ["a"]}, "1 images have no reference, image 8 first"),
        ({1: "a"}, {1: []}, "image 1 has an empty list of references"),
        ({}, {}, "there are no references"),
    ],
)
def test_captions_and_references_must_be_of_the_same_images(captions, references, message):
    with pytest.raises(UserError, match=message):
        score_captions(captions, references)


def test_an_unknown_tokenizer():
    with pytest.raises(UserError, match="tokenizer='bert' is unknown; choose one of python, java"):
        score_captions(CAPTIONS, REFERENCES, tokenizer="bert")


# COCO's files -----------------------------------------------------------------------------------------------------------


def test_results_come_back_as_they_were(tmp_path):
    captions = {391895: 'a man, a "plan"', 3: "un café", 7: ""}
    path = tmp_path / "new" / "captions_results.json"
    write_results(path, captions)
    assert read_results(path) == captions
    assert json.loads(path.read_text())[0] == {"image_id": 391895, "caption": 'a man, a "plan"'}
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written stays


def test_annotations_in_the_official_form(tmp_path):
    entries = [{"image_id": image, "id": i, "caption": text} for i, (image, text) in enumerate([(5, "A."), (9, "B."), (5, "C.")])]
    path = tmp_path / "captions_val2014.json"
    path.write_text(json.dumps({"info": {}, "images": [{"id": 5}], "licenses": [], "annotations": entries}))
    assert read_annotations(path) == {5: ["A.", "C."], 9: ["B."]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", "is no results file"),
        ('[{"image_id": "5", "caption": "a"}]', "entry 0 is"),
        ('[{"image_id": 5, "caption": "a"}, {"image_id": 6}]', "entry 1 is"),
        ("[3]", "entry 0 is"),
        ('[{"image_id": 5, "caption": "a"}, {"image_id": 5, "caption": "b"}]', "two captions for image 5"),
        (f'[{{"image_id": {9**900}, "caption": "a"}}, {{"image_id": {9**900}, "caption": "b"}}]', "two captions for image a number of"),
    ],
)
def test_malformed_results_are_named(tmp_path, text, message):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_results(path)
    assert str(path) in str(caught.value)


def test_half_characters_are_left_out(tmp_path):
    (tmp_path / "results.json").write_text('[{"image_id": 5, "caption": "a \\ud83ddog"}]')
    assert read_results(tmp_path / "results.json") == {5: "a dog"}


@pytest.mark.parametrize("text", ["[]", '{"annotations": 3}', '{"annotations": [{"caption": "a"}]}'])
def test_malformed_annotations_are_named(tmp_path, text):
    path = tmp_path / "annotations.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"annotations\.json"):
        read_annotations(path)


def test_missing_and_unwritable_files(tmp_path):
    with pytest.raises(UserError, match=r"none\.json does not exist"):
        read_results(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_results(tmp_path / "file" / "results.json", CAPTIONS)
