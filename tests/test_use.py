"""What a person tries first: one's own files, good and bad, in and the right thing, or one clear error, out."""

import logging
import math

import pytest
import torch
from PIL import Image

from semmim_mini.data.text import tokenize, train_wordpiece
from semmim_mini.data.views import CenterView
from semmim_mini.errors import UserError
from semmim_mini.model.semmim import SemMIM
from semmim_mini.tasks.reranking import match_odds
from semmim_mini.use import answer_question, caption_picture, list_pictures, open_picture, search_pictures

COLOURS = ["red", "green", "blue", "white", "black"]


@pytest.fixture
def folder(tmp_path):
    """Five pictures, two of them further inside, and things that are no pictures."""
    home = tmp_path / "pictures"
    (home / "inside" / "deep").mkdir(parents=True)
    (home / ".hidden").mkdir()
    for i, colour in enumerate(COLOURS):
        place = home / ("inside/deep" if i > 2 else ".")
        Image.new("RGB", (20 + i, 30), colour).save(place / f"{colour}.{'PNG' if i % 2 else 'jpg'}")
    Image.new("RGB", (9, 9)).save(home / ".hidden" / "cache.png")
    (home / "notes.txt").write_text("no picture")
    (home / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    return home


@pytest.fixture
def tokenizer():
    return train_wordpiece([f"a {colour} picture" for colour in COLOURS] + ["yes no how many are there?"], 80)


@pytest.fixture
def model(tiny, tokenizer):
    torch.manual_seed(1)
    model = SemMIM(tiny("losses.answer.weight=1"), len(tokenizer))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture
def red(folder):
    return folder / "red.jpg"


def test_pictures_are_found_however_deep_and_whatever_the_case(folder):
    names = [str(path.relative_to(folder)) for path in list_pictures(folder)]
    assert names == ["blue.jpg", "broken.jpg", "green.PNG", "inside/deep/black.jpg", "inside/deep/white.PNG", "red.jpg"]


@torch.no_grad()
def cosines(model, tokenizer, text, paths):
    """One picture at a time."""
    ids, words = tokenize(tokenizer, [text], 8)
    query = model.student.project_text(model.student.text(ids, words)[:, 0])[0]
    view = CenterView(16)
    return {p: float(model.student.project_image(model.student.image(open_picture(p, view)[None])[:, 0])[0] @ query) for p in paths}


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_search_returns_the_nearest_pictures_and_names_what_it_passes_over(model, tokenizer, folder, batch, caplog):
    expected = cosines(model, tokenizer, "a red picture", [p for p in list_pictures(folder) if p.name != "broken.jpg"])
    with caplog.at_level(logging.WARNING):
        found = search_pictures(model, tokenizer, "a red picture", folder, top=3, batch=batch)
    assert [path for _, path in found] == sorted(expected, key=lambda path: -expected[path])[:3]
    assert [score for score, _ in found] == pytest.approx(sorted(expected.values(), reverse=True)[:3], abs=1e-5)
    assert "broken.jpg" in caplog.text and "cannot be read" in caplog.text
    assert len(search_pictures(model, tokenizer, "a red picture", folder, top=99)) == 5


def test_search_puts_the_nearest_in_the_order_of_itm_and_itc(model, tokenizer, folder):
    plain = search_pictures(model, tokenizer, "a red picture", folder)
    found = search_pictures(model, tokenizer, "a red picture", folder, rerank=3, batch=2)
    ids, words = tokenize(tokenizer, ["a red picture"], 8)
    model.eval()
    tau, view, scores = model.itc_temperature().item(), CenterView(16), {}
    for cosine, path in plain[:3]:
        image = model.student.image(open_picture(path, view)[None])
        scores[path] = match_odds(model, model.student.text(ids, words), words, image).item() + cosine / tau
    assert [path for _, path in found[:3]] == sorted(scores, key=lambda path: -scores[path])
    assert dict((path, score) for score, path in found[:3]) == pytest.approx(scores, abs=1e-4)
    assert [path for _, path in found[3:]] == [path for _, path in plain[3:]]


def test_search_says_what_is_wrong(model, tokenizer, folder, tmp_path, make_model):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no")
    for arguments, message in (
        (("a dog", tmp_path / "empty"), "holds no pictures"),
        (("a dog", tmp_path / "bad"), "none of the 1 picture files"),
        (("a dog", tmp_path / "nowhere"), "is no folder"),
        (("  ", folder), "text to search for is empty"),
        (("a dog", folder, 0), "top ≥ 1"),
        (("a dog", folder, 5, -1), "rerank ≥ 0"),
    ):
        with pytest.raises(UserError, match=message):
            search_pictures(model, tokenizer, *arguments)
    with pytest.raises(UserError, match=r"losses\.itm\.weight"):
        search_pictures(make_model("losses.itm.weight=0"), tokenizer, "a dog", folder, rerank=2)


def test_a_caption_is_what_the_task_writes(model, tokenizer, red):
    from semmim_mini.tasks.captioning import caption_images

    model.eval()
    text = caption_picture(model, tokenizer, red)
    assert text and text == caption_images(model, tokenizer, open_picture(red, CenterView(16))[None])[0]


def test_sideways_pictures_are_turned_upright(tmp_path):
    picture = Image.new("RGB", (32, 32), "red")
    picture.paste("blue", (0, 0, 32, 16))  # blue above
    turned = picture.rotate(90, expand=True)
    note = Image.Exif()
    note[0x0112] = 6  # turn by a quarter to the right to show it
    turned.save(tmp_path / "turned.png", exif=note)
    picture.save(tmp_path / "upright.png")
    view = CenterView(16)
    assert torch.equal(open_picture(tmp_path / "turned.png", view), open_picture(tmp_path / "upright.png", view))


def test_answers_are_ranked_by_their_probability(model, tokenizer, red):
    found = answer_question(model, tokenizer, red, "how many are there?", ["yes", "no", "red", "blue"], top=3)
    everything = answer_question(model, tokenizer, red, "how many are there?", ["blue", "no", "red", "yes"], top=9)
    assert len(found) == 3 and len(everything) == 4
    assert [answer for _, answer in found] == [answer for _, answer in everything[:3]]
    probabilities = [p for p, _ in everything]
    assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1
    assert len(set(probabilities)) == 4


def test_without_a_list_the_decoder_answers_in_its_own_words(model, tokenizer, red):
    ((probability, answer),) = answer_question(model, tokenizer, red, "how many are there?")
    assert answer and 0 < probability <= 1 and math.isfinite(probability)


@pytest.mark.parametrize("training", [True, False])
def test_a_model_is_left_as_it_was(model, tokenizer, folder, red, training):
    model.train(training)
    search_pictures(model, tokenizer, "a red picture", folder, rerank=1)
    answer_question(model, tokenizer, red, "how many are there?")
    caption_picture(model, tokenizer, red)
    with pytest.raises(UserError):
        search_pictures(model, tokenizer, "a red picture", folder / "inside" / "nothing")
    assert model.training is training


@pytest.mark.parametrize("ask", [caption_picture, lambda m, t, path: answer_question(m, t, path, "how many?")])
def test_files_that_are_no_pictures_are_one_clear_error(model, tokenizer, folder, ask):
    for name, message in (("nothing.jpg", "is no file"), ("broken.jpg", "cannot be read"), ("notes.txt", "cannot be read")):
        with pytest.raises(UserError, match=message):
            ask(model, tokenizer, folder / name)


def test_a_picture_of_too_many_pixels_is_refused(model, tokenizer, folder, red, monkeypatch):
    monkeypatch.setattr("semmim_mini.data.picture_files.Image.open", _claims_to_be_huge)
    with pytest.raises(UserError, match="pixels"):
        caption_picture(model, tokenizer, red)


def _claims_to_be_huge(path, **how):
    raise Image.DecompressionBombError("far too large")


def test_an_empty_question_and_missing_decoders_are_named(model, tokenizer, make_model, red):
    with pytest.raises(UserError, match="question is empty"):
        answer_question(model, tokenizer, red, " ")
    with pytest.raises(UserError, match="answer decoder"):
        answer_question(make_model(), tokenizer, red, "how many?", ["one"])
    with pytest.raises(UserError, match="decoder"):
        caption_picture(make_model("losses.caption.weight=0"), tokenizer, red)
